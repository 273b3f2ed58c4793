"""Streams of random numbers: one for each purpose, so that no two uses share a number."""

ENSEMBLE_INITIAL = 0
ENSEMBLE = 1
PARTICLES_INITIAL = 2
RELAXATION = 3
SPREADING = 4
DICTIONARY = 5  # centres and features
PRINCIPAL_DIRECTIONS = 6
RESTART = 8
RESTART_AGAIN = 9
REPLACED = 16  # and upwards, below 64: two for each time that a trajectory is replaced, initial state and noise
MOST_REPLACED = 24
FEYNMAN_KAC = 64  # and upwards: two for each entry, initial states and noise
REFERENCES = 2**16  # and upwards: as many for each entry as `reference` counts
_EACH = 64


def reference(index: int, use: int) -> int:
    """Stream of an entry's references: use 0 of pilot paths, 1 of their starts, 2 + l of particles or of level l."""
    return REFERENCES + _EACH * index + use


BASELINES = 2**20 - 128  # and upwards: two for each rival, noise and acceptance; there are 2**20 streams
REFERENCE = 2**20 - 64  # independent draws of the invariant law

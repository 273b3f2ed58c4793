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
BASELINES = 2**19  # and upwards: two for each rival, noise and acceptance
REFERENCE = 2**19 + 64  # independent draws of the invariant law

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
BASELINES = 32  # and upwards: two for each rival, noise and acceptance
REFERENCE = 60  # independent draws of the invariant law
FEYNMAN_KAC = 64  # and upwards: two for each entry, initial states and noise

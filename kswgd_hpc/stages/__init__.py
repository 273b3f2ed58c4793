"""The stages of a run, one a file: each takes what came before and returns its part of the results."""

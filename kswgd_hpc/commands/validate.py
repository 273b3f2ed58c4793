"""python -m kswgd_hpc validate config.yaml: can these results be believed? Ends with 0 only if every row agrees.

The ensemble and the spectrum of the configuration, the predictions of its rows, an independent reference for each, and
one verdict a row and time. Transport and analyses are left out.
"""

from __future__ import annotations

import argparse
import sys

from kswgd_hpc.launch import launch

DISAGREE = 1

_USAGE = "mpiexec -n RANKS python -m kswgd_hpc validate config.yaml [--resume] [PETSc options]"


def main(argv: list[str] | None = None) -> int:
    """Validate the predictions of a configuration file.

    Returns
    -------
    exit status: 0 where every row agrees with its reference at every time, 1 where one does not, 2 for a configuration
    that cannot be run
    """
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="kswgd-hpc validate", allow_abbrev=False, usage=_USAGE, description=__doc__)
    parser.add_argument("config", help="configuration file (YAML)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint, on any number of ranks")
    ours, petsc = parser.parse_known_args(arguments)

    def work(comm, config, text, plan) -> int:
        from kswgd_hpc import pipeline
        from kswgd_hpc.parallel import from_root
        from kswgd_hpc.stages.validation import disagreeing
        from kswgd_hpc.storage import read_results

        if not plan.cases:
            if comm.rank == 0:
                message = "validation.feynman_kac has no entries: there is nothing to validate"
                print(f"kswgd-hpc: error: {ours.config}: {message}", file=sys.stderr, flush=True)
            return 2
        path = pipeline.run(comm, predictions_alone(config, plan.by_generator), text, plan, ours.resume)
        wrong = from_root(comm, lambda: disagreeing(read_results(path)[0]))
        if comm.rank == 0:
            outcome = f"DISAGREE: {', '.join(wrong)}" if wrong else "every row agrees"
            print(f"kswgd-hpc validate: {outcome}", file=sys.stderr, flush=True)
        return DISAGREE if wrong else 0

    return launch(ours.config, petsc, work)


def predictions_alone(config, by_generator: bool):
    """The configuration without what predictions do not need: the time step's error, where the generator makes them."""
    plain = {"vamp": False, "certify": False, "sets": None, "lag_times": "auto"}
    if by_generator:
        plain["time_step_error"] = False
    koopman = config.koopman.model_copy(update=plain)
    return config.model_copy(update={"kswgd": None, "koopman": koopman})

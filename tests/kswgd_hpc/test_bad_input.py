"""Bad input: one clear line, a status that is not zero, every rank gone, nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from support import SMALL, run_command

from kswgd_hpc import run
from kswgd_hpc.config import load, parse
from kswgd_hpc.errors import ConfigurationError, KswgdError
from kswgd_hpc.plan import prepare

DATA = """
system: {kind: data, path: data.npy}
koopman: {estimator: dirichlet, dictionary: {kind: gaussian, size: 20}}
kswgd: {particles: 100, initial: {kind: gaussian}}
output: {directory: out}
"""
CUSTOM = ("equation: allen_cahn", "equation: custom\n  diffusivity: 1\n  reaction: REACTION")


# name: (what is replaced in SMALL, by what, part of the message)
REFUSED = {
    "unknown key": ("lag_time:", "lag_tme:", "ensemble.lag_tme: unknown key; did you mean 'lag_time'?"),
    "unknown nested key": ("count: 3", "cuont: 3", "koopman.coordinates.cuont: unknown key; did you mean 'count'?"),
    "misspelt value": ("neumann", "neuman", "'neuman' is not available; did you mean 'neumann'?"),
    "comma without quotes": ("observable: mean(u)", "observable: mode(u, 2)", "In {...} that has to be in quotes"),
    "misspelt section": ("koopman:", "kopman:", "kopman: unknown key; did you mean 'koopman'?"),
    "not a number": ("duration: 20", "duration: long", "ensemble.duration"),
    "not finite": ("time_step: 0.01", "time_step: .inf", "ensemble.time_step"),
    "negative": ("trajectories: 100", "trajectories: -1", "ensemble.trajectories"),
    "missing key": ("  duration: 20\n", "", "'ensemble' needs the key 'duration'"),
    "lag not a multiple": ("lag_time: 0.5", "lag_time: 0.505001", "not a multiple of the time step"),
    "too short": ("duration: 20", "duration: 0.1", "shorter than lag_time"),
    "too many coordinates": ("count: 3", "count: 33", "33 modes asked for, the system has 32"),
    "too many modes": ("modes: 8", "modes: 61", "koopman.modes: 61 asked for from 60 functions"),
    "repeated key": ("seed: 3", "seed: 3\nseed: 4", "given twice"),
    "not YAML": ("seed: 3", "seed: [", "line"),
    "a tag that its value does not fit": ("seed: 3", "seed: !!bool maybe", "does not fit its tag"),
    "a tag that PyYAML stumbles over": ("seed: 3", "seed: !!timestamp soon", "does not fit its tag"),
    "a list as key": ("seed: 3", "? [1, [2, 3]]\n: 3", "line 2: a key has to be a name"),
    "a type that SLEPc has not": (
        "modes: 8",
        "modes: 8\n  petsc_options: {eps_type: nonsense}",
        "koopman.petsc_options, or an option of the command line: Unknown EPS type given: nonsense",
    ),
    "a word for a number of PETSc": ("modes: 8", "modes: 8\n  petsc_options: {eps_tol: one}", "no numeric value"),
    "a lag longer than the records": ("modes: 8", "modes: 8\n  lag_times: [0.5, 50]", "longer than ensemble.duration"),
    "a set without a comparison": (
        "modes: 8",
        "modes: 8\n  sets: {A: mean(u), B: mean(u) > 1}",
        "koopman.sets.A: 'mean(u)' is no set of states",
    ),
    "an occupation without a comparison": (
        "  relaxation: 0.5",
        "  relaxation: 0.5\n  judge: {occupation: [mean(u)]}",
        "kswgd.judge.occupation.0: 'mean(u)' is no set",
    ),
    "a start without a comparison": (
        "particles: 1000\n  initial: {kind: constant, value: 1.0}",
        "particles: 1000\n  initial: {kind: ensemble, where: mean(u)}",
        "kswgd.initial.where: 'mean(u)' is no set",
    ),
    "a division by zero": ("observable: mean(u)", "observable: mean(u)/(1 - 1)", "a division by zero"),
    "a logarithm of what is negative": (
        "observable: mean(u)",
        "observable: log(-1)*mean(u)",
        "log of -1, which is not",
    ),
    "python object": ("seed: 3", "seed: !!python/object/apply:os.system [ls]", "tag"),
    "recursive alias": ("seed: 3", "seed: &a [*a]", "contains itself"),
    "wrong components": ("value: 1.0}", "value: [1.0, 2.0]}", "2 numbers for 32 components"),
    "missing file": ("{kind: gaussian}", "{kind: file, path: none.npy}", "no such file: none.npy"),
    "device": ("seed: 3", "seed: 3\ncompute: {device: cuda}", "compute.device: cuda cannot be used"),
    "unknown estimator": ("estimator: reversible", "estimator: transformer", "choose one of reversible"),
    "sets of a large dictionary": (
        "size: 60}",
        "size: 3000}\n  sets: {A: mean(u) < 0, B: mean(u) > 1}",
        "at most 2048",
    ),
    "sets of fields": ("modes: 8", "modes: 8\n  sets: {A: mean(u) > 1, B: u < 0}", "koopman.sets.B"),
    "a caret": (CUSTOM[0], CUSTOM[1].replace("REACTION", "u - u^3"), "'^' is not a power, write '**'"),
    "growth without end": (
        "equation: allen_cahn",
        "equation: heat\n  parameters: {damping: -2.0}",
        "grows at the rate 2",
    ),
    "lags between records": (
        "modes: 8",
        "modes: 8\n  lag_times: [0.5, 0.7]",
        "lag_times = 0.7 is not a multiple",
    ),
    "weights of data": ("modes: 8", "modes: 8\n  reweight: drift", "koopman.reweight"),
    "rank elsewhere": ("estimator: reversible", "estimator: edmd\n  rank: 4", "belongs to estimator: reduced_rank"),
    "a flow without end": ("  relaxation: 0.5", "  stop: none", "stop: none needs the key 'time'"),
    "snapshots out of order": ("  relaxation: 0.5", "  snapshots: [2, 1]", "in ascending order"),
    "time before the snapshots": ("  relaxation: 0.5", "  snapshots: [1, 2]\n  time: 1.5", "before the last"),
    "a set of fields to start in": (
        "particles: 1000\n  initial: {kind: constant, value: 1.0}",
        "particles: 1000\n  initial: {kind: ensemble, where: u > 0}",
        "kswgd.initial.where",
    ),
    "explicit limit": ("burn_in: 2", "burn_in: 2\n  scheme: euler_maruyama", "stability limit"),
    "field as observable": ("observable: mean(u)", "observable: u", "is a field"),
    "executable observable": ("observable: mean(u)", "observable: __import__('os').getpid()", "is not allowed"),
    "executable reaction": (CUSTOM[0], CUSTOM[1].replace("REACTION", "().__class__"), "is not allowed"),
    "endless power": (CUSTOM[0], CUSTOM[1].replace("REACTION", "9**9**9**9*u"), "exponent"),
    "unknown name": (CUSTOM[0], CUSTOM[1].replace("REACTION", "a*u"), "unknown name 'a'"),
    "unknown parameter": ("equation: allen_cahn", "equation: allen_cahn\n  parameters: {epsilon: 1}", "no parameter"),
}


def alter(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new, 1)


def refusal(text: str, directory) -> str:
    """Message with which a configuration is refused, before any work, in this process."""
    with pytest.raises(KswgdError) as caught:
        prepare(MPI.COMM_SELF, parse(text.replace("directory: out", f"directory: {directory}")))
    return str(caught.value)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_any_work_in_one_line(name, tmp_path):
    old, new, message = REFUSED[name]
    said = refusal(alter(old, new), tmp_path / "out")
    assert message in said
    assert "\n" not in said
    assert not (tmp_path / "out" / "results.h5").exists()


def command_line(process) -> str:
    """The one line that the command says about its error."""
    lines = [line for line in process.stderr.splitlines() if line.startswith("kswgd-hpc: error")]
    assert len(lines) == 1, process.stderr
    assert "Traceback" not in process.stderr
    return lines[0]


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_refused_configuration_ends_every_rank_with_status_two(ranks, tmp_path):
    process = run_command(alter("lag_time:", "lag_tme:"), tmp_path, ranks, timeout=60)
    assert process.returncode == 2
    assert "did you mean 'lag_time'?" in command_line(process)
    assert not list(tmp_path.rglob("results.h5*"))


@pytest.mark.parametrize(
    ("arguments", "stray"),
    [
        (["--output", "there"], "--output"),
        (["--resum"], "--resum"),
        (["more.yaml"], "more.yaml"),
        (["-eps_tol", "1e-8", "1e-9"], "1e-9"),
    ],
)
def test_an_argument_that_nothing_reads_is_refused(arguments, stray, capfd):
    assert run.main(["config.yaml", *arguments]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert f"unknown argument {stray};" in said


def test_an_empty_and_a_binary_file_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="expected keys"):
        parse("")
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load(tmp_path / "c.yaml")


def test_an_alias_bomb_is_refused_at_once():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ConfigurationError, match="expands to more than"):
        parse("\n".join(lines))


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_blow_up_on_one_rank_ends_the_whole_job(ranks, tmp_path):
    text = alter(CUSTOM[0], CUSTOM[1].replace("REACTION", "u**3"))
    process = run_command(text, tmp_path, ranks, timeout=60)
    assert process.returncode not in (0, 2)
    assert "Traceback" not in process.stderr
    # another rank may find one of its own before the first has ended the job
    lines = [line for line in process.stderr.splitlines() if line.startswith("kswgd-hpc: error")]
    assert lines and all("no longer finite" in line for line in lines)
    assert not list(tmp_path.rglob("results.h5*"))


@pytest.mark.parametrize("ranks", [1, 3])
def test_nan_in_data_is_named_by_index(ranks, tmp_path):
    array = np.random.default_rng(0).normal(size=(1000, 4))
    array[555, 2] = np.nan
    np.save(tmp_path / "data.npy", array)
    process = run_command(DATA, tmp_path, ranks, timeout=60)
    assert process.returncode != 0
    assert "not finite at index (555, 2)" in command_line(process)
    assert not list(tmp_path.rglob("results.h5*"))


def test_files_that_are_not_arrays_of_numbers_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.h5").write_text("hello")
    for name, message in (("objects.npy", "not an NPY array"), ("text.h5", "neither NPY nor HDF5")):
        assert message in refusal(DATA.replace("data.npy", str(tmp_path / name)), tmp_path / "out")


@pytest.mark.parametrize("method", ["closed_form", "deterministic"])
def test_an_exact_reference_that_cannot_be_had_is_refused_before_any_work(method, tmp_path):
    said = refusal(alter("observable: mean(u)", f"reference: {method}, observable: mean(u)"), tmp_path)
    assert f"quench.reference: {method} cannot be had" in said and "use auto" in said


def test_an_observable_that_is_not_finite_is_named(tmp_path):
    process = run_command(alter("observable: mean(u)", "observable: log(mean(u)-5)"), tmp_path, timeout=60)
    assert process.returncode == 2
    assert "quench.observable: 'log(mean(u)-5)' is not finite" in command_line(process)


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    said = refusal(SMALL.replace("directory: out", "directory: /proc/nothing/here"), tmp_path)
    assert "output.directory: cannot write" in said


def test_a_failed_run_leaves_the_results_of_the_last_one(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.h5").write_text("precious")
    run_command(alter(CUSTOM[0], CUSTOM[1].replace("REACTION", "u**3")), tmp_path, 2, timeout=60)
    assert (tmp_path / "out" / "results.h5").read_text() == "precious"
    # the rank that did not fail is told by mpiexec to stop, and may have time to do what it does then
    stopped = {"stop", "checkpoint"}
    assert {path.name for path in (tmp_path / "out").iterdir()} - stopped == {"results.h5", "log.txt", "log.jsonl"}


def test_an_eigensolver_that_does_not_converge_says_why(tmp_path):
    text = alter("modes: 8", "modes: 8\n  petsc_options: {eps_max_it: 1, eps_ncv: 10}")
    process = run_command(text, tmp_path, timeout=60)
    assert process.returncode == 1
    assert "iteration limit was reached" in command_line(process)

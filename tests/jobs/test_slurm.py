"""The job scripts under a real SLURM, which the fixture starts and stops."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import slurm
from support import ROOT, SMALL, results, run_command

from kswgd_hpc.storage import RESULTS, read_results

pytestmark = [
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing() or "a SLURM can be started"),
    pytest.mark.timeout(1200),
]

# some seconds of work on a rank, saved every second
LONG = (
    SMALL.replace("duration: 20", "duration: 200")
    .replace("killing: 0.1*mean(u)**2,", "")
    .replace("directory: out", "directory: out, checkpoint: {every: 1s, keep: 2}")
)
SETTINGS = """
launcher=(mpiexec -n "$SLURM_NTASKS")
environment={root}/.venv
"""


class Cluster(slurm.Slurm):
    """A SLURM to which the job scripts of the repository are submitted, each from a directory of its own."""

    def submit(self, name: str, text: str, script: str, *options: str, arguments: tuple[str, ...] = ()) -> str:
        """Number of a job with a configuration of this text."""
        place = self.place(name)
        place.mkdir(parents=True)
        (place / "config.yaml").write_text(text)
        command = [str(ROOT / "jobs" / "submit"), "--parsable", *options, str(ROOT / "jobs" / script)]
        return self.command_in(place, *command, "config.yaml", *arguments)

    def place(self, name: str) -> Path:
        """Directory that jobs of a test are submitted from."""
        return self.directory / f"work_{name}"

    def command_in(self, place: Path, *command: str) -> str:
        """Output of a command, run in a directory."""
        before = os.getcwd()
        os.chdir(place)
        try:
            return self.command(*command).strip()
        finally:
            os.chdir(before)

    def saved(self, name: str) -> bool:
        """Whether a run has saved something to go on from."""
        return any((self.place(name) / "out" / "checkpoint").glob("*"))

    def until(self, job: str, *states: str, seconds: float = 500) -> None:
        """Wait until a job is in one of some states."""
        self.wait(lambda: self.state(job) in states, seconds, f"job {job} to be {' or '.join(states)}")

    def done(self, job: str) -> None:
        """Wait until a job has ended well."""
        self.until(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        assert self.state(job) == "COMPLETED", self.logs()

    def signal_ranks(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the ranks of a run, and to nothing that started them."""
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().split(b"\0")
                ours = (place / "cwd").resolve() == self.place(name).resolve()
            except OSError:  # it has ended, or is none of ours
                continue
            if ours and b"kswgd_hpc.run" in words and b"python" in words[0]:
                os.kill(int(place.name), number)

    def said(self, name: str) -> str:
        """What the jobs of a test wrote."""
        return "".join(path.read_text() for path in sorted(self.place(name).glob("slurm-*.out")))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    directory = tmp_path_factory.mktemp("slurm")
    running = Cluster(directory / "slurm")
    (directory / "settings.sh").write_text(SETTINGS.format(root=ROOT))
    running.environment |= {"KSWGD_SETTINGS": str(directory / "settings.sh"), "KSWGD_REPOSITORY": str(ROOT)}
    yield running
    running.stop()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Datasets of the long run without any disturbance."""
    directory = tmp_path_factory.mktemp("undisturbed")
    process = run_command(LONG, directory, timeout=500)
    assert process.returncode == 0, process.stderr
    return results(directory)


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_run_on_two_nodes_completes_with_the_bits_of_one_rank(cluster, tmp_path):
    job = cluster.submit("two_nodes", SMALL, "many_nodes.sbatch", "--nodes=2", "--ntasks-per-node=1")
    assert run_command(SMALL, tmp_path).returncode == 0
    cluster.done(job)
    assert "on 2 ranks, 2 node(s): n[1-2]" in cluster.said("two_nodes")
    assert_same(results(cluster.place("two_nodes")), results(tmp_path))


def test_an_array_runs_each_line_of_a_table(cluster):
    text = SMALL.replace("amplitude: 0.5", "amplitude: @amplitude@").replace("directory: out", "directory: out/@task@")
    place = cluster.place("sweep")
    (cluster.directory / "table.txt").write_text("amplitude=0.4\namplitude=0.6\n")
    options = ("--array=1-2", "--ntasks=1")
    job = cluster.submit("sweep", text, "sweep.sbatch", *options, arguments=(str(cluster.directory / "table.txt"),))
    for task in (1, 2):
        cluster.done(f"{job}_{task}")
    kept = [read_results(place / "out" / str(task) / RESULTS)[1]["config"] for task in (1, 2)]
    assert [text.partition("amplitude: ")[2][:3] for text in kept] == ["0.4", "0.6"]


def test_a_preempted_job_saves_and_ends_in_the_same_bits(cluster, undisturbed):
    job = cluster.submit("preempted", LONG, "one_node.sbatch", "--ntasks=2", "--partition=low")
    cluster.wait(lambda: cluster.saved("preempted"), 300, "a checkpoint")
    urgent = ["--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"]
    cluster.done(cluster.command("sbatch", *urgent).strip())
    cluster.until(job, "PENDING")
    cluster.release(job)
    cluster.done(job)
    said = cluster.said("preempted")
    assert "ended with status 75" in said
    assert "resumed from" in said
    assert_same(results(cluster.place("preempted")), undisturbed)


def test_the_signal_before_the_time_limit_requeues_a_job(cluster, undisturbed):
    job = cluster.submit("limit", LONG, "one_node.sbatch", "--ntasks=1", "--time=00:20:00")
    cluster.wait(lambda: cluster.saved("limit"), 300, "a checkpoint")
    # the signal is sent two minutes before the limit, when SLURM looks, twice a minute: until then the run stands still
    cluster.signal_ranks("limit", signal.SIGSTOP)
    cluster.command("scontrol", "update", f"jobid={job}", "timelimit=2")
    cluster.wait(lambda: "asked to stop" in cluster.said("limit"), 180, "the signal")
    cluster.signal_ranks("limit", signal.SIGCONT)
    cluster.wait(lambda: "back into the queue" in cluster.said("limit"), 60, "the end of the run")
    cluster.until(job, "PENDING")
    cluster.release(job, timelimit="20")
    cluster.done(job)
    said = cluster.said("limit")
    assert "back into the queue" in said
    assert "resumed from" in said
    assert_same(results(cluster.place("limit")), undisturbed)


def test_a_job_goes_on_on_another_node_when_its_own_has_died(cluster, undisturbed):
    job = cluster.submit("failure", LONG, "one_node.sbatch", "--ntasks=2", "--nodelist=n1")
    cluster.wait(lambda: cluster.saved("failure"), 300, "a checkpoint")
    cluster.fail_node("n1")
    cluster.wait(lambda: cluster.state(job) != "RUNNING", 120, "the death of n1 to be noticed")
    cluster.release(job, reqnodelist="")
    cluster.done(job)
    cluster.start_node("n1")
    said = cluster.said("failure")
    assert "node(s): n2" in said
    assert "resumed from" in said
    assert_same(results(cluster.place("failure")), undisturbed)


def test_a_chain_goes_on_until_it_is_done(cluster, undisturbed):
    job = cluster.submit("chain", LONG, "chain.sbatch", "--ntasks=1", "--time=00:10:00")
    cluster.wait(lambda: cluster.saved("chain"), 300, "a checkpoint")
    cluster.command("scancel", job)
    cluster.wait(lambda: not cluster.command("squeue", "-h").split(), 300, "the end of the chain")
    said = cluster.said("chain")
    assert "link 2" in said
    assert "resumed from" in said
    assert_same(results(cluster.place("chain")), undisturbed)

"""A SLURM of several nodes on this machine, for tests: daemons with files and ports of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo", "mpiexec")


def missing() -> str:
    """Why there can be no SLURM here, empty where there can."""
    if os.environ.get("CI"):
        return "a SLURM of its own is not started in CI"
    if os.geteuid() != 0:
        return "starting a SLURM needs root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"programs of SLURM are missing: {', '.join(absent)}" if absent else ""


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={directory}/munge/socket
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool.%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
SlurmdTimeout=5
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
NodeName=n[1-{nodes}] NodeAddr=127.0.0.1 NodeHostname={host} Port=[{first}-{last}] CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""


class Slurm:
    """A running SLURM with nodes n1, n2, ... of two processors each.

    Parameters
    ----------
    directory : for its files
    nodes : number of nodes
    """

    def __init__(self, directory: Path, nodes: int = 2):
        self.directory = directory
        self.host = socket.gethostname().split(".")[0]
        self._processes: dict[str, subprocess.Popen] = {}
        (directory / "munge").mkdir(parents=True, mode=0o755)
        (directory / "state").mkdir()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM", "SBATCH", "OMPI_COMM", "OMPI_UNIVERSE", "PMIX", "PMI_"))
        } | {"SLURM_CONF": str(directory / "slurm.conf")}
        ports = _free_ports(1)
        first = 20000 + os.getpid() % 20000
        values = {"host": self.host, "ports": ports, "directory": directory, "nodes": nodes}
        text = _CONFIGURATION.format(**values, first=first, last=first + nodes - 1)
        (directory / "slurm.conf").write_text(text)
        try:
            self._start_munge()
            self._start("slurmctld", "slurmctld", "-D", "-i")
            for node in range(1, nodes + 1):
                self.start_node(f"n{node}")
            self.wait(lambda: self.command("sinfo", "-h", "-o", "%T").split() == ["idle"], 60, "idle nodes")
        except BaseException:
            self.stop()
            raise

    def _start_munge(self) -> None:
        place = self.directory / "munge"
        (place / "key").write_bytes(os.urandom(128))
        (place / "key").chmod(0o600)
        files = [f"--{name}-file={place / name}" for name in ("pid", "log", "seed")]
        # the directory of tests may be writable to a group, which munge does not trust without --force
        options = [f"--key-file={place / 'key'}", f"--socket={place / 'socket'}", *files]
        self._start("munged", "munged", "--foreground", "--force", *options)
        self.wait((place / "socket").exists, 20, "the socket of munge")

    def _start(self, name: str, *command: str) -> None:
        with open(self.directory / f"{name}.out", "ab") as said:
            self._processes[name] = subprocess.Popen(
                command,
                env=self.environment,
                stdout=said,
                stderr=said,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self._start(node, "slurmd", "-D", "-N", node)

    def fail_node(self, node: str) -> None:
        """The sudden death of a node: its daemon, and all that ran on it."""
        self._processes.pop(node).kill()
        for process in self._on_node(node):
            _kill(process)

    def _on_node(self, node: str) -> list[int]:
        """Processes of a node of this SLURM, by their environment: the steps' daemons, jobs' scripts, what those run.

        Killed in this order none of them sees another die, and reports it as the end of the job.
        """
        marks = (f"SLURMD_NODENAME={node}\0".encode(), f"SLURM_CONF={self.directory}/slurm.conf\0".encode())
        daemons, found = set(), []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                environment = (place / "environ").read_bytes()
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                step = (place.parent / str(parent) / "cmdline").read_bytes()
            except (OSError, ValueError):
                continue
            if all(mark in environment for mark in marks):
                found.append(int(place.name))
                if step.startswith(b"slurmstepd"):
                    daemons.add(parent)
        return [*daemons, *sorted(found)]

    def command(self, *command: str) -> str:
        """Output of a command of SLURM."""
        process = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert process.returncode == 0, f"{command}: {process.stderr}"
        return process.stdout

    def state(self, job: str) -> str:
        """State of a job, such as PENDING, RUNNING, COMPLETED."""
        shown = self.command("scontrol", "--oneliner", "show", "job", job)
        return shown.partition("JobState=")[2].split()[0]

    def release(self, job: str, **changes: str) -> None:
        """Let a job that was put back into the queue start in some seconds, where SLURM would take two minutes.

        Not at once: a node takes a job for the run of it that was just ended, if both are of one second.
        """
        values = {"starttime": "now+5seconds"} | changes
        self.command("scontrol", "update", f"jobid={job}", *(f"{key}={value}" for key, value in values.items()))

    def wait(self, fulfilled: Callable[[], object], seconds: float, what: str) -> None:
        """Wait until something holds; an error with the logs of the daemons if it does not in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if fulfilled():
                    return
            except AssertionError:  # a daemon that does not answer yet
                pass
            time.sleep(0.2)
        raise TimeoutError(f"waited {seconds} s for {what}\n{self.logs()}")

    def logs(self) -> str:
        """The last lines of all daemons and jobs."""
        files = [*self.directory.glob("*.log"), *self.directory.glob("*.out"), *self.directory.glob("work*/*.out")]
        return "\n".join(f"-- {path.name}\n" + "\n".join(path.read_text().splitlines()[-15:]) for path in files)

    def stop(self) -> None:
        """End all daemons and all that they started."""
        for name in sorted(self._processes, key=lambda name: name in ("slurmctld", "munged")):
            if name not in ("slurmctld", "munged"):
                for process in self._on_node(name):
                    _kill(process)
            self._processes[name].terminate()
            try:
                self._processes[name].wait(10)
            except subprocess.TimeoutExpired:
                self._processes[name].kill()
                self._processes[name].wait()


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return

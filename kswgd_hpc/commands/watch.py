"""python -m kswgd_hpc watch DIRECTORY: how far a run is, from the log in its output directory."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kswgd_hpc import log

_QUIET = 120.0  # seconds without an event after which it is said that there was none


@dataclass
class State:
    """What the log of the last run in a directory says.

    Parameters
    ----------
    started : the event of its start
    title : of the configuration
    stages : name -> the event of its end, of those that have ended
    running : the last event of the stage that is being worked on
    rates : the event with the rates, once they are known
    problem : event of an error
    ended : event of the end
    last : time of the last event
    attempts : number of runs in the log
    """

    started: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    running: dict[str, Any] | None = None
    rates: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None
    ended: dict[str, Any] | None = None
    last: float = 0.0
    attempts: int = 0

    def take(self, event: dict[str, Any]) -> None:
        """Go on by one event."""
        kind = event.get("event")
        if kind == "start":
            attempts = self.attempts + 1
            self.__init__(started=event, attempts=attempts)
        elif kind == "run":
            self.title = event["title"]
        elif kind in ("stage", "step"):
            self.running = event
        elif kind == "stage end":
            self.stages[event["stage"]], self.running = event, None
        elif kind == "rates":
            self.rates = event
        elif kind == "error":
            self.problem, self.running = event, None
        elif kind == "end":
            self.ended, self.running = event, None
        self.last = event.get("time", self.last)

    def status(self, now: float) -> str:
        """One line: done, failed, running, or ended without a word."""
        host, process = self.started.get("host"), self.started.get("pid")
        if not self.started:
            return "no sign of life yet"
        if self.ended:
            return f"done in {sum(self.ended['seconds'].values()):.1f} s"
        if self.problem:
            return f"ended in stage {self.problem['stage']}: {self.problem['text']}"
        if host == os.uname().nodename and not Path(f"/proc/{process}").exists():
            return "ended without a word: killed, or out of memory; go on with --resume"
        if now - self.last > _QUIET:
            return f"no sign of life for {now - self.last:.0f} s"
        return "running"


def main(argv: list[str]) -> int:
    """Show the state until the run has ended, or once. Returns 0, 1 for a run that failed, 2 where there is no log."""
    parser = argparse.ArgumentParser(prog="kswgd-hpc watch", description=__doc__)
    parser.add_argument("directory", help="output.directory of the run")
    parser.add_argument("--once", action="store_true", help="show the state and end")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between looks (2)")
    options = parser.parse_args(argv)
    path = Path(options.directory) / log.EVENTS
    if not path.is_file():
        print(f"kswgd-hpc: error: {path}: no such file; {_where(path)}", file=sys.stderr)
        return 2
    try:
        state = _once(path) if options.once else _follow(path, options.every)
    except KeyboardInterrupt:
        return 0
    except (LookupError, TypeError, AttributeError):
        print(f"kswgd-hpc: error: {path}: this is not the log of a run", file=sys.stderr)
        return 2
    return 0 if state.ended or state.status(time.time()) == "running" else 1


def _where(path: Path) -> str:
    """What to do about a log that is not there: the directories below that have one, the last first."""
    below = [found for depth in ("*", "*/*") for found in path.parent.glob(f"{depth}/{log.EVENTS}")]
    below.sort(key=lambda found: -found.stat().st_mtime)
    names = ", ".join(str(found.parent) for found in below[:5])
    return f"the output.directory of a run is asked for, such as {names}" if names else "is this the output.directory?"


def _once(path: Path) -> State:
    state, _ = advance(State(), path, 0)
    print("\n".join(lines(state, time.time())))
    return state


def _follow(path: Path, every: float) -> State:
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return _live(path, every)
    state, offset = State(), 0
    while True:
        for event, behind in log.read_events(path, offset):
            offset = behind
            state.take(event)
            if event["event"] == "line":
                print(event["text"], flush=True)
            elif event["event"] == "step":
                print(_step(event), flush=True)
        status = state.status(time.time())
        if status != "running" and not status.startswith("no sign"):
            print(status, flush=True)
            return state
        time.sleep(every)


def _live(path: Path, every: float) -> State:
    from rich.live import Live
    from rich.text import Text

    state, offset = State(), 0
    with Live(auto_refresh=False) as live:
        while True:
            state, offset = advance(state, path, offset)
            now = time.time()
            live.update(Text("\n".join(lines(state, now))), refresh=True)
            status = state.status(now)
            if status != "running" and not status.startswith("no sign"):
                return state
            time.sleep(every)


def advance(state: State, path: Path, offset: int) -> tuple[State, int]:
    """The state after the events of a log from a place on, and the place behind them."""
    for event, behind in log.read_events(path, offset):
        offset = behind
        state.take(event)
    return state, offset


def lines(state: State, now: float) -> list[str]:
    """The state as lines: title, stages, the one that is worked on with a bar, rates, and the status."""
    start = state.started
    job = f", job {start['job']}" if start.get("job") else ""
    attempt = f", attempt {state.attempts}" if state.attempts > 1 else ""
    ranks = f"{start.get('ranks', '?')} rank{'s' * (start.get('ranks') != 1)}"
    found = [f"{state.title}: {ranks} on {start.get('host', '?')}{job}{attempt}", ""]
    for name, event in state.stages.items():
        found.append(
            f"  {name:<24} {event['seconds']:>9.1f} s  {event['memory']:>6.0f} MB  {event.get('note', '')}".rstrip()
        )
    if state.running:
        found.append(_step(state.running))
    if state.rates:
        errors = state.rates["rates_error"]
        for k, rate in enumerate(state.rates["rates"][1:6], start=1):
            value = f"{rate:.5g}" if not isinstance(rate, list) else f"{rate[0]:.5g} {rate[1]:+.5g}i"
            error = f" +- {errors[k]:.2g}" if errors[k] is not None else ""
            residual = state.rates["residuals"][k]
            found.append(f"  rate {k}: {value}{error}" + (f", residual {residual:.1e}" if residual is not None else ""))
    return [*found, "", f"{state.status(now)}, last event {max(now - state.last, 0):.0f} s ago"]


def _step(event: dict[str, Any]) -> str:
    done, total = event.get("step", 0), event["total"]
    filled = round(20 * min(done / max(total, 1), 1.0))
    text = f"  {event['stage']:<24} [{'#' * filled}{'.' * (20 - filled)}] {done}/{total}"
    if event.get("rate"):
        text += f", {event['rate']:.3g}/s, about {(total - done) / event['rate']:.0f} s left"
    others = {"time", "event", "memory", "stage", "step", "total", "rate"}
    return text + "".join(f", {k} {v:.3g}" for k, v in event.items() if k not in others and isinstance(v, float))

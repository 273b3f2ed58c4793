from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from support import SMALL, results, run_command

from kswgd_hpc.config import parse
from kswgd_hpc.ensemble import Pairing, RecordedEnsemble, pairing
from kswgd_hpc.plan import build
from kswgd_hpc.recorder import Recorder


def collected(source) -> list[np.ndarray]:
    """(records, d, batch) of each block, put together from its windows, which must continue one another."""
    found = []
    for block in source.blocks:
        records: dict[int, np.ndarray] = {}
        start = None
        for window in source.windows(block):
            assert start in (None, window.first)  # no pair is lost or counted twice between windows
            start = window.first + len(window.states) - source.pairing.lag
            for offset, states in enumerate(window.states):
                known = records.setdefault(window.first + offset, states)
                assert known.tobytes() == states.tobytes()
        assert sorted(records) == list(range(min(records), max(records) + 1))
        found.append(np.array([records[i] for i in sorted(records)]))
    return found


def simulated(changes: dict[str, str]):
    text = SMALL[: SMALL.index("kswgd:")]
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    ensemble = build(parse(text)).ensemble
    ensemble.pilot(MPI.COMM_SELF, None, lambda _units: None)
    return ensemble


@pytest.mark.parametrize(
    ("lag", "stride", "expected"),
    [
        (0.5, None, Pairing(0.5, 1, 1, 41)),
        (0.5, 0.25, Pairing(0.25, 2, 1, 81)),
        (0.5, 1.0, Pairing(0.5, 1, 2, 41)),
        (None, None, Pairing(0.05, 0, 1, 401)),
        (None, 2.0, Pairing(2.0, 0, 1, 11)),
    ],
)
def test_records_serve_lag_and_stride(lag, stride, expected):
    found = pairing(0.01, lag, stride, 20.0)
    assert (found.lag, found.stride, found.records) == (expected.lag, expected.stride, expected.records)
    assert found.interval == pytest.approx(expected.interval)


def test_windows_of_a_simulation_hold_every_record_once():
    blocks = collected(simulated({}))
    assert sum(block.shape[2] for block in blocks) == 100
    assert all(block.shape[:2] == (41, 32) for block in blocks)


def test_a_simulation_without_a_lag_time_keeps_states():
    without = {"  lag_time: 0.5\n": "", "estimator: reversible": "estimator: dirichlet"}
    ensemble = simulated(without)
    assert ensemble.pairing.starts == 401
    assert all(block.shape[:2] == (401, 32) for block in collected(ensemble))


def test_a_path_does_not_depend_on_how_often_it_is_recorded():
    coarse, fine = simulated({}), simulated({"lag_time: 0.5": "lag_time: 0.5\n  stride: 0.1"})
    for a, b in zip(collected(coarse), collected(fine), strict=True):
        np.testing.assert_allclose(a, b[::5], rtol=1e-9, atol=1e-11)


def test_few_recorded_trajectories_are_cut_in_time_without_losing_a_pair():
    data = np.arange(2 * 101 * 3, dtype=float).reshape(2, 101, 3)
    pairs = Pairing(1.0, 2, 1, 101)
    source = RecordedEnsemble(lambda rows, times: data[slice(*rows), slice(*times)], data.shape, pairs)
    assert len(source.blocks) >= 16
    starts = []
    for block in source.blocks:
        for window in source.windows(block):
            last = window.first + len(window.states) - pairs.lag
            starts += [(float(window.states[i - window.first, 0, 0]), i) for i in range(window.first, last)]
    assert len(starts) == 2 * pairs.starts
    assert len(set(starts)) == len(starts)


def test_statistics_count_every_record_once_with_and_without_a_koopman_section(tmp_path):
    found = []
    for text in (SMALL[: SMALL.index("kswgd:")], SMALL[: SMALL.index("koopman:")]):
        process = run_command(text + "output: {directory: out}\n", tmp_path / str(len(found)))
        assert process.returncode == 0, process.stderr
        found.append(results(tmp_path / str(len(found))))
    records = np.concatenate([block.transpose(0, 2, 1).reshape(-1, 32) for block in collected(simulated({}))])
    np.testing.assert_allclose(found[1]["ensemble/mean"], records.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[1]["ensemble/variance"], records.var(axis=0), rtol=1e-9)
    # pairs start at every record but the last
    np.testing.assert_allclose(found[0]["ensemble/variance"], found[1]["ensemble/variance"], rtol=0.05)


def test_many_trajectories_leave_a_bounded_sample():
    plan = build(
        parse(SMALL.replace("trajectories: 100", "trajectories: 5000").replace("particles: 1000", "particles: 64"))
    )
    recorder = Recorder.for_run(plan.ensemble, 64, False)
    assert recorder.sampled.thin == 32  # the largest power of two that leaves 2 x 64 states or more
    assert len(recorder.sampled.times) == 1

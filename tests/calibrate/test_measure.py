"""What a measurement takes from its calls."""

from __future__ import annotations

import numpy as np
import pytest

from laudc.calibrate.measure import CpuMeasurer, Timed, between_looks, time_calls
from laudc.calibrate.pace import Pace
from laudc.calibrate.pinning import caller_pinned
from laudc.devices import detect_host

PACES = (Pace(1.0, 1.0, 1.0),) * 2


def test_usual_calls_and_their_blocks_add_up() -> None:
    random = np.random.default_rng(3)
    # In every call one block is slow, and seldom the same: no median shows it.
    blocks = np.full((41, 10), 100.0)
    blocks[np.arange(41), random.integers(0, 10, 41)] = 150.0
    found = Timed(blocks.sum(axis=1) + 70.0, blocks, 0.0, PACES)
    total, parts = found.usual()
    assert np.isclose(total, 1120.0)
    assert np.isclose(total - parts.sum(), 70.0)


def test_disturbed_calls_do_not_count() -> None:
    totals = np.array([70.0] * 2 + [100.0] * 7 + [900.0, 1000.0])
    total, parts = Timed(totals, np.zeros((11, 0)), 0.0, PACES).usual()
    assert total == 100.0
    assert parts.shape == (0,)


@pytest.mark.skipif(detect_host().usable_threads < 2, reason="needs two cores")
def test_shared_work_is_timed_between_the_calls() -> None:
    """The runtime's threads rest early enough for those of another session to have the cores to themselves."""
    measurer = CpuMeasurer()
    meter, call = measurer.pace(2), measurer._pace_call(2)
    with caller_pinned():
        # Of several tries: other processes may keep the cores busy at the time.
        for _ in range(5):
            (before, after), _ = between_looks(meter, lambda watch: time_calls(call, lambda: None, watch))
            if looked := (before.team_ns, before.clock_ns) == (after.team_ns, after.clock_ns):
                break
    assert looked

"""What a measurement takes from its calls."""

from __future__ import annotations

import numpy as np

from laudc.calibrate.measure import Timed
from laudc.calibrate.pace import Pace

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
    totals = np.array([100.0] * 9 + [900.0, 1000.0])
    total, parts = Timed(totals, np.zeros((11, 0)), 0.0, PACES).usual()
    assert total == 100.0
    assert parts.shape == (0,)

"""Which networks a fit sees, and at which clock."""

from __future__ import annotations

import numpy as np
import pytest

from laudc.calibrate.design import draw_designs, turn_of
from laudc.calibrate.fit import _Rows, left_out_together


def test_whole_calibrations_are_left_out_where_there_are_several() -> None:
    each = [[design.index for design in draw_designs(12, turn)] for turn in range(3)]
    assert left_out_together([index for one in each for index in one]) == [set(one) for one in each]
    folds = left_out_together(each[0] + each[1])
    assert len(folds) == 8 and set.union(*folds) == {*each[0], *each[1]}
    assert sum(map(len, folds)) == 24
    # None of one calibration alone.
    assert all({turn_of(name) for name in fold} == {0, 1} for fold in folds)


def rows_of(terms: np.ndarray, design: list[int], call: list[int], place: list[int], swapped: list[bool]) -> _Rows:
    """Blocks of 2 and 1 µs in turn, in calls of 5 µs at 1000/1200 of the usual time of the fixed work."""
    calls = max(call) + 1
    return _Rows(
        "resnet", terms, np.resize([2000.0, 1000.0], len(terms)), np.array(design), np.array(call), np.array(place),
        np.array(swapped), np.ones((calls, 1)), np.full(calls, 2000.0), np.full(calls, 5000.0), np.ones(calls, bool),
        np.ones(1, bool), np.zeros(calls), np.zeros(calls), np.full(calls, 1000.0 / 1200.0),
    )  # fmt: skip


def test_blocks_measured_both_ways_are_pairs() -> None:
    """Two networks by either way, the first also mixed; the second block has only one way, and so the same terms."""
    terms = np.array([[1.0], [2.0], [1.0], [1.0], [4.0], [2.0], [3.0], [5.0]])
    design, call = [7, 7, 7, 8, 7, 7, 8, 9], [0, 0, 1, 2, 3, 3, 4, 5]
    place, swapped = [0, 1, -1, 0, 0, 1, 0, 0], [False] * 4 + [True] * 4
    rows = rows_of(terms, design, call, place, swapped)
    assert rows.pairs.tolist() == [[0, 4], [3, 6]]
    assert rows.without({7}).pairs.tolist() == [[0, 1]]
    assert rows.only({9}).pairs.shape == (0, 2)


def test_times_follow_the_clock_by_their_share() -> None:
    """What is measured at 1000/1200 of the usual time of the fixed work takes longer as usual."""
    two = np.array([2000.0, 1000.0])
    rows = rows_of(np.ones((2, 1)), [0, 0], [0, 0], [0, 1], [False, False])
    slower = rows.at_usual_clock(0.5)
    assert slower.total_ns == pytest.approx(5000.0 * 1.2**0.5)
    assert slower.outside_ns == pytest.approx(2000.0 * 1.2**0.5)
    assert slower.block_ns == pytest.approx(two * 1.2**0.5)
    assert rows.at_usual_clock(1.0).total_ns == pytest.approx(6000.0)

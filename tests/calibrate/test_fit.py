"""Intervals from networks that a fit has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from laudc.calibrate.design import draw_designs, turn_of
from laudc.calibrate.fit import (
    _Rows,
    conformal_interval,
    left_out_together,
    network_intervals,
    symmetric_interval,
)


def test_a_symmetric_interval_leaves_out_the_farthest_whichever_way() -> None:
    ratio = np.exp(np.linspace(-0.19, 0.2, 40))
    found = symmetric_interval(np.ones(40), ratio, 1e9)
    assert found.low == pytest.approx(1 / found.high)
    # 37 of 40, which is the first share of 41 that is 90 % or more.
    assert ((ratio >= found.low * (1 - 1e-12)) & (ratio <= found.high * (1 + 1e-12))).sum() == 37


def test_one_far_network_among_few_does_not_widen_it() -> None:
    ratio = np.r_[np.exp(np.linspace(-0.05, 0.05, 32)), 1.5]
    assert symmetric_interval(np.ones(33), ratio, 1e9).high < 1.06
    assert conformal_interval(np.ones(33), ratio, 1e9).high == 1.5


def test_of_very_few_the_farthest_counts() -> None:
    assert symmetric_interval(np.ones(3), np.asarray([1.0, 1.1, 0.8]), 1e9).high == pytest.approx(1.25)


def test_it_holds_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = [
        bool(interval.low <= new <= interval.high)
        for _ in range(400)
        for interval in [symmetric_interval(np.ones(50), random.lognormal(0, 0.03, 50), 1e9)]
        for new in random.lognormal(0, 0.03, 20)
    ]
    assert 0.88 < np.mean(held) < 0.93


def test_networks_have_intervals_by_their_size() -> None:
    predicted = np.asarray([1e5] * 10 + [5e6] * 40)
    off = np.asarray([1.3] * 10 + [1.02] * 40)
    tiny, large = network_intervals(predicted, predicted * off)
    assert (tiny.up_to_us, tiny.high) == (500.0, pytest.approx(1.3))
    assert large.up_to_us > 1e6 and large.high == pytest.approx(1.02)
    # Too few to tell: what all do.
    for some, high in ((slice(8, None), 1.02), (slice(0, 10), 1.3)):
        (one,) = network_intervals(predicted[some], predicted[some] * off[some])
        assert one.up_to_us > 1e6 and one.high == pytest.approx(high)


def test_whole_calibrations_are_left_out_where_there_are_several() -> None:
    each = [[design.index for design in draw_designs(12, turn)] for turn in range(3)]
    assert left_out_together([index for one in each for index in one]) == [set(one) for one in each]
    folds = left_out_together(each[0] + each[1])
    assert len(folds) == 8 and set.union(*folds) == {*each[0], *each[1]}
    assert sum(map(len, folds)) == 24
    # None of one calibration alone.
    assert all({turn_of(name) for name in fold} == {0, 1} for fold in folds)


def test_times_follow_the_clock_by_their_share() -> None:
    """What is measured at 1000/1200 of the usual time of the fixed work takes longer as usual."""
    two = np.array([2000.0, 1000.0])
    rows = _Rows(
        "resnet", np.ones((2, 1)), two, np.zeros(2), np.zeros(2, int), np.ones((1, 1)), np.array([2000.0]),
        np.array([5000.0]), np.ones(1, bool), np.ones(1, bool), np.zeros(1), np.zeros(1), np.array([1000.0 / 1200.0]),
    )  # fmt: skip
    slower = rows.at_usual_clock(0.5)
    assert slower.total_ns == pytest.approx(5000.0 * 1.2**0.5)
    assert slower.outside_ns == pytest.approx(2000.0 * 1.2**0.5)
    assert slower.block_ns == pytest.approx(two * 1.2**0.5)
    assert rows.at_usual_clock(1.0).total_ns == pytest.approx(6000.0)

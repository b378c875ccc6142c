"""Intervals from networks that a fit has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from laudc.calibrate.fit import conformal_interval, symmetric_interval


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

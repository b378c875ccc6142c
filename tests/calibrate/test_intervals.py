"""Intervals from networks that a fit has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from laudc.calibrate.intervals import Calls, conformal_interval, network_intervals, symmetric_interval
from laudc.predict.interface import Interval

ANY = Interval(1e9, 1, 1)


def calls(predicted_us: np.ndarray, ratio: np.ndarray, excess: float = 0.0, clock: float = 1.0) -> Calls:
    """Calls that took so many times what was predicted."""
    ones = np.ones(len(ratio))
    return Calls(predicted_us * 1e3, predicted_us * ratio * 1e3, excess * ones, clock * ones)


def alike(ratio: np.ndarray) -> Calls:
    """Calls of a millisecond."""
    return calls(np.full(len(ratio), 1e3), ratio)


def test_a_symmetric_interval_leaves_out_the_farthest_whichever_way() -> None:
    ratio = np.exp(np.linspace(-0.19, 0.2, 40))
    found = symmetric_interval(alike(ratio), ANY)
    assert found.low == pytest.approx(1 / found.high)
    # 37 of 40, which is the first share of 41 that is 90 % or more.
    assert ((ratio >= found.low * (1 - 1e-12)) & (ratio <= found.high * (1 + 1e-12))).sum() == 37


def test_one_far_network_among_few_does_not_widen_it() -> None:
    ratio = np.r_[np.exp(np.linspace(-0.05, 0.05, 32)), 1.5]
    assert symmetric_interval(alike(ratio), ANY).high < 1.06
    assert conformal_interval(np.ones(33), ratio, 1e9).high == 1.5


def test_of_very_few_the_farthest_counts() -> None:
    assert symmetric_interval(alike(np.asarray([1.0, 1.1, 0.8])), ANY).high == pytest.approx(1.25)


def test_it_holds_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = [
        bool(interval.low <= new <= interval.high)
        for _ in range(400)
        for interval in [symmetric_interval(alike(random.lognormal(0, 0.03, 50)), ANY)]
        for new in random.lognormal(0, 0.03, 20)
    ]
    assert 0.88 < np.mean(held) < 0.93


def test_networks_have_intervals_by_their_size() -> None:
    predicted = np.asarray([1e2] * 10 + [5e3] * 40)
    off = np.asarray([1.3] * 10 + [1.02] * 40)
    tiny, large = network_intervals(calls(predicted, off))
    assert (tiny.up_to_us, tiny.high) == (500.0, pytest.approx(1.3))
    assert large.up_to_us > 1e6 and large.high == pytest.approx(1.02)
    # Too few of one size to tell: what all do.
    for some, us, high in ((slice(8, None), 5e3, 1.02), (slice(0, 10), 1e2, 1.3)):
        (one,) = network_intervals(calls(predicted[some], off[some]))
        assert one.up_to_us > 1e6 and one.grown(one.growth(us, 0, 1)).high == pytest.approx(high)


def drawn(random: np.random.Generator, count: int) -> Calls:
    """Calls that are the less exactly predicted the smaller they are, the slower the clock and the further cores are
    apart."""
    us = random.uniform(1e3, 4e4, count)
    excess, clock = random.uniform(0, 0.2, count), np.exp(random.uniform(-0.1, 0.2, count))
    width = 0.01 * (1 + 4000 / us) * (1 + 5 * excess) * (1 + 5 * np.maximum(0, np.log(clock)))
    return Calls(us * 1e3, us * np.exp(width * random.normal(size=count)) * 1e3, excess, clock)


def test_intervals_are_wide_where_predictions_are_less_exact() -> None:
    random = np.random.default_rng(1)
    (found,) = network_intervals(drawn(random, 1500))
    assert found.small_us > 0 and found.by_handover > 0 and found.by_clock > 0
    new = drawn(random, 20000)
    inside = new.off <= np.log(found.high) * new.growth(found)
    harder = (new.predicted < 1e7) & (new.excess > 0.1)
    easier = (new.predicted > 2e7) & (new.excess < 0.1) & (new.clock < 1)
    for some in (np.ones_like(harder), harder, easier):
        assert 0.86 < inside[some].mean() < 0.94
    # The same for all would hold too few of the one and too many of the other.
    same = new.off <= np.log(symmetric_interval(new, ANY).high)
    assert same[harder].mean() < 0.8 and same[easier].mean() > 0.98


def test_intervals_are_the_same_for_all_where_predictions_are_as_exact() -> None:
    random = np.random.default_rng(2)
    new = drawn(random, 200)
    even = Calls(new.predicted, new.predicted * random.lognormal(0, 0.03, 200), new.excess, new.clock)
    (found,) = network_intervals(even)
    assert (found.small_us, found.by_handover, found.by_clock) == (0, 0, 0)

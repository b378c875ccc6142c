"""Intervals around predictions, from how far networks that a fit has not seen were off."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from laudc.predict.interface import Interval

Array = np.ndarray

_COVERAGE = 0.90
_BLOCK_LIMITS_US = (30.0, 300.0)
_ANY_US = 1e9
# Calls up to this are mostly fixed costs.
TINY_US = 500.0
# Fewer calls tell no interval of their own.
LEAST_CALLS = 6
# What intervals may grow with (`Interval.small_us`, `by_handover`, `by_clock`), and by what less than without they have
# to cost to do so.
_SMALL_US = (0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
_BY_HANDOVER = (0.0, 2.0, 5.0, 10.0)
_BY_CLOCK = (0.0, 2.0, 5.0, 10.0)
_GROWTH_WORTH = 0.95


@dataclass(frozen=True)
class Calls:
    """Predicted and measured whole calls, all in ns; `excess`: of the handover over the usual one, `clock`: over the
    usual one."""

    predicted: Array
    measured: Array
    excess: Array
    clock: Array

    def where(self, chosen: Array) -> Calls:
        """Those of them."""
        return Calls(self.predicted[chosen], self.measured[chosen], self.excess[chosen], self.clock[chosen])

    @property
    def off(self) -> Array:
        """How far predictions are off, as the logarithm of a factor."""
        return np.asarray(np.abs(np.log(self.measured / self.predicted)))

    def growth(self, interval: Interval) -> Array:
        """See `Interval.growth`."""
        return interval.growth(self.predicted / 1e3, self.excess, self.clock)


def block_intervals(predicted: Array, measured: Array) -> list[Interval]:
    """Small blocks are predicted less exactly than large ones, so each size has its own interval."""
    found = []
    low = 0.0
    for high in (*_BLOCK_LIMITS_US, _ANY_US):
        inside = (predicted > low * 1e3) & (predicted <= high * 1e3)
        if inside.sum() >= 20:
            found.append(conformal_interval(predicted[inside], measured[inside], high))
        low = high
    return found


def network_intervals(calls: Calls) -> tuple[Interval, ...]:
    """Of whole calls. Those up to half a millisecond, which are mostly fixed costs, have their own where there are
    enough of them. Above, made-up networks of every kind tell: real ones differ from those that are most like them as
    much as these do from the others."""
    tiny = calls.predicted <= TINY_US * 1e3
    if min(tiny.sum(), (~tiny).sum()) < LEAST_CALLS:
        return (_growing_interval(calls),)
    return symmetric_interval(calls.where(tiny), Interval(TINY_US, 1, 1)), _growing_interval(calls.where(~tiny))


def _growing_interval(calls: Calls) -> Interval:
    """Small calls are predicted less exactly than large ones, and all of them less where the clock is slower and cores
    are further apart than usual: neither is the same throughout a measurement, and what is told is the mean. How much
    less is what makes intervals cost least; not at all, unless that is clearly better."""
    plain, *growing = (
        symmetric_interval(calls, Interval(_ANY_US, 1, 1, *growth))
        for growth in itertools.product(_SMALL_US, _BY_HANDOVER, _BY_CLOCK)
    )
    best = min(growing, key=lambda interval: _cost(interval, calls))
    return best if _cost(best, calls) < _GROWTH_WORTH * _cost(plain, calls) else plain


def _cost(interval: Interval, calls: Calls) -> float:
    """Of intervals that hold 90 %: how wide they are, plus ten times how far the others are outside, which is least for
    the true quantiles (the pinball loss)."""
    width = np.log(interval.high) * calls.growth(interval)
    return float(np.mean(width + np.maximum(0, calls.off - width) / (1 - _COVERAGE)))


def symmetric_interval(calls: Calls, kind: Interval) -> Interval:
    """Split-conformal: how far measured and predicted are apart, whichever is larger, beside what intervals of this
    kind grow by. Of a few dozen calls the ends by themselves say little: either would be the outermost call."""
    factor = float(np.exp(_bound(calls.off / calls.growth(kind), _COVERAGE)))
    return replace(kind, low=1 / factor, high=factor)


def conformal_interval(predicted: Array, measured: Array, up_to_us: float) -> Interval:
    """Split-conformal: the quantiles of measured over predicted, with the finite-sample correction."""
    ratio, below = measured / predicted, (1 + _COVERAGE) / 2
    return Interval(up_to_us, -_bound(-ratio, below), _bound(ratio, below))


def _bound(values: Array, share: float) -> float:
    """What so large a share of further values stays below: their quantile with the finite-sample correction."""
    rank = min(len(values), int(np.ceil((len(values) + 1) * share)))
    return float(np.sort(values)[rank - 1])

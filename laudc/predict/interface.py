"""What a latency model of a device offers, whatever the device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from laudc.predict.families import Record
from laudc.predict.frame import AnyFrame
from laudc.predict.selection import Amounts
from laudc.predict.work import Work

Array = np.ndarray


@dataclass(frozen=True)
class Place:
    """Where a block stands.

    Attributes:
        sums_known: whether the block before left the sums its channel masker needs.
        far: share of the weights that has fallen out of the last-level cache since the call before (0 to 1).
        cold: of the first block, the share of the buffers and of what the runtime itself needs that has; 0 for others.
        behind: whether the block is ours and the one before it the runtime's, which leaves nothing of ours in a core's
            own caches.
    """

    sums_known: bool = False
    far: float = 1.0
    cold: float = 0.0
    behind: bool = False


# The first block of a call that finds nothing in the caches.
COLD = Place(cold=1.0)


@dataclass(frozen=True)
class Scheduled:
    """One block and who computes it ("sparse": our kernels, "dense": the runtime)."""

    record: Record
    execution: str

    @property
    def sparse(self) -> bool:
        """Whether our kernels compute it."""
        return self.execution == "sparse"


# With two cores of a virtual machine nine tenths of all readings in a quiet hour lie within 0.03.
_HANDOVER_NOISE = 0.02


@dataclass(frozen=True)
class Conditions:
    """How fast a machine is at the time, told by the fixed work of `laudc.calibrate.pace`.

    Attributes:
        clock_ns: what one thread takes for it in a core's own caches.
        handover: what sharing it out costs: the time that all threads take for it over that of one, less an even share.
        cache_share: how much of the last-level cache neighbours leave, as a share; NaN where nobody knows.
    """

    clock_ns: float
    handover: float
    cache_share: float = math.nan

    def excess(self, usual: Conditions) -> float:
        """How much the handover is above the usual one and what it differs by from one second to the next; below that
        nothing is cheaper than usual."""
        return max(0.0, self.handover - usual.handover - _HANDOVER_NOISE)

    def left_of_cache(self, usual: Conditions) -> float:
        """How much of the cache is left of what usually is; all of that where nobody knows either."""
        left = self.cache_share / usual.cache_share
        return 1.0 if math.isnan(left) else min(1.0, left)


# What an `Interval` may grow with.
_GROWTH = ("small_us", "by_handover", "by_clock")


@dataclass(frozen=True)
class Interval:
    """Factors (low, high) around predictions up to `up_to_us` that hold the measurement in 90 % of cases.

    That is for large calls under usual conditions: intervals of others are wider.

    Attributes:
        small_us: a call of so many µs has an interval twice as wide as a large one.
        by_handover, by_clock: by how many times more it is wider, per excess of the handover and per logarithm of the
            clock over the usual one.
    """

    up_to_us: float
    low: float
    high: float
    small_us: float = 0.0
    by_handover: float = 0.0
    by_clock: float = 0.0

    def growth(self, mean_us: Array | float, excess: Array | float, clock: Array | float) -> Array:
        """How many times as wide it is for a call of `mean_us` at this excess of the handover and this clock over the
        usual one; no clock and no handover makes it narrower than the usual ones do."""
        slower = np.maximum(0.0, np.log(clock))
        growth = (1 + self.small_us / mean_us) * (1 + self.by_handover * excess) * (1 + self.by_clock * slower)
        return np.asarray(growth)

    def grown(self, times: float) -> Interval:
        """The factors of an interval so many times as wide."""
        return Interval(self.up_to_us, self.low**times, self.high**times)

    def to_dict(self) -> dict[str, float]:
        """Plain data for a device profile; what it does not grow with is left out."""
        growth = {name: value for name, value in asdict(self).items() if name in _GROWTH and value}
        return {"up_to_us": self.up_to_us, "low": round(self.low, 4), "high": round(self.high, 4), **growth}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Interval:
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        found = cls(**{name: float(value) for name, value in data.items()})
        if not (0 < found.low <= found.high < math.inf and min(getattr(found, name) for name in _GROWTH) >= 0):
            raise ValueError(f"an interval from {found.low} to {found.high}")
        return found


class LatencyModel(Protocol):
    """Predicts calls on one device. All times in nanoseconds."""

    @property
    def threads(self) -> int:
        """Threads of the CPU that a call uses; 0 for other devices."""

    @property
    def conditions(self) -> Conditions | None:
        """What predictions are for; None where nobody knows. Those of a calibrated CPU are the usual ones, unless `at`
        says otherwise."""

    def at(self, conditions: Conditions) -> LatencyModel:
        """The same model under other conditions; itself where it knows of none."""

    @property
    def last_cache(self) -> int:
        """Bytes of the cache in which weights may stay from one call to the next."""

    def variants(self, record: Record) -> tuple[Record, ...]:
        """The records by which our kernels for the device can run a block; none where they do not cover it."""

    def batch_ns(self, record: Record, counts: Work, place: Place, groups: Array) -> Array:
        """Time of a block of ours for each call; `groups` (calls, batch) says which images a call computes."""

    def dense_ns(self, record: Record, batch: int = 1, far: float = 1.0) -> float:
        """Time of a block that the runtime computes, whatever its masks keep."""

    def frame_ns(self, frame: AnyFrame, *, own_stem: bool, batch: int = 1, place: Place = COLD) -> float:
        """Time of stem, head and the call itself, what depends on what is found left out; `own_stem`: the first block
        is ours, and the stem fused with it; `place`: of the first block."""

    def found_ns(self, amounts: Amounts) -> Array:
        """Time (images,) of what depends on what is found in each image of a detector."""

    def border_ns(self, before: Scheduled | None, block: Scheduled | None, batch: int = 1) -> float:
        """Time that the border between two blocks costs; `before` None: the beginning, `block` None: the end."""

    def block_interval(self, mean_us: float) -> Interval | None:
        """The interval of block predictions around `mean_us`, where one was calibrated."""

    def network_interval(self, mean_us: float) -> Interval | None:
        """The interval of end-to-end predictions around `mean_us` under these conditions, where one was calibrated."""

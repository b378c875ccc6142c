"""What a latency model of a device offers, whatever the device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

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


@dataclass(frozen=True)
class Interval:
    """Factors (low, high) around predictions up to `up_to_us` that hold the measurement in 90 % of cases."""

    up_to_us: float
    low: float
    high: float


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
        """The interval of end-to-end predictions around `mean_us`, where one was calibrated."""

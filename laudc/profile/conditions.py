"""The conditions that a machine is under while it is measured."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from laudc.predict.interface import Conditions


_LOOKS = 5


def _nobody_looks(call: Callable[[], Any], last_ns: float) -> None:
    pass


@dataclass
class Watch:
    """What `watched_conditions` has seen; None before it ends, and where nobody looked. `change`: how many times as
    long as at best shared work took at worst. `evened`: (calls,) of factors that bring each timed call to the pace that
    was there on average, which `conditions` tell. `between`: to be called after each timed call, with it and its time
    (see `laudc.calibrate.pace.PaceWatch`)."""

    conditions: Conditions | None = None
    change: float = 1.0
    evened: NDArray[np.float64] | None = None
    between: Callable[[Callable[[], Any], float], None] = _nobody_looks


@contextlib.contextmanager
def watched_conditions(threads: int) -> Iterator[Watch]:
    """Times the fixed work of `laudc.calibrate.pace`, alone and shared by so many threads, before and after, and
    between the calls as in a calibration. All threads rest when it does. A look takes some milliseconds, which anything
    may disturb: of several the middle one counts."""
    from laudc.calibrate.measure import CpuMeasurer
    from laudc.calibrate.pace import Pace, conditions, of_known_shares, shared_change
    from laudc.calibrate.pinning import caller_pinned
    from laudc.calibrate.resting import settle

    meter = CpuMeasurer().pace(threads)
    meanwhile = meter.meanwhile()
    watch = Watch(between=meanwhile.between)

    def look() -> Pace:
        seen = []
        for _ in range(_LOOKS):
            settle()
            with caller_pinned():
                seen.append(meter.in_caches())
        clock_ns = statistics.median(pace.clock_ns for pace in seen)
        shared = statistics.median(pace.shared for pace in seen)
        return Pace(clock_ns, clock_ns * shared, math.nan, of_known_shares(seen, statistics.median))

    before = look()
    settle()
    yield watch
    paces = tuple(map(meanwhile.told, (before, look())))
    watch.evened = meanwhile.evened()
    watch.conditions, watch.change = conditions(paces, threads), shared_change(paces)

"""The conditions that a machine is under while it is measured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laudc.calibrate.pace import Pace
    from laudc.predict.interface import Conditions


@dataclass
class Watch:
    """What `watched_conditions` has seen; None before it ends, and where nobody looked."""

    conditions: Conditions | None = None


@contextlib.contextmanager
def watched_conditions(threads: int) -> Iterator[Watch]:
    """Times the fixed work of `laudc.calibrate.pace`, alone and shared by so many threads, before and after."""
    from laudc.calibrate.measure import CpuMeasurer
    from laudc.calibrate.pace import conditions
    from laudc.calibrate.pinning import caller_pinned

    meter, watch = CpuMeasurer().pace(threads), Watch()

    def look() -> Pace:
        with caller_pinned():
            return meter.in_caches()

    before = look()
    yield watch
    watch.conditions = conditions((before, look()), threads)

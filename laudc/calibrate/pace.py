"""How fast the machine is right now: a small fixed piece of work, timed again and again.

In a virtual machine neighbours slow a core down without any process of ours to show for it: everything takes 1.3 or 1.7
times as long for some seconds. Timing something known before and after each measurement tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

_CALLS = 25


class Pace:
    """Times `call`, which always does the same; `best_ns` is the fastest so far."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.best_ns = float("inf")

    def now_ns(self) -> float:
        """Lower quartile of a few calls: how fast it can be now, not how often it was interrupted."""
        self._call()
        times = []
        for _ in range(_CALLS):
            start = time.perf_counter_ns()
            self._call()
            times.append(time.perf_counter_ns() - start)
        found = float(np.percentile(times, 25))
        self.best_ns = min(self.best_ns, found)
        return found

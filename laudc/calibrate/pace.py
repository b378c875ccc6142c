"""How fast the machine is right now: small fixed pieces of work, timed again and again.

In a virtual machine neighbours slow a core down without any process of ours to show for it: everything takes 1.3 or 1.7
times as long for some seconds, or only what comes from memory does. Timing something known before and after each
measurement tells.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

_CALLS = 25
# Floats that are read at a time, and pieces of so many: more than most last-level caches hold.
_STREAM, _PIECES = 4 << 20, 16


class Pace:
    """Times `call`, which always does the same and stays in a core's own caches, and reading from memory; `best_ns` is
    the fastest so far."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.best_ns = float("inf")

    def now_ns(self) -> float:
        """Both pieces of work together; of each the lower quartile of a few calls: how fast it can be now, not how
        often it was interrupted."""
        self._call()
        found = _quartile_ns([self._call] * _CALLS) + _quartile_ns([piece.sum for piece in _memory()])
        self.best_ns = min(self.best_ns, found)
        return found


@functools.cache
def _memory() -> np.ndarray:
    """What is read, the same for every number of threads."""
    return np.ones((_PIECES, _STREAM), np.float32)


def _quartile_ns(calls: list[Callable[[], Any]]) -> float:
    times = []
    for call in calls:
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return float(np.percentile(times, 25))

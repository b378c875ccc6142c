"""Whether other processes disturb a measurement: the processor time that is not ours."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STAT = Path("/proc/stat")
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class LoadMeter:
    """Measures from its creation on; `foreign()` is the share of one core that others used since then (0 where the
    operating system does not tell)."""

    def __init__(self) -> None:
        self._busy, self._own, self._wall = _busy_s(), _own_s(), time.monotonic()

    def foreign(self) -> float:
        """Seconds that other processes (or, in a virtual machine, other guests) ran per second; at least 0."""
        wall = time.monotonic() - self._wall
        busy = _busy_s()
        if busy is None or self._busy is None or wall <= 0:
            return 0.0
        return max(0.0, (busy - self._busy - (_own_s() - self._own)) / wall)


def _own_s() -> float:
    spent = os.times()
    return spent.user + spent.system


def _busy_s() -> float | None:
    """Seconds that all cores together have been busy, time stolen by a hypervisor included."""
    try:
        fields = [int(value) for value in _STAT.read_text().split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _iowait, irq, softirq, *rest = fields
    return (user + nice + system + irq + softirq + (rest[0] if rest else 0)) / _TICK

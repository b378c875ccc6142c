"""The clock rates and power settings that measured times depend on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_FILES = {"governor": "scaling_governor", "max_khz": "cpuinfo_max_freq", "min_khz": "scaling_min_freq"}
_CPUINFO = Path("/proc/cpuinfo")


def read_clocks() -> dict[str, Any]:
    """What the operating system tells: governor, limits, the present clock in MHz. Unknown ones are left out."""
    found: dict[str, Any] = {}
    for key, name in (
        ("governor", "scaling_governor"),
        ("max_khz", "cpuinfo_max_freq"),
        ("min_khz", "scaling_min_freq"),
    ):
        try:
            text = (_CPUFREQ / name).read_text().strip()
        except OSError:
            continue
        found[key] = int(text) if text.isdigit() else text
    try:
        now = re.search(r"^cpu MHz\s*:\s*([\d.]+)", _CPUINFO.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        now = None
    if now is not None:
        found["mhz"] = round(float(now.group(1)))
    return found

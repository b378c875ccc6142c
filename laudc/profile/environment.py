"""The circumstances of a measurement, without which its numbers mean little."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from laudc.devices import detect_host

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe_environment(backend: Any) -> dict[str, Any]:
    """Machine, versions and load. Holds no path, host or user name: reports are passed on."""
    import numpy
    import onnxruntime

    import laudc

    return {
        "host": detect_host().to_dict(),
        "system": f"{platform.system()} {platform.release()}",
        "governor": _read(_GOVERNOR),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "laudc": laudc.__version__,
        "numpy": numpy.__version__,
        "onnxruntime": onnxruntime.__version__,
        "native_library": backend.native_abi(),
        "clock": "perf_counter_ns around the Python call; blocks: steady clock inside the library",
    }


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None

"""How fast the machine is now, beside how fast it was when its latency model was calibrated."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laudc.calibrate.pace import Pace
    from laudc.engine.manifest import Manifest
    from laudc.profile.compare import Comparison

# A difference that is worth a word: predictions are about as good as this.
_WORTH_SAYING = 0.08
_TIMES = 3


def pace_since_calibration(
    manifest: Manifest, comparison: Comparison, device: str | os.PathLike[str] | None = None
) -> float | None:
    """Time that fixed pieces of work take now, over what they took during calibration; None where that is not known,
    or where the calibration is of another machine. Takes about a second; nothing else should run meanwhile.

    `device`: profile that was predicted with; None: the one of the engine's name.
    """
    from laudc.devices import load_profile
    from laudc.devices.profile import MEASURED

    profile = load_profile(device or manifest.device.id)
    calibrated = calibrated_pace_ns(profile.calibration, comparison.threads)
    if profile.kind != "cpu" or comparison.status != MEASURED or calibrated is None:
        return None
    return _pace_now_ns(comparison.threads) / calibrated


def calibrated_pace_ns(calibration: Mapping[str, Any], threads: int) -> float | None:
    """Of a calibration with so many threads; None in one that does not say."""
    clocks = calibration.get("clocks")
    paces = clocks.get("pace_ns") if isinstance(clocks, Mapping) else None
    pace = paces.get(str(threads)) if isinstance(paces, Mapping) else None
    return float(pace) if isinstance(pace, (int, float)) and pace > 0 else None


def pace_note(ratio: float) -> str | None:
    """A sentence for a machine that is slower or faster than it was; None where the difference says nothing."""
    if abs(ratio - 1) <= _WORTH_SAYING:
        return None
    how = f"{ratio - 1:.0%} slower" if ratio > 1 else f"{1 - ratio:.0%} faster"
    return (
        f"This machine is {how} now than when it was calibrated, by fixed work timed then and now; "
        "predictions miss by some of that."
    )


def _pace_now_ns(threads: int) -> float:
    from laudc.calibrate.measure import SETTLE_SECONDS, CpuMeasurer
    from laudc.calibrate.pinning import caller_pinned

    pace = CpuMeasurer().pace(threads)
    with caller_pinned():
        return statistics.median(_settled(pace, SETTLE_SECONDS) for _ in range(_TIMES))


def _settled(pace: Pace, seconds: float) -> float:
    """Threads of the call before spin for a while."""
    time.sleep(seconds)
    return pace.now_ns()

"""How fast the machine is now, beside how fast it was when its latency model was calibrated."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laudc.calibrate.measure import CpuMeasurer
    from laudc.calibrate.pace import Pace
    from laudc.engine.manifest import Manifest
    from laudc.profile.compare import Comparison

# A difference that is worth a word: predictions are about as good as this.
_WORTH_SAYING = 0.08
_TIMES = 3
_LONGEST_NS = 1e12


def pace_since_calibration(
    manifest: Manifest, comparison: Comparison, device: str | os.PathLike[str] | None = None
) -> float | None:
    """Time that fixed pieces of work take now, over what they took during calibration; None where that is not known,
    or where the calibration is of another machine or of other versions, which the work runs through too. Takes about a
    second and, for reading from memory, 256 MiB; nothing else should run meanwhile.

    `device`: profile that was predicted with; None: the one of the engine's name.
    """
    from laudc.calibrate.measure import CpuMeasurer
    from laudc.devices import load_profile
    from laudc.devices.profile import MEASURED

    profile = load_profile(device or manifest.device.id)
    calibrated = calibrated_pace_ns(profile.calibration, _family(manifest), comparison.threads)
    if profile.kind != "cpu" or comparison.status != MEASURED or calibrated is None:
        return None
    measurer = CpuMeasurer()
    if not _same_versions(profile.calibration, measurer.facts()):
        return None
    return _pace_now_ns(measurer, comparison.threads) / calibrated


def _same_versions(calibration: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    machine = calibration.get("machine")
    return isinstance(machine, Mapping) and all(machine.get(key) == facts[key] for key in ("onnxruntime", "library"))


def _family(manifest: Manifest) -> str | None:
    """Of the blocks that our kernels run."""
    from laudc.predict.families import family_of_network, record_of

    records = [block.get("record") for block in manifest.blocks]
    return family_of_network(record_of(record) for record in records if isinstance(record, dict))


def calibrated_pace_ns(calibration: Mapping[str, Any], family: str | None, threads: int) -> float | None:
    """While networks of that family were calibrated with so many threads; None where it is not said, or where what is
    said is no time that fixed work could take."""
    families = calibration.get("families")
    section = families.get(family) if isinstance(families, Mapping) else None
    fits = section.get("fits") if isinstance(section, Mapping) else None
    for fit in fits if isinstance(fits, list) else ():
        if isinstance(fit, Mapping) and fit.get("threads") == threads:
            pace = fit.get("pace_ns")
            usable = isinstance(pace, (int, float)) and not isinstance(pace, bool) and 0 < pace <= _LONGEST_NS
            return float(pace) if usable else None  # type: ignore[arg-type]
    return None


def pace_note(ratio: float) -> str | None:
    """A sentence for a machine that is slower or faster than it was; None where the difference says nothing."""
    if abs(ratio - 1) <= _WORTH_SAYING:
        return None
    how = f"{ratio - 1:.0%} slower" if ratio > 1 else f"{1 - ratio:.0%} faster"
    return (
        f"This machine is {how} now than when it was calibrated, by fixed work timed then and now; "
        "predictions miss by some of that."
    )


def _pace_now_ns(measurer: CpuMeasurer, threads: int) -> float:
    from laudc.calibrate.measure import SETTLE_SECONDS
    from laudc.calibrate.pinning import caller_pinned

    pace = measurer.pace(threads)
    with caller_pinned():
        times = [_settled(pace, SETTLE_SECONDS) for _ in range(_TIMES + 1)]
    # Calibrations keep the slower one of before and after.
    return statistics.median(map(max, times, times[1:]))


def _settled(pace: Pace, seconds: float) -> float:
    """Threads of the call before spin for a while."""
    time.sleep(seconds)
    return pace.now_ns()

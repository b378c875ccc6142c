"""The clock that a machine runs at, beside the one that its latency model was calibrated at."""

from __future__ import annotations


def relative_clock(calibrated_ns: float) -> float:
    """How fast the machine's clock is now, as a multiple of the one at which the fixed work of `laudc.calibrate.pace`
    took `calibrated_ns`."""
    from laudc.calibrate.measure import CpuMeasurer
    from laudc.calibrate.pinning import caller_pinned

    meter = CpuMeasurer().pace(1)
    with caller_pinned():
        return calibrated_ns / meter.clock_ns()

"""Measuring this machine and fitting its device profile."""

from __future__ import annotations

from laudc import make_callable
from laudc.calibrate.run import CalibrationResult, calibrate

__all__ = ["CalibrationResult", "calibrate"]

make_callable(__name__, calibrate)

"""The CPU model that a device profile holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laudc.devices import DeviceProfile
from laudc.errors import UserError
from laudc.predict.cpu.model import CpuModel, Fit
from laudc.predict.cpu.terms import TILE_ROWS, Machine

MODEL = "laudc-cpu"
VERSION = 2


def cpu_model(profile: DeviceProfile, threads: int, isa: str | None = None) -> CpuModel | None:
    """The model for so many threads: the fit for the nearest number that was measured.

    None when the profile has no calibration, or one for other kernels than `isa` (None: whatever it was measured
    with). Raises UserError for a calibration that is damaged.
    """
    calibration = profile.calibration
    if not calibration:
        return None
    try:
        return _read(calibration, threads, isa)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"the calibration in the device profile {profile.path} cannot be used",
            f"{type(error).__name__}: {error}",
            "calibrate again: laudc calibrate",
        ) from error


def _read(calibration: Mapping[str, Any], threads: int, isa: str | None) -> CpuModel | None:
    if calibration["model"] != MODEL or calibration["version"] != VERSION:
        raise ValueError(f"it holds the model {calibration['model']!r}, version {calibration['version']!r}")
    machine = calibration["machine"]
    measured = str(machine["isa"])
    if measured not in TILE_ROWS:
        raise ValueError(f"unknown kernels {measured!r}")
    if isa is not None and isa != measured:
        return None
    fits = [Fit.from_dict(entry) for entry in calibration["fits"]]
    fit = min(fits, key=lambda one: (abs(one.threads - threads), one.threads))
    caches = int(machine["last_cache"]), int(machine["second_cache"])
    return CpuModel(Machine(measured, fit.threads, *caches), fit)

"""The CPU model that a device profile holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laudc.devices import DeviceProfile
from laudc.errors import UserError
from laudc.predict.cpu.amounts import TILE_ROWS, Machine
from laudc.predict.cpu.model import CpuModel, Fit
from laudc.predict.families import FAMILIES, RESNET

MODEL = "laudc-cpu"
# Amounts of earlier versions meant other work: their coefficients cannot be converted.
VERSION = 10
# Means the same, but what is left of the last-level cache was seen in another way, less well: its predictions are not
# told it.
_NOT_TOLD_CACHE = 9


def cpu_model(profile: DeviceProfile, threads: int, isa: str | None = None, family: str = RESNET) -> CpuModel | None:
    """The model of a family for so many threads: the fit for the nearest number that was measured.

    None when the profile has no calibration of this family, or one for other kernels than `isa` (None: whatever it was
    measured with). Raises UserError for a calibration that is damaged.
    """
    calibration = profile.calibration
    if not calibration:
        return None
    try:
        return _read(calibration, threads, isa, family)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"the calibration in the device profile {profile.path} cannot be used",
            f"{type(error).__name__}: {error}",
            "calibrate again: laudc calibrate",
        ) from error


def family_sections(calibration: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The section of every family that a calibration has measured.

    Raises KeyError, TypeError, ValueError or AttributeError for a calibration that is none.
    """
    model, version = calibration["model"], calibration["version"]
    if model != MODEL or version not in (VERSION, _NOT_TOLD_CACHE):
        raise ValueError(f"it holds the model {model!r}, version {version!r}")
    sections = dict(calibration["families"])
    if version == _NOT_TOLD_CACHE:
        sections = {family: _without_cache(section) for family, section in sections.items()}
    unknown = set(sections) - set(FAMILIES)
    if unknown:
        raise ValueError(f"unknown families {', '.join(sorted(map(str, unknown)))}")
    return sections


def _without_cache(section: Mapping[str, Any]) -> dict[str, Any]:
    fits = [{name: value for name, value in fit.items() if name != "cache_share"} for fit in section["fits"]]
    return {**section, "fits": fits}


def _read(calibration: Mapping[str, Any], threads: int, isa: str | None, family: str) -> CpuModel | None:
    sections = family_sections(calibration)
    machine = calibration["machine"]
    measured = str(machine["isa"])
    if measured not in TILE_ROWS:
        raise ValueError(f"unknown kernels {measured!r}")
    if family not in sections or isa not in (None, measured):
        return None
    fits = [Fit.from_dict(entry, family) for entry in sections[family]["fits"]]
    fit = min(fits, key=lambda one: (abs(one.threads - threads), one.threads))
    caches = int(machine["last_cache"]), int(machine["second_cache"])
    return CpuModel(Machine(measured, fit.threads, *caches), fit)

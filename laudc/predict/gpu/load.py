"""What a calibration found out about a GPU, as a device profile holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from laudc.devices import DeviceProfile
from laudc.errors import UserError
from laudc.predict.families import FAMILIES
from laudc.predict.gpu.launch import FP32_EFFICIENCY, Gpu
from laudc.predict.interface import Interval

MODEL = "laudc-cuda"
# Version 1 knew tiles that the kernels do not have, and no family but ResNets.
VERSION = 2
_NUMBERS = ("launch_us", "compute_efficiency", "fp32_efficiency", "memory_efficiency", "latency_factor", "replay_us")


@dataclass(frozen=True)
class FamilyIntervals:
    """Intervals of a family that was measured."""

    blocks: tuple[Interval, ...] = ()
    network: Interval | None = None

    def block(self, mean_us: float) -> Interval | None:
        """That of blocks of this size."""
        return next((one for one in self.blocks if mean_us <= one.up_to_us), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a device profile."""
        return {
            "blocks": [interval.to_dict() for interval in self.blocks],
            "network": None if self.network is None else self.network.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FamilyIntervals:
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        network = data["network"]
        blocks = tuple(Interval.from_dict(entry) for entry in data["blocks"])
        return cls(blocks, None if network is None else Interval.from_dict(network))


@dataclass(frozen=True)
class GpuFit:
    """Coefficients for one data type.

    launch_us: of a kernel in a replayed graph. compute_efficiency, fp32_efficiency, memory_efficiency: as of `Gpu`, of
    the profile's peak rates; above 1 where the profile states too little. latency_factor: as of `Gpu`. replay_us: fixed
    cost of replaying a graph, no part of predictions. families: those that were measured.
    """

    precision: str
    launch_us: float
    compute_efficiency: float
    memory_efficiency: float
    replay_us: float = 0.0
    fp32_efficiency: float = FP32_EFFICIENCY
    latency_factor: float = 1.0
    families: Mapping[str, FamilyIntervals] = field(default_factory=dict)

    def applied_to(self, gpu: Gpu) -> Gpu:
        """The GPU as it was measured."""
        return replace(
            gpu,
            launch_ns=self.launch_us * 1e3,
            compute_efficiency=self.compute_efficiency,
            fp32_efficiency=self.fp32_efficiency,
            memory_efficiency=self.memory_efficiency,
            latency_factor=self.latency_factor,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a device profile."""
        rounded = {name: float(f"{getattr(self, name):.4g}") for name in _NUMBERS}
        families = {family: intervals.to_dict() for family, intervals in self.families.items()}
        return {"precision": self.precision, **rounded, "families": families}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GpuFit:
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        numbers = {name: float(data[name]) for name in _NUMBERS}
        if min(numbers.values()) < 0 or min(numbers[name] for name in _NUMBERS if not name.endswith("_us")) == 0:
            raise ValueError("coefficients must be positive")
        unknown = set(data["families"]) - set(FAMILIES)
        if unknown:
            raise ValueError(f"unknown families {', '.join(sorted(map(str, unknown)))}")
        families = {family: FamilyIntervals.from_dict(entry) for family, entry in data["families"].items()}
        return cls(str(data["precision"]), **numbers, families=families)


def gpu_fit(profile: DeviceProfile, precision: str) -> GpuFit | None:
    """The fit for a data type; None when the profile has none. Raises UserError for a calibration that is damaged."""
    calibration = profile.calibration
    if not calibration:
        return None
    try:
        if calibration["model"] != MODEL or calibration["version"] != VERSION:
            raise ValueError(f"it holds the model {calibration['model']!r}, version {calibration['version']!r}")
        fits = [GpuFit.from_dict(entry) for entry in calibration["fits"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"the calibration in the device profile {profile.path} cannot be used",
            f"{type(error).__name__}: {error}",
            f"calibrate again: laudc calibrate --device {profile.id}",
        ) from error
    return next((fit for fit in fits if fit.precision == precision), None)

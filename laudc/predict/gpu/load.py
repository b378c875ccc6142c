"""What a calibration found out about a GPU, as a device profile holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from laudc.devices import DeviceProfile
from laudc.errors import UserError
from laudc.predict.gpu.gemm import Gpu
from laudc.predict.interface import Interval

MODEL = "laudc-cuda"
VERSION = 1


@dataclass(frozen=True)
class GpuFit:
    """Coefficients for one data type.

    launch_us: of a kernel in a replayed graph. compute_efficiency, memory_efficiency: of the profile's peak rates;
    above 1 where the profile states too little. replay_us: fixed cost of replaying a graph, no part of predictions.
    """

    precision: str
    launch_us: float
    compute_efficiency: float
    memory_efficiency: float
    replay_us: float = 0.0
    block_intervals: tuple[Interval, ...] = ()
    network_interval: Interval | None = None

    def applied_to(self, gpu: Gpu) -> Gpu:
        """The GPU as it was measured."""
        return replace(
            gpu,
            launch_ns=self.launch_us * 1e3,
            compute_efficiency=self.compute_efficiency,
            memory_efficiency=self.memory_efficiency,
        )

    def block_interval(self, mean_us: float) -> Interval | None:
        """That of blocks of this size."""
        return next((one for one in self.block_intervals if mean_us <= one.up_to_us), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a device profile."""
        numbers = ("launch_us", "compute_efficiency", "memory_efficiency", "replay_us")
        return {**asdict(self), **{name: float(f"{getattr(self, name):.4g}") for name in numbers}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GpuFit:
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        numbers = {
            name: float(data[name]) for name in ("launch_us", "compute_efficiency", "memory_efficiency", "replay_us")
        }
        if min(numbers.values()) < 0 or min(numbers["compute_efficiency"], numbers["memory_efficiency"]) == 0:
            raise ValueError("coefficients must be positive")
        network = data.get("network_interval")
        return cls(
            str(data["precision"]),
            **numbers,
            block_intervals=tuple(Interval(**entry) for entry in data.get("block_intervals", ())),
            network_interval=None if network is None else Interval(**network),
        )


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

"""Devices as the authors' model sees them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property

from laudc.devices import DeviceProfile, load_profile
from laudc.errors import UserError

# The names that the authors' scripts and recorded values use.
_AUTHORS_NAMES = {"3060": "rtx3060", "3090": "rtx3090"}

# What all devices of the authors have in common; taken for devices that they have no parameters for.
_COMMON_L2_FACTOR = 4.0
_COMMON_LAUNCH_S = 8e-6
_LARGEST_BATCH = 1 << 20


@dataclass(frozen=True)
class CompatDevice:
    """Parameters of the model.

    `units` processing elements (SMs) with `lanes` fp32 units each, one multiply-add per lane and cycle; DRAM at
    `dram_bytes_s`, second-level cache `l2_factor` times as fast; `batch` samples per call; `launch_s` per kernel;
    `pipeline_depth` × lanes elements fill a processing element; memory transactions are `coalescing` elements wide.
    `overlap` False adds compute and memory time, as all devices of the authors do; True takes the larger.
    `authors` says whether the authors published these numbers.
    """

    name: str
    units: float
    lanes: float
    clock_hz: float
    dram_bytes_s: float
    l2_factor: float
    batch: int
    launch_s: float = _COMMON_LAUNCH_S
    pipeline_depth: float = 4.0
    coalescing: float = 8.0
    overlap: bool = False
    authors: bool = True

    @cached_property
    def dram_elements_s(self) -> float:
        """fp32 elements per second from and to DRAM."""
        return self.dram_bytes_s / 4

    @cached_property
    def l2_elements_s(self) -> float:
        """fp32 elements per second from and to the second-level cache."""
        return self.dram_elements_s * self.l2_factor

    @cached_property
    def unit_macs_s(self) -> float:
        """Multiply-adds per second of one processing element."""
        return self.clock_hz * self.lanes

    @cached_property
    def fill_lanes(self) -> float:
        """Elements that fill one processing element."""
        return self.pipeline_depth * self.lanes

    def with_batch(self, batch: int) -> CompatDevice:
        """The same device at another batch size."""
        return self if batch == self.batch else replace(self, batch=batch)


def compat_device(device: str | os.PathLike[str] | DeviceProfile, *, batch: int | None = None) -> CompatDevice:
    """The model's view of a device profile (a name, a path of one, or the profile); the authors' names work too.

    For a device that the authors have no parameters for, the profile's own numbers stand in, with the launch time and
    L2 factor that all devices of the authors share; `authors` is False then. `batch` replaces the device's own.

    Raises:
        UserError: there is no such device, or `batch` is out of range.
    """
    if isinstance(device, DeviceProfile):
        profile = device
    else:
        name = os.fspath(device)
        profile = load_profile(_AUTHORS_NAMES.get(name, name))
    found = _of_authors(profile) if profile.laudnet else _stand_in(profile)
    if batch is None:
        return found
    if not 1 <= batch <= _LARGEST_BATCH:
        raise UserError(f"batch {batch} is not possible", f"it can be 1 to {_LARGEST_BATCH}", "give a size between")
    return found.with_batch(batch)


def _of_authors(profile: DeviceProfile) -> CompatDevice:
    given = profile.laudnet
    assert given is not None
    return CompatDevice(
        name=profile.id,
        units=given.units,
        lanes=given.lanes,
        clock_hz=given.clock_hz,
        dram_bytes_s=given.dram_bytes_s,
        l2_factor=given.l2_factor,
        batch=given.batch,
        launch_s=given.launch_s,
        pipeline_depth=given.pipeline_depth,
        coalescing=given.coalescing,
    )


def _stand_in(profile: DeviceProfile) -> CompatDevice:
    return CompatDevice(
        name=profile.id,
        units=profile.compute.units,
        lanes=profile.compute.lanes,
        clock_hz=profile.compute.clock_ghz * 1e9,
        dram_bytes_s=profile.memory.dram_gb_s * 1e9,
        l2_factor=_COMMON_L2_FACTOR,
        batch=profile.batch,
        # A call on a CPU launches nothing on another device: its own fixed cost is known better.
        launch_s=profile.launch.stream_us * 1e-6 if profile.kind == "cpu" else _COMMON_LAUNCH_S,
        authors=False,
    )

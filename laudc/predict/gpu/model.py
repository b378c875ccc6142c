"""Latency of a network on a GPU, from data sheets: modelled, not measured, unless a profile says otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from laudc.devices import DTYPES, DeviceProfile
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.ops.scheduled_vit import WIDEST_GPU_HEAD, VitRecord
from laudc.predict.behind import Behind
from laudc.predict.families import RESNET, Record, family_of
from laudc.predict.frame import AnyFrame, Frame, VitFrame
from laudc.predict.gpu.dense import Moved, Product, RuntimeLaunch, dense_launches, runtime_ns
from laudc.predict.gpu.families import GPU_FAMILIES
from laudc.predict.gpu.launch import Gpu, Launch, traffic_ns
from laudc.predict.gpu.load import GpuFit, gpu_fit
from laudc.predict.interface import COLD, Conditions, Interval, Place, Scheduled
from laudc.predict.selection import Amounts
from laudc.predict.work import Work

Array = np.ndarray

# The first compute capabilities whose tensor cores our kernels use (plugins/cuda/run.cpp).
_FIRST_TENSOR_SM = {"fp32": 10_000, "tf32": 80}
_FIRST_HALF_SM = 70
_STEM_EFFICIENCY = 0.5
_FLOAT_BYTES = 4


def gpu_model(profile: DeviceProfile, precision: str, *, graphs: bool = True, family: str = RESNET) -> GpuModel:
    """The model of a GPU in a data type; `graphs`: launches are replayed from a graph, not issued one by one. `family`:
    of the networks; a calibration that has not measured it gives no intervals.

    Raises UserError for a data type that the device does not compute in.
    """
    gpu = gpu_of(profile, precision, graphs=graphs)
    # Calibrations replay graphs.
    fit = gpu_fit(profile, precision) if graphs else None
    return GpuModel(gpu if fit is None else fit.applied_to(gpu), fit, family)


def gpu_of(profile: DeviceProfile, precision: str, *, graphs: bool = True) -> Gpu:
    """A profile's GPU as its data sheet has it. Raises UserError as `gpu_model` does."""
    rate = profile.rate(precision)
    clock = profile.compute.clock_ghz * 1e9
    sm = _sm(profile)
    tensor_cores = sm >= _FIRST_TENSOR_SM.get(precision, _FIRST_HALF_SM)
    per_cycle = profile.compute.lanes
    return Gpu(
        sm=sm,
        units=int(profile.compute.units),
        # Without tensor cores our kernels multiply in fp32, also where the device could do so in packed halves.
        gemm_rate=(rate.macs_per_cycle if tensor_cores else per_cycle) * clock,
        fp32_rate=per_cycle * clock,
        runtime_rate=rate.macs_per_cycle * clock,
        tensor_cores=tensor_cores,
        clock_hz=clock,
        max_threads=int(profile.compute.max_threads),
        shared_bytes=profile.compute.shared_kib * 1024,
        dram=profile.memory.dram_gb_s,
        l2=profile.memory.l2_gb_s,
        l2_bytes=profile.memory.l2_kib * 1024,
        element=DTYPES[precision],
        launch_ns=(profile.launch.graph_us if graphs else profile.launch.stream_us) * 1e3,
    )


def _sm(profile: DeviceProfile) -> int:
    """10 · major + minor; of a profile that does not say, the newest."""
    major, _, minor = profile.identity.compute_capability.partition(".")
    return 10 * int(major) + int(minor or 0) if major.isdigit() else 90


class GpuModel:
    """Predicts calls on one GPU. See `laudc.predict.interface.LatencyModel`."""

    threads = 0

    def __init__(self, gpu: Gpu, fit: GpuFit | None = None, family: str = RESNET) -> None:
        self.gpu, self.fit = gpu, fit
        self._intervals = None if fit is None else fit.families.get(family)

    @property
    def measured(self) -> bool:
        """Whether a calibration has measured the family on this GPU."""
        return self._intervals is not None

    def network_interval(self, mean_us: float) -> Interval | None:
        """See `LatencyModel.network_interval`."""
        return None if self._intervals is None else self._intervals.network

    @property
    def conditions(self) -> None:
        """See `LatencyModel.conditions`: those of a GPU are its clocks, which are part of its profile."""
        return None

    def at(self, conditions: Conditions) -> GpuModel:
        """See `LatencyModel.at`."""
        return self

    @property
    def last_cache(self) -> int:
        """Bytes of the second-level cache, were weights stored as floats."""
        return int(self.gpu.l2_bytes * _FLOAT_BYTES / self.gpu.element)

    def block_interval(self, mean_us: float) -> Interval | None:
        """See `LatencyModel.block_interval`."""
        return None if self._intervals is None else self._intervals.block(mean_us)

    def variants(self, record: Record) -> tuple[Record, ...]:
        """See `LatencyModel.variants`: conv2 is direct, heads have a limit."""
        if isinstance(record, VitRecord):
            return (record,) if record.head_dim <= WIDEST_GPU_HEAD else ()
        return (replace(record, conv2_algorithm=Conv2Algorithm.DIRECT),)

    def launches(self, record: Record, counts: Work, place: Place, groups: Array) -> list[Launch]:
        """The launches of a block of ours; arguments as of `batch_ns`."""
        return list(GPU_FAMILIES[family_of(record)].block(record, counts, groups, self.gpu, place.far))

    def batch_ns(self, record: Record, counts: Work, place: Place, groups: Array) -> Array:
        """Time of a block of ours for each call: all images of a call are launched together."""
        return np.asarray(sum(launch.ns(self.gpu) for launch in self.launches(record, counts, place, groups)))

    def dense_ns(self, record: Record, batch: int = 1, far: float = 1.0) -> float:
        """Time of a block in the runtime's own kernels: everything computed, then masked."""
        return self._runtime_ns(dense_launches(record, batch), far)

    def _runtime_ns(self, launches: Iterable[RuntimeLaunch], far: float) -> float:
        return sum(runtime_ns(launch, self.gpu, far) for launch in launches)

    def frame_ns(self, frame: AnyFrame, *, own_stem: bool, batch: int = 1, place: Place = COLD) -> float:
        """Time of stem, head and input; both stems cost the same here."""
        return self._vit_frame_ns(frame, batch) if isinstance(frame, VitFrame) else self._conv_frame_ns(frame, batch)

    def _arithmetic_ns(self, macs: float) -> float:
        return macs / (self.gpu.units * self.gpu.runtime_rate * _STEM_EFFICIENCY) * 1e9

    def _head(self, inputs: int, classes: int, batch: int) -> Product:
        return Product(batch, inputs, classes, inputs)

    def _vit_frame_ns(self, frame: VitFrame, batch: int) -> float:
        work = (Moved(2.0 * frame.stem_floats * batch), self._head(frame.head_inputs, frame.classes, batch))
        macs = self._arithmetic_ns(frame.stem_macs * batch)
        return (frame.stem_nodes - 1) * self.gpu.launch_ns + macs + self._runtime_ns(work, 1.0)

    def _conv_frame_ns(self, frame: Frame, batch: int) -> float:
        pixels = frame.height * frame.width / 4 * batch
        work = (
            Moved(pixels * (frame.stem_channels * 2.25 + 12)),
            Moved(float(frame.head_inputs * frame.head_pixels * batch)),
            self._head(frame.head_inputs, frame.classes, batch),
        )
        stem = self.gpu.launch_ns + self._arithmetic_ns(frame.stem_macs * batch)
        return stem + self._runtime_ns(work, 1.0) + self._behind_ns(frame.behind, batch)

    def _behind_ns(self, behind: Behind, batch: int) -> float:
        """Neck, heads and second stage of a detector, every operator a launch."""
        if not behind.nodes:
            return 0.0
        macs = self._arithmetic_ns((behind.pointwise + behind.spatial + behind.products + behind.spread) * batch)
        values = Moved(float(behind.weights + (2 * behind.written + behind.ranked + behind.sampled) * batch))
        return (behind.nodes - 1) * self.gpu.launch_ns + macs + self._runtime_ns((values,), 1.0)

    def found_ns(self, amounts: Amounts) -> Array:
        """RoIAlign reads four values for each that it interpolates; suppression reads both boxes of a pair."""
        size = (4 * amounts.sampled + 8 * amounts.compared) * self.gpu.element
        return np.asarray(traffic_ns(self.gpu, size, size) / self.gpu.memory_efficiency)

    def border_ns(self, before: Scheduled | None, block: Scheduled | None, batch: int = 1) -> float:
        """What begins and ends with a run of ours; nothing within one, or between blocks of the runtime."""
        total = 0.0
        if before is not None and before.sparse and not (block is not None and block.sparse):
            about = GPU_FAMILIES[family_of(before.record)]
            total += self._run_ns((about.closing, about.leaving), before.record, batch)
        if block is not None and block.sparse and not (before is not None and before.sparse):
            about = GPU_FAMILIES[family_of(block.record)]
            total += self._run_ns((about.opening, about.entering), block.record, batch)
        return total

    def run_launches(self, record: BlockRecord | VitRecord, batch: int) -> list[Launch]:
        """What a run of this block alone adds to the block's own launches."""
        about, groups = GPU_FAMILIES[family_of(record)], np.zeros((1, batch), int)
        return [*about.opening(record, groups, self.gpu), *about.closing(record, groups, self.gpu)]

    def _run_ns(self, parts: Iterable[object], record: Record, batch: int) -> float:
        groups = np.zeros((1, batch), int)
        found = (launch for part in parts for launch in part(record, groups, self.gpu))  # type: ignore[operator]
        return sum(float(launch.ns(self.gpu)[0]) for launch in found)

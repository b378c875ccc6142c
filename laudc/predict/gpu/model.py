"""Latency of a network on a GPU, from data sheets: modelled, not measured, unless a profile says otherwise."""

from __future__ import annotations

import numpy as np

from laudc.devices import DTYPES, DeviceProfile
from laudc.errors import UserError
from laudc.ops.scheduled import BlockRecord, ChannelMasker, Conv2Algorithm, RegNetRecord
from laudc.ops.scheduled_vit import VitRecord
from laudc.predict.behind import Behind
from laudc.predict.counts import Counts
from laudc.predict.families import RESNET, Record, family_of
from laudc.predict.frame import AnyFrame, Frame, VitFrame
from laudc.predict.gpu.dense import Launch, Product, regnet_launches, vit_launches
from laudc.predict.gpu.gemm import Gpu, Problem, gemm_ns, moved_ns
from laudc.predict.gpu.load import GpuFit, gpu_fit
from laudc.predict.interface import Interval, Place, Scheduled
from laudc.predict.selection import Amounts
from laudc.predict.work import Work

Array = np.ndarray

_WINOGRAD_POINTS = 16
_RESIDENT_THREADS = 256
_SHARED_KIB_PER_BLOCK = 24


def gpu_model(profile: DeviceProfile, precision: str, *, graphs: bool = True) -> GpuModel:
    """The model of a GPU in a data type; `graphs`: launches are replayed from a graph, not issued one by one.

    Raises UserError for a data type that the device does not compute in.
    """
    rate = profile.dtypes.get(precision)
    if rate is None:
        why = profile.unsupported.get(precision, "the profile gives no rate for it")
        raise UserError(
            f"the device '{profile.id}' does not compute in {precision}",
            why,
            f"use --precision with one of {', '.join(profile.dtypes)}",
        )
    clock = profile.compute.clock_ghz * 1e9
    by_threads = profile.compute.max_threads // _RESIDENT_THREADS
    by_shared = profile.compute.shared_kib // _SHARED_KIB_PER_BLOCK
    launch = profile.launch.graph_us if graphs else profile.launch.stream_us
    gpu = Gpu(
        units=int(profile.compute.units),
        macs_per_s=rate.macs_per_cycle * clock,
        clock_hz=clock,
        resident=int(max(1, min(by_threads or 1, by_shared or 1, 4))),
        dram=profile.memory.dram_gb_s,
        l2=profile.memory.l2_gb_s,
        l2_bytes=profile.memory.l2_kib * 1024,
        element=DTYPES[precision],
        launch_ns=launch * 1e3,
    )
    # Calibrations replay graphs.
    fit = gpu_fit(profile, precision) if graphs else None
    return GpuModel(gpu if fit is None else fit.applied_to(gpu), fit)


class GpuModel:
    """Predicts calls on one GPU. See `laudc.predict.interface.LatencyModel`."""

    threads = 0

    def __init__(self, gpu: Gpu, fit: GpuFit | None = None) -> None:
        self.gpu, self.fit = gpu, fit
        self.network_interval = fit.network_interval if fit is not None else None

    @property
    def last_cache(self) -> int:
        """Bytes of the second-level cache."""
        return int(self.gpu.l2_bytes)

    def block_interval(self, mean_us: float) -> Interval | None:
        """See `LatencyModel.block_interval`."""
        return self.fit.block_interval(mean_us) if self.fit is not None else None

    def obstacle(self, record: Record) -> str:
        """Of our GPU kernels, those for bottlenecks can be predicted."""
        return "" if family_of(record) == RESNET else "the GPU model knows our kernels for ResNets only"

    def batch_ns(self, record: Record, counts: Work, place: Place, groups: Array) -> Array:
        """Time of a block of ours for each call. Rows of all images form one list: an image that skips adds nothing.

        With channel masks every image has its own weights, so images are launched together but read weights each.
        """
        assert isinstance(record, BlockRecord) and isinstance(counts, Counts), self.obstacle(record)
        batch = groups.shape[1]
        if record.channel_groups:
            return self._channel_ns(record, counts, groups)
        return self._block_ns(record, counts.together(groups), batch)

    def _channel_ns(self, record: BlockRecord, counts: Counts, groups: Array) -> Array:
        one = self._block_ns(record, counts, 1)[groups]
        # One launch serves all images of a call.
        launches = self._launches(record) * self.gpu.launch_ns
        return np.asarray((one - launches).sum(axis=1) + launches)

    def _launches(self, record: BlockRecord) -> int:
        maskers = (2 if record.mask_groups else 0) + (2 if record.channel_groups else 0)
        winograd = record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2
        return 3 + maskers + record.projection + (2 if winograd else 0)

    def _block_ns(self, record: BlockRecord, counts: Counts, images: int) -> Array:
        kept = counts.channels
        total = self._maskers_ns(record, images, len(counts))
        pixels = np.full(len(counts), float(record.hout * record.wout * images))
        if record.projection:
            total = total + self._gemm(pixels, record.cin, record.cout, pixels, record.cin)
        total = total + self._gemm(counts.conv1, record.cin, kept, counts.conv1, record.cin)
        total = total + self._conv2_ns(record, counts)
        return total + self._gemm(counts.conv3, kept, record.cout, counts.conv3, kept, extra=1.0)

    def _conv2_ns(self, record: BlockRecord, counts: Counts) -> Array:
        kept = counts.channels
        if record.conv2_algorithm != Conv2Algorithm.WINOGRAD_2X2:
            return self._gemm(counts.conv2, 9 * kept, kept, counts.conv1, kept)
        rows = counts.tiles * _WINOGRAD_POINTS
        multiply = self._gemm(rows, kept, kept, rows, kept)
        # The sixteen matrices are different weights.
        more = (_WINOGRAD_POINTS - 1) * kept * kept * self.gpu.element / self.gpu.dram / self.gpu.memory_efficiency
        there = self._moved_ns(counts.conv1 * kept + rows * kept)
        back = self._moved_ns(rows * kept + counts.conv2 * kept)
        return np.asarray(multiply + np.where(rows > 0, more, 0) + there + back)

    def _maskers_ns(self, record: BlockRecord, images: int, calls: int) -> Array:
        """Maskers read the input once; without a mask there is no masker and nothing is launched."""
        reads = float(record.hin * record.win * record.cin * images)
        total = 0.0
        if record.mask_groups:
            listed = float(record.hin * record.win * images)
            total += float(self._moved_ns(np.asarray(reads))) + float(self._moved_ns(np.asarray(listed)))
        if record.channel_groups:
            inputs = record.masker_hidden or record.cin
            weights = record.masker_hidden * record.cin + record.channel_groups * inputs
            total += float(self._moved_ns(np.asarray(reads))) + float(self._moved_ns(np.asarray(float(weights))))
            if record.channel_masker == ChannelMasker.CONV:
                total += record.masker_hidden * reads / (self.gpu.units * self.gpu.macs_per_s) * 1e9
        return np.full(calls, total)

    def _gemm(
        self,
        rows: Array,
        depth: Array | float,
        columns: Array | float,
        reads: Array,
        inputs: Array | float,
        extra: float = 0.0,
    ) -> Array:
        wide = (np.broadcast_to(np.asarray(value, float), rows.shape) for value in (depth, columns, reads, inputs))
        deep, across, read, channels = wide
        return self._problem_ns(Problem(np.asarray(rows, float), deep, across, read, channels, extra))

    def _problem_ns(self, problem: Problem) -> Array:
        return gemm_ns(problem, self.gpu)

    def _moved_ns(self, elements: Array) -> Array:
        """A launch that moves data and computes next to nothing."""
        size = elements * self.gpu.element
        return np.asarray(self.gpu.launch_ns + moved_ns(size, self.gpu) / self.gpu.memory_efficiency)

    def dense_ns(self, record: Record, batch: int = 1, far: float = 1.0) -> float:
        """Time of a block in the runtime's own kernels: everything computed, then masked."""
        if isinstance(record, VitRecord):
            return sum(map(self._launch_ns, vit_launches(record, batch)))
        if isinstance(record, RegNetRecord):
            maskers = float(self._maskers_ns(record, batch, 1)[0])
            return maskers + sum(map(self._launch_ns, regnet_launches(record, batch)))
        return self._dense_bottleneck_ns(record, batch)

    def _launch_ns(self, launch: Launch) -> float:
        one = np.ones(1)
        if not isinstance(launch, Product):
            return float(self._moved_ns(one * launch.values)[0])
        # Products in one launch share it: their rows lie one after the other.
        rows = one * launch.rows * launch.times
        return float(self._gemm(rows, launch.depth, launch.columns, rows, launch.inputs, extra=launch.extra)[0])

    def _dense_bottleneck_ns(self, record: BlockRecord, batch: int) -> float:
        inner, outer = float(record.hin * record.win * batch), float(record.hout * record.wout * batch)
        one = np.ones(1)
        total = self._maskers_ns(record, batch, 1)
        total = total + self._gemm(one * inner, record.cin, record.width, one * inner, record.cin)
        total = total + self._gemm(one * outer, 9 * record.width, record.width, one * inner, record.width)
        total = total + self._gemm(one * outer, record.width, record.cout, one * outer, record.width, extra=1.0)
        if record.projection:
            total = total + self._gemm(one * outer, record.cin, record.cout, one * outer, record.cin)
        masked = record.cout * outer * bool(record.mask_groups)
        masked += record.width * (inner + outer) * bool(record.channel_groups)
        if masked:
            total = total + self._moved_ns(one * 2 * masked)
        return float(total[0])

    def frame_ns(self, frame: AnyFrame, *, own_stem: bool, batch: int = 1, far: float = 1.0) -> float:
        """Time of stem, head and input; both stems cost the same here."""
        return self._vit_frame_ns(frame, batch) if isinstance(frame, VitFrame) else self._conv_frame_ns(frame, batch)

    def _vit_frame_ns(self, frame: VitFrame, batch: int) -> float:
        macs = frame.stem_macs * batch / (self.gpu.units * self.gpu.macs_per_s * 0.5) * 1e9
        moved = float(self._moved_ns(np.asarray(2.0 * frame.stem_floats * batch)))
        one = np.ones(1)
        head = self._gemm(one * batch, frame.head_inputs, frame.classes, one * batch, frame.head_inputs)
        return (frame.stem_nodes - 1) * self.gpu.launch_ns + macs + moved + float(head[0])

    def _conv_frame_ns(self, frame: Frame, batch: int) -> float:
        pixels = frame.height * frame.width / 4 * batch
        macs = frame.stem_macs * batch / (self.gpu.units * self.gpu.macs_per_s * 0.5) * 1e9
        floats = pixels * (frame.stem_channels * 2.25 + 12)
        stem = self.gpu.launch_ns + macs + float(self._moved_ns(np.asarray(floats)))
        pooled = float(self._moved_ns(np.asarray(float(frame.head_inputs * frame.head_pixels * batch))))
        one = np.ones(1)
        head = self._gemm(one * batch, frame.head_inputs, frame.classes, one * batch, frame.head_inputs)
        return stem + pooled + float(head[0]) + self._behind_ns(frame.behind, batch)

    def _behind_ns(self, behind: Behind, batch: int) -> float:
        """Neck, heads and second stage of a detector, every operator a launch."""
        if not behind.nodes:
            return 0.0
        macs = (behind.pointwise + behind.spatial + behind.products + behind.spread) * batch
        values = behind.weights + (2 * behind.written + behind.ranked + behind.sampled) * batch
        computed = macs / (self.gpu.units * self.gpu.macs_per_s * 0.5) * 1e9
        return (behind.nodes - 1) * self.gpu.launch_ns + computed + float(self._moved_ns(np.asarray(float(values))))

    def found_ns(self, amounts: Amounts) -> Array:
        """RoIAlign reads four values for each that it interpolates; suppression reads both boxes of a pair."""
        values = 4 * amounts.sampled + 8 * amounts.compared
        return np.asarray(moved_ns(values * self.gpu.element, self.gpu) / self.gpu.memory_efficiency)

    def border_ns(self, before: Scheduled | None, block: Scheduled | None, batch: int = 1) -> float:
        """A change of layout between a run of ours and the runtime's kernels; nothing within either."""
        known = before or block
        if known is None or before is None or (block is not None and before.sparse == block.sparse):
            return 0.0
        if block is None and not before.sparse:
            return 0.0
        record = before.record
        assert isinstance(record, BlockRecord), self.obstacle(record)
        return float(self._moved_ns(np.asarray(2.0 * record.hout * record.wout * record.cout * batch)))

"""The launches that residual blocks of every family have in common (plugins/cuda/block_call.cpp, masker.cuh)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from laudc.ops.scheduled import BlockRecord, ChannelMasker
from laudc.predict.gpu.gemm import Matrix, Problem, gemm
from laudc.predict.gpu.images import (
    LIST_THREADS,
    LIST_WARPS,
    Images,
    layer_steps,
    list_steps,
    share_out,
    tail_rounds,
)
from laudc.predict.gpu.launch import STEP_CYCLES, WARP, Gpu, Launch, moved, sectors, spread, traffic_ns

Array = np.ndarray

_THREAD_WINDOW = 64  # pixels of windows that one thread averages
_SUM_SHUFFLES = 5  # of a sum over a warp
# Loads of a dilated list's item: neighbours among the wanted pixels.
_NEIGHBOURS = 4
_BASE_STEPS = 10  # meetings of the block
_LONGEST_RUN = 16


@dataclass(frozen=True)
class ConvBlock:
    """A residual block on a GPU: where its images lie and what weights are in the cache."""

    record: BlockRecord
    images: Images
    gpu: Gpu
    far: float

    @classmethod
    def of(cls, record: BlockRecord, groups: Array, gpu: Gpu, far: float) -> ConvBlock:
        """With a channel mask every image is a segment of its own."""
        return cls(record, Images(groups, record.channel_groups > 0), gpu, far)

    @property
    def pixels_in(self) -> int:
        """Pixels of an image's input."""
        return self.record.hin * self.record.win

    @property
    def pixels_out(self) -> int:
        """Pixels of an image's output."""
        return self.record.hout * self.record.wout

    @property
    def kept_run(self) -> int:
        """Neighbouring channels that a channel mask keeps or drops together, as far as kernels use it."""
        if not self.record.channel_groups:
            return _LONGEST_RUN
        per_group = self.record.width // self.record.channel_groups
        return min(_LONGEST_RUN, per_group & -per_group)

    def decide(self) -> Iterator[Launch]:
        """The masker, which also lists rows; before it the hidden map of a masker with a convolution."""
        record, gpu, number = self.record, self.gpu, self.images.number
        convolves = record.channel_masker == ChannelMasker.CONV
        if convolves:
            rows = np.full((len(self.images.groups), 1), float(self.pixels_in * number))
            one = np.ones(rows.shape)
            problem = Problem(
                Matrix(record.cin, record.masker_hidden),
                self.pixels_in * number,
                rows,
                rows,
                record.cin * one,
                record.masker_hidden * one,
                far=self.far,
            )
            yield gemm("hidden map", problem, gpu, tensor_cores=False, only_small=gpu.element == 2)
        yield self._masker(record.masker_hidden if convolves else record.cin, convolves)

    def _masker(self, features: int, convolved: bool) -> Launch:
        record, gpu, number = self.record, self.gpu, self.images.number
        calls = np.ones(len(self.images.groups))
        if not record.margins:
            return moved("masker", gpu, 0 * calls)
        chunks = share_out(self.pixels_in, number, gpu)
        read = sectors(record.cin * gpu.element)
        data = passed = 0.0
        steps = work = 0.0  # of a block's warps
        if record.mask_groups:
            data = passed = self.pixels_in * number * float(read)
            per_warp = -(-chunks.pixels // LIST_WARPS)
            steps += per_warp * record.mask_groups * -(-record.cin // (4 * WARP))
            work += chunks.pixels * record.mask_groups * (record.cin + 2 * _SUM_SHUFFLES * WARP)
        if record.channel_groups:
            size = float(sectors(features * 4)) if convolved else float(read)
            passed += self.pixels_in * number * size
            data = max(data, self.pixels_in * number * size)
            steps += chunks.pixels * -(-features // LIST_THREADS)
            work += chunks.pixels * features
        resident = gpu.resident(LIST_THREADS)
        pieces = calls[:, None] * number * chunks.count
        shared = spread(pieces, pieces * 0 + work / gpu.fp32_rate * 1e9, gpu, threads=LIST_THREADS, resident=resident)
        tail = tail_rounds(number, gpu) * self._tail_steps(features, chunks.count)
        return Launch(
            "masker",
            shared.compute_ns,
            gpu.cycles_ns(tail * STEP_CYCLES) * calls,
            shared.waves * gpu.cycles_ns(steps * STEP_CYCLES),
            traffic_ns(gpu, passed * calls, data * calls),
        )

    def _tail_steps(self, features: int, chunks: int) -> int:
        """Of the block that finishes an image last: decisions, then lists."""
        record, steps = self.record, _BASE_STEPS
        if record.mask_groups:
            cells = record.spatial_cells
            area = (record.hin // record.mask_h + 2) * (record.win // record.mask_w + 2)
            by_thread = -(-cells // LIST_THREADS) * area
            steps += by_thread if area <= _THREAD_WINDOW else -(-cells // LIST_WARPS) * -(-area // WARP)
            steps += -(-self.pixels_out // LIST_THREADS) * record.mask_groups + list_steps(self.pixels_out)
            steps += list_steps(self.pixels_in) * _NEIGHBOURS
        if record.channel_groups:
            hidden = record.masker_hidden if record.channel_masker == ChannelMasker.MLP else 0
            steps += -(-features // LIST_THREADS) * chunks + layer_steps(hidden, features)
            steps += layer_steps(record.channel_groups, hidden or features) + list_steps(record.width)
        return steps

    def project(self) -> Iterator[Launch]:
        """The projection, of every pixel; blocks without one change their map in place."""
        record = self.record
        if not record.projection:
            return
        rows = np.full((len(self.images.groups), 1), float(self.pixels_out * self.images.number))
        one = np.ones(rows.shape)
        matrix = Matrix(record.cin, record.cout)
        most = self.pixels_out * self.images.number
        problem = Problem(matrix, most, rows, rows, record.cin * one, record.cout * one, far=self.far)
        yield gemm("projection", problem, self.gpu)

    def convolution(
        self,
        name: str,
        matrix: Matrix,
        most: int,
        rows: Array,
        reads: Array,
        depth: Array,
        columns: Array,
        *,
        added: bool = False,
    ) -> Launch:
        """A GEMM over lists; `rows` and `reads` by image, as `depth` and `columns`; `most` rows of an image."""
        of = self.images
        return gemm(
            name,
            Problem(
                matrix,
                of.most(most),
                of.sums(rows),
                of.sums(reads),
                of.shared(depth),
                of.shared(columns),
                added,
                self.far,
            ),
            self.gpu,
        )

    def opening(self) -> Iterator[Launch]:
        """What a run that begins with this block adds: zeroed counters, and a copy where there is no projection."""
        calls = np.ones(len(self.images.groups))
        yield moved("zero", self.gpu, 0 * calls)
        if not self.record.projection:
            floats = self.pixels_in * self.record.cin * self.images.number
            yield moved("copy", self.gpu, 2.0 * floats * self.gpu.element * calls)

"""The launches of a transformer block of ours (plugins/cuda/vit_call.cpp, tokens.cuh)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from laudc.ops.scheduled_vit import VitRecord
from laudc.ops.transformer import DroppedHead, MlpWidth
from laudc.predict.gpu.attention import attention
from laudc.predict.gpu.gemm import Matrix, Problem, gemm
from laudc.predict.gpu.images import (
    BLOCKS_PER_UNIT,
    LIST_THREADS,
    LIST_WARPS,
    Images,
    layer_steps,
    list_steps,
    share_out_tokens,
    tail_rounds,
)
from laudc.predict.gpu.launch import STEP_CYCLES, WARP, Gpu, Launch, moved, sectors, spread, traffic_ns
from laudc.predict.vit_counts import VitCounts

Array = np.ndarray

_LONGEST_RUN = 16
_NORM_PASSES = 3  # over a token: mean, deviation, result
_NORM_SLOTS = 12  # per feature, all passes together
_SUM_STEPS = 4  # two sums over a warp
_BASE_STEPS = 10


def vit_launches(record: VitRecord, counts: VitCounts, groups: Array, gpu: Gpu, far: float) -> Iterator[Launch]:
    """In their order; arguments as of `laudc.predict.gpu.resnet.resnet_launches`."""
    return _VitBlock(record, counts, groups, gpu, far).launches()


def vit_opening(record: VitRecord, groups: Array, gpu: Gpu) -> Iterator[Launch]:
    """What a run adds at its beginning: zeroed counters, and a copy of the tokens, which are changed in place."""
    calls = np.ones(len(groups))
    yield moved("zero", gpu, 0 * calls)
    yield moved("copy", gpu, 2.0 * record.tokens * record.dim * groups.shape[1] * gpu.element * calls)


def vit_closing(record: VitRecord, groups: Array, gpu: Gpu) -> Iterator[Launch]:
    """What a run adds at its end: the class tokens are copied where nothing else is read."""
    if record.first_only:
        yield moved("copy", gpu, 2.0 * record.dim * groups.shape[1] * gpu.element * np.ones(len(groups)))


class _VitBlock:
    def __init__(self, record: VitRecord, counts: VitCounts, groups: Array, gpu: Gpu, far: float) -> None:
        self._record, self._counts, self._groups, self._gpu, self._far = record, counts, groups, gpu, far
        self._alone = Images(groups, True)
        self._tokens = counts.tokens * counts.attends
        self._kept = counts.heads * record.head_dim
        in_mlp = counts.tokens if record.tokens_in_mlp else np.full(len(counts), float(record.tokens))
        self._in_mlp = self._computed(in_mlp * counts.transforms)
        self._passing = record.dropped_heads == DroppedHead.VALUES

    def _computed(self, rows: Array) -> Array:
        """Of `rows` tokens those whose results anybody reads."""
        return np.minimum(rows, 1.0) if self._record.first_only else rows

    @property
    def _attention_images(self) -> Images:
        """Where nothing is left out, all images are one list."""
        return Images(self._groups, bool(self._record.decisions or self._record.first_only))

    @property
    def _mlp_images(self) -> Images:
        record = self._record
        narrow = record.head_policy and record.head_width != MlpWidth.FULL
        return Images(self._groups, bool(record.tokens_in_mlp or record.layer_policy or record.first_only or narrow))

    def launches(self) -> Iterator[Launch]:
        """See `vit_launches`."""
        record, counts = self._record, self._counts
        dim, every = record.dim, np.full(len(counts), float(record.dim))
        attends, mlp = self._attention_images, self._mlp_images
        queries = self._computed(self._tokens)
        passing = every if self._passing else self._kept
        yield self._choose()
        head_run = min(_LONGEST_RUN, record.head_dim & -record.head_dim)
        columns = 2 * self._kept + passing
        yield self._linear("qkv", Matrix(dim, 3 * dim, run=head_run), attends, self._tokens, every, columns)
        yield self._attention(queries)
        yield self._linear("projection", Matrix(dim, dim), attends, queries, passing, every, added=True)
        yield self._normalise(mlp)
        share = counts.heads / record.heads if record.head_width == MlpWidth.OUTPUTS else 1.0
        hidden = record.hidden * share * np.ones(len(counts))
        inputs = self._kept if record.head_width == MlpWidth.INPUTS else every
        part = record.hidden // (record.heads if record.head_width == MlpWidth.OUTPUTS else 1)
        run = min(_LONGEST_RUN, part & -part)
        yield self._linear("fc1", Matrix(dim, record.hidden, run=run), mlp, self._in_mlp, inputs, hidden)
        yield self._linear("fc2", Matrix(record.hidden, dim), mlp, self._in_mlp, hidden, every, added=True)

    def _linear(
        self,
        name: str,
        matrix: Matrix,
        images: Images,
        rows: Array,
        depth: Array,
        columns: Array,
        *,
        added: bool = False,
    ) -> Launch:
        listed = images.sums(rows)
        most = images.most(self._record.tokens)
        shared = images.shared(depth), images.shared(columns)
        return gemm(name, Problem(matrix, most, listed, listed, *shared, added, self._far), self._gpu)

    def _attention(self, queries: Array) -> Launch:
        counts, alone = self._counts, self._alone
        dropped = (self._record.heads - counts.heads) * float(self._passing)
        return attention(
            self._gpu,
            queries=alone.sums(queries),
            keys=alone.sums(self._tokens),
            heads=alone.shared(counts.heads),
            passed=alone.shared(dropped),
            head_dim=self._record.head_dim,
        )

    def _norm_bytes(self, rows: Array) -> tuple[Array, Array]:
        """Bytes that the second-level cache hands out and takes, and distinct ones."""
        size = rows * sectors(self._record.dim * self._gpu.element)
        return size * (self._gpu.reads(_NORM_PASSES) + 1), 2 * size

    def _norm_steps(self, rows_per_warp: float | Array) -> Array:
        """Steps of a warp that normalises so many tokens one after another."""
        each = _NORM_PASSES * -(-self._record.dim // (4 * WARP)) + _SUM_STEPS
        return np.asarray(rows_per_warp * each, float)

    def _choose(self) -> Launch:
        """Normalises all tokens, makes the decisions and lists what they leave."""
        record, gpu, number = self._record, self._gpu, self._groups.shape[1]
        calls = np.ones(len(self._groups))
        chunks = share_out_tokens(record.tokens, number, gpu)
        steps = self._norm_steps(-(-chunks.pixels // LIST_WARPS))
        pieces = calls[:, None] * number * chunks.count
        slots = chunks.pixels * record.dim * (_NORM_SLOTS + record.token_policy)
        shared = spread(
            pieces, 0 * pieces + slots / gpu.fp32_rate * 1e9, gpu,
            threads=LIST_THREADS, resident=gpu.resident(LIST_THREADS),
        )  # fmt: skip
        passed, data = self._norm_bytes(record.tokens * number * calls)
        tail = tail_rounds(number, gpu) * self._tail_steps()
        return Launch(
            "choose",
            shared.compute_ns,
            gpu.cycles_ns(tail * STEP_CYCLES) * calls,
            shared.waves * gpu.cycles_ns(STEP_CYCLES) * steps,
            traffic_ns(gpu, passed, data),
        )

    def _tail_steps(self) -> int:
        """Of the block that finishes an image last."""
        record = self._record
        steps = _BASE_STEPS + list_steps(record.tokens)
        if record.token_policy:
            steps += -(-record.tokens // LIST_THREADS)
        if record.head_policy or record.layer_policy:
            steps += 2 * record.norm_policy * -(-record.dim // (4 * WARP)) + -(-record.dim // WARP)
            steps += layer_steps(record.heads * record.head_policy, record.dim)
            steps += layer_steps(2 * record.layer_policy, record.dim)
        if record.head_policy:
            narrow = record.hidden if record.head_width == MlpWidth.OUTPUTS else 0
            steps += sum(map(list_steps, (3 * record.dim, record.dim, record.heads, narrow)))
        return steps

    def _normalise(self, images: Images) -> Launch:
        """Of the tokens that the MLP transforms."""
        record, gpu = self._record, self._gpu
        rows = images.total(self._in_mlp)
        most = images.segments * images.most(record.tokens)
        grid = min(-(-most // LIST_WARPS), BLOCKS_PER_UNIT * gpu.units)
        blocks = np.minimum(np.ceil(rows / LIST_WARPS), grid)
        each = rows / np.maximum(blocks, 1)
        shared = spread(
            blocks[:, None], (each * record.dim * _NORM_SLOTS / gpu.fp32_rate * 1e9)[:, None], gpu,
            threads=LIST_THREADS, resident=min(BLOCKS_PER_UNIT, gpu.resident(LIST_THREADS)),
        )  # fmt: skip
        steps = self._norm_steps(np.ceil(each / LIST_WARPS)) * gpu.cycles_ns(STEP_CYCLES)
        return Launch(
            "normalise", shared.compute_ns, 0 * rows, shared.waves * steps, traffic_ns(gpu, *self._norm_bytes(rows))
        )

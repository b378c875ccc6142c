"""The attention kernel of ours (plugins/cuda/attention.cuh): scores never leave the chip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laudc.predict.gpu.images import BLOCKS_PER_UNIT
from laudc.predict.gpu.launch import TRIP_CYCLES, WARP, Gpu, Launch, spread, traffic_ns

Array = np.ndarray

ATTENTION_WARPS = 4
_THREADS = ATTENTION_WARPS * WARP
# Issue slots of a warp: a load of 16 bytes from shared memory by every lane, one that all lanes share, and what becomes
# of a query's 32 scores: two sums over the warp, two exponentials.
_LOAD_SLOTS, _SHARED_SLOTS, _SOFTMAX_SLOTS = 4, 1, 45
_KEY_LOAD_SLOTS = 20  # four values of a key or value on their way to shared memory
_MEETING_CYCLES = 300  # a step's chain of sums over the warp


@dataclass(frozen=True)
class HeadShape:
    """Of the kernel for heads of at most `features`: queries of a warp."""

    features: int
    queries: int

    @property
    def tile(self) -> int:
        """Queries of a thread block."""
        return ATTENTION_WARPS * self.queries

    @property
    def shared_bytes(self) -> int:
        """Queries, keys, values and weights."""
        return 4 * (self.tile * self.features + WARP * (2 * self.features + 4) + self.tile * WARP)

    def slots(self, head_dim: int) -> float:
        """Issue slots of a warp for 32 keys."""
        slots = self.features // WARP
        scores = -(-head_dim // 4) * (4 * self.queries + _LOAD_SLOTS + self.queries * _SHARED_SLOTS)
        values = WARP // 4 * (self.queries * _SHARED_SLOTS + 4 * slots + 4 * slots * self.queries)
        loads = 2 * WARP * self.features // 4 / _THREADS * _KEY_LOAD_SLOTS
        return scores + self.queries * _SOFTMAX_SLOTS + values + loads


NARROW_HEADS, WIDE_HEADS = HeadShape(64, 8), HeadShape(128, 4)


def attention(gpu: Gpu, *, queries: Array, keys: Array, heads: Array, passed: Array, head_dim: int) -> Launch:
    """The launch; queries, keys, heads kept and heads that only pass their values, each (calls, images)."""
    shape = NARROW_HEADS if head_dim <= NARROW_HEADS.features else WIDE_HEADS
    across, steps = np.ceil(queries / shape.tile), np.ceil(keys / WARP)
    pieces = across * heads * (keys > 0)
    piece_ns = steps * ATTENTION_WARPS * WARP * shape.slots(head_dim) / gpu.fp32_rate * 1e9
    resident = gpu.resident(_THREADS, shape.shared_bytes, BLOCKS_PER_UNIT)
    shared = spread(pieces, piece_ns, gpu, threads=_THREADS, resident=resident)
    chain = (steps * (pieces > 0)).max(axis=1) * gpu.cycles_ns(TRIP_CYCLES + _MEETING_CYCLES)
    row = head_dim * gpu.element
    data = row * ((queries + keys) * 2 * heads + 2 * queries * passed) * (keys > 0)
    again = row * keys * 2 * heads * across
    return Launch(
        "attention",
        shared.compute_ns,
        shared.waves * gpu.cycles_ns(2 * TRIP_CYCLES),
        shared.waves * chain,
        traffic_ns(gpu, again.sum(axis=1) + (2 * row * queries * (heads + passed)).sum(axis=1), data.sum(axis=1)),
    )

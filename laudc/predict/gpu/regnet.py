"""The launches of a RegNetY block of ours (plugins/cuda/regnet_run.cpp, grouped_conv.cuh, excitation.cuh)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from laudc.ops.scheduled import RegNetRecord
from laudc.predict.gpu.conv_block import ConvBlock
from laudc.predict.gpu.gemm import Matrix
from laudc.predict.gpu.images import BLOCKS_PER_UNIT, LIST_THREADS, LIST_WARPS, share_out, tail_rounds
from laudc.predict.gpu.launch import (
    STEP_CYCLES,
    TRIP_CYCLES,
    WARP,
    Gpu,
    Launch,
    beyond_cache,
    moved,
    sectors,
    spread,
    traffic_ns,
)
from laudc.predict.regnet_counts import RegNetCounts
from laudc.predict.traffic import regnet_weights

Array = np.ndarray

_TAPS = 9
# The grouped convolution's blocks: every thread holds 4 x 4 sums. There are kernels for groups up to these widths.
GROUPED_THREADS = 128
_SUMS = 4
NARROW_GROUP, WIDE_GROUP = 32, 64
# Issue slots of 16 multiply-adds: those and two loads of 16 bytes from shared memory, four each.
_SLOTS_PER_MAC = (16 + 2 * 4) / 16
_BASE_STEPS = 10


def regnet_launches(
    record: RegNetRecord, counts: RegNetCounts, groups: Array, gpu: Gpu, far: float
) -> Iterator[Launch]:
    """In their order; arguments as of `laudc.predict.gpu.resnet.resnet_launches`."""
    block = ConvBlock.of(record, groups, gpu, far)
    kept = counts.channels
    every_in, every_out = (np.full(len(counts), float(value)) for value in (record.cin, record.cout))
    wanted = wanted_rows(record, counts)
    yield from block.decide()
    yield from block.project()
    yield block.convolution(
        "conv a",
        Matrix(record.cin, record.width, run=block.kept_run),
        block.pixels_in,
        counts.a,
        counts.a,
        every_in,
        kept,
    )
    yield _grouped(block, record, counts)
    yield _excite(block, record, counts)
    yield _scale(block, wanted, counts)
    yield block.convolution(
        "conv c", Matrix(record.width, record.cout), block.pixels_out, wanted, wanted, kept, every_out, added=True
    )


def wanted_rows(record: RegNetRecord, counts: RegNetCounts) -> Array:
    """Output pixels that some mask group keeps, by image: conv c makes all channels of them."""
    if record.conv3_parts == 1:
        return counts.c
    if record.se_pool:
        return counts.b
    # Mask groups decide as if they did not know each other.
    pixels = record.hout * record.wout
    return np.asarray(pixels * (1 - (1 - counts.c / pixels) ** record.conv3_parts))


def _grouped(block: ConvBlock, record: RegNetRecord, counts: RegNetCounts) -> Launch:
    gpu, images, width = block.gpu, block.images, record.width // record.group
    rows, kept = images.sums(counts.b), images.shared(counts.channels)
    # As wide as what a group keeps, seen from its channels, and the taller the narrower that is.
    wide = np.maximum(1.0, images.shared(counts.pairs) / np.maximum(kept, 1.0))
    quads = np.ceil(wide / _SUMS - 1e-9)
    tile_rows = _SUMS * np.floor(GROUPED_THREADS / quads)
    busy = (rows > 0) & (kept > 0)
    tiles = np.ceil(rows / tile_rows) * np.maximum(kept / wide, 1.0) * busy
    macs = _TAPS * wide * GROUPED_THREADS * _SUMS**2
    shared_bytes = 4 * (3 * _SUMS * GROUPED_THREADS + _SUMS**2 * GROUPED_THREADS)
    shared_bytes += 4 * (NARROW_GROUP if width <= NARROW_GROUP else WIDE_GROUP) ** 2
    resident = gpu.resident(GROUPED_THREADS, shared_bytes, BLOCKS_PER_UNIT)
    piece_ns = macs * _SLOTS_PER_MAC / gpu.fp32_rate * 1e9
    out = spread(tiles, piece_ns, gpu, threads=GROUPED_THREADS, resident=resident)
    trip = gpu.cycles_ns(TRIP_CYCLES)
    return Launch(
        "conv b",
        out.compute_ns,
        out.waves * 2 * trip,
        out.waves * _TAPS * trip,
        _grouped_traffic(block, counts, rows * busy, kept, wide, tiles),
    )


def _grouped_traffic(
    block: ConvBlock, counts: RegNetCounts, rows: Array, kept: Array, wide: Array, tiles: Array
) -> Array:
    gpu, images, record = block.gpu, block.images, block.record
    assert isinstance(record, RegNetRecord)
    reads = images.sums(counts.a) * (rows > 0)
    data = ((reads + rows) * sectors(kept * gpu.element)).sum(axis=1)
    parts = kept / wide
    pieces = rows * parts * sectors(wide * gpu.element) * (gpu.reads(_TAPS) + 1)
    width = record.width // record.group
    # Whole rows of a group's weights, of which a tile picks kept columns.
    each = _TAPS * wide * sectors(width * gpu.element)
    weights = np.minimum(images.total(regnet_weights(record, counts)["b"]), _TAPS * record.group * width**2)
    weights = weights * gpu.element
    far = np.maximum(block.far, beyond_cache(gpu, data + weights))
    passed = (pieces + tiles * each).sum(axis=1)
    return traffic_ns(gpu, passed, data + weights * (1 - far), weights * far)


def _excite(block: ConvBlock, record: RegNetRecord, counts: RegNetCounts) -> Launch:
    """Blocks of an image add up its map; the last one computes both layers."""
    gpu, images = block.gpu, block.images
    chunks = share_out(block.pixels_out, images.number, gpu)
    runs = (counts.b > 0) * 1.0
    kept = counts.channels
    data = images.total(counts.b * sectors(kept * gpu.element))
    resident = gpu.resident(LIST_THREADS)
    pieces = runs[images.groups] * chunks.count
    work = chunks.pixels * kept[images.groups]
    shared = spread(pieces, work / gpu.fp32_rate * 1e9, gpu, threads=LIST_THREADS, resident=resident)
    # Narrow maps leave threads for several pixels at once.
    lanes = np.clip(2.0 ** np.ceil(np.log2(np.maximum(kept, 1.0))), WARP, LIST_THREADS)
    steps = np.ceil(chunks.pixels * lanes / LIST_THREADS) * np.ceil(kept / lanes) * runs
    layers = np.ceil(kept / LIST_WARPS) * -(-record.squeeze // WARP)
    layers = layers + -(-record.squeeze // LIST_WARPS) * np.ceil(kept / WARP)
    tail = runs * (_BASE_STEPS + np.ceil(kept / LIST_THREADS) * chunks.count + layers)
    rounds = tail_rounds(images.number, gpu)
    weights = 4.0 * 2 * record.squeeze * record.width * (images.total(runs) > 0)
    return Launch(
        "excite",
        shared.compute_ns,
        gpu.cycles_ns(STEP_CYCLES) * rounds * tail[images.groups].max(axis=1),
        shared.waves * gpu.cycles_ns(STEP_CYCLES) * steps[images.groups].max(axis=1),
        traffic_ns(gpu, data + weights, data + weights * (1 - block.far), weights * block.far),
    )


def _scale(block: ConvBlock, wanted: Array, counts: RegNetCounts) -> Launch:
    gpu = block.gpu
    size = 2 * wanted * sectors(counts.channels * gpu.element)
    return moved("scale", gpu, block.images.total(size), gpu.cycles_ns(2 * TRIP_CYCLES))

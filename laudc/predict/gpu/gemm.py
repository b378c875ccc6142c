"""One indexed implicit GEMM on a GPU: rows of a list times a weight matrix, in tiles spread over multiprocessors.

Own derivation. Against LAUDNet's simulator: rows of all samples and patches form one list, so tiles spread over all
multiprocessors and a last, partly filled wave is paid for; work is what is kept, counted once (kept inputs times kept
outputs); weights are read once per launch, whatever the batch; input is what the list's windows cover, halo shared;
every byte goes to the level it comes from, not to memory and second-level cache both; coalescing counts for gathered
and dense rows alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

# Rows x columns of the thread blocks' tiles that kernels are built in; the fastest one for a problem is taken.
TILES = ((128, 64), (64, 64), (64, 32), (32, 32))
_SECTOR_BYTES = 32
_THREADS_PER_BLOCK = 128
_LATENCY_CYCLES = 600  # filling the pipeline of a tile: two trips to memory
# What well-written kernels reach of the peak rates; a calibration replaces both.
COMPUTE_EFFICIENCY = 0.75
MEMORY_EFFICIENCY = 0.80


@dataclass(frozen=True)
class Gpu:
    """A GPU in one data type. macs_per_s: of one multiprocessor. Bandwidths in bytes per ns, times in ns."""

    units: int
    macs_per_s: float
    clock_hz: float
    resident: int  # thread blocks that share a multiprocessor
    dram: float
    l2: float
    l2_bytes: float
    element: int  # bytes
    launch_ns: float
    compute_efficiency: float = COMPUTE_EFFICIENCY
    memory_efficiency: float = MEMORY_EFFICIENCY


@dataclass(frozen=True)
class Problem:
    """rows (calls,), depth and columns (calls,) or numbers; `taps` input pixels per row; `reads` distinct input pixels
    (calls,); `inputs` channels of an input pixel; `extra` further floats moved per result (residual)."""

    rows: Array
    depth: Array
    columns: Array
    reads: Array
    inputs: Array
    extra: float = 0.0


@dataclass(frozen=True)
class Parts:
    """What a launch is made of, at the peak rates: arithmetic and filling of pipelines for each of TILES (tiles,
    calls), and memory traffic (calls,); all zero for calls without rows."""

    compute_ns: Array
    fill_ns: Array
    memory_ns: Array


def gemm_ns(problem: Problem, gpu: Gpu) -> Array:
    """Time of one launch for each call, the launch itself included; 0 rows still launch and leave at once."""
    parts = gemm_parts(problem, gpu)
    compute = np.min(parts.compute_ns / gpu.compute_efficiency + parts.fill_ns, axis=0)
    return gpu.launch_ns + np.maximum(compute, parts.memory_ns / gpu.memory_efficiency)


def gemm_parts(problem: Problem, gpu: Gpu) -> Parts:
    """The parts of one launch for each call."""
    busy = problem.rows * problem.depth * problem.columns > 0
    compute, fill = zip(*(_tiled(problem, gpu, rows, columns) for rows, columns in TILES), strict=True)
    return Parts(
        np.where(busy, np.stack(compute), 0.0),
        np.where(busy, np.stack(fill), 0.0),
        np.where(busy, memory_ns(problem, gpu), 0.0),
    )


def _tiled(problem: Problem, gpu: Gpu, tile_rows: int, tile_columns: int) -> tuple[Array, Array]:
    tiles = np.ceil(problem.rows / tile_rows) * np.ceil(problem.columns / tile_columns)
    slots = gpu.units * gpu.resident
    waves = np.ceil(tiles / slots)
    # Blocks that share a multiprocessor share its arithmetic; a last wave that is thin leaves it to fewer.
    last = tiles - (waves - 1) * slots
    per_tile = tile_rows * tile_columns * problem.depth / gpu.macs_per_s * 1e9
    full = np.maximum(waves - 1, 0) * gpu.resident
    compute = per_tile * (full + np.ceil(np.maximum(last, 1) / gpu.units))
    return np.asarray(compute), np.maximum(waves, 1) * (_LATENCY_CYCLES / gpu.clock_hz * 1e9)


def memory_ns(problem: Problem, gpu: Gpu) -> Array:
    """Time to move weights, inputs and results at the peak bandwidths: from memory what the second-level cache cannot
    hold, else from it."""
    weights = problem.depth * problem.columns * gpu.element
    inputs = problem.reads * sectors(problem.inputs * gpu.element)
    results = problem.rows * sectors(problem.columns * gpu.element) * (1 + problem.extra)
    total = weights + inputs + results
    beyond = np.clip((total - gpu.l2_bytes / 2) / gpu.l2_bytes, 0, 1)
    # Weights are cold in every inference: a network's weights exceed the cache.
    far = weights + (inputs + results) * beyond
    return np.asarray(np.maximum(far / gpu.dram, total / gpu.l2))


def moved_ns(size: Array, gpu: Gpu) -> Array:
    """Time to move so many bytes at the peak bandwidth of where they lie."""
    return np.asarray(size / np.where(size > gpu.l2_bytes / 2, gpu.dram, gpu.l2))


def sectors(size: Array) -> Array:
    """Bytes that really move for a contiguous piece: whole sectors of 32 bytes."""
    return np.asarray(np.ceil(np.asarray(size, float) / _SECTOR_BYTES) * _SECTOR_BYTES)

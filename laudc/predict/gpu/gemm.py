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
# What well-written kernels reach of the peak rates.
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


def gemm_ns(problem: Problem, gpu: Gpu) -> Array:
    """Time of one launch for each call, the launch itself included; 0 rows still launch and leave at once."""
    busy = problem.rows * problem.depth * problem.columns > 0
    times = [_tiled_ns(problem, gpu, rows, columns) for rows, columns in TILES]
    compute = np.min(times, axis=0)
    return gpu.launch_ns + np.where(busy, np.maximum(compute, memory_ns(problem, gpu)), 0.0)


def _tiled_ns(problem: Problem, gpu: Gpu, tile_rows: int, tile_columns: int) -> Array:
    tiles = np.ceil(problem.rows / tile_rows) * np.ceil(problem.columns / tile_columns)
    slots = gpu.units * gpu.resident
    waves = np.ceil(tiles / slots)
    # Blocks that share a multiprocessor share its arithmetic; a last wave that is thin leaves it to fewer.
    last = tiles - (waves - 1) * slots
    sharing = np.where(waves > 1, gpu.resident, np.ceil(np.maximum(last, 1) / gpu.units))
    per_tile = tile_rows * tile_columns * problem.depth / (gpu.macs_per_s * COMPUTE_EFFICIENCY) * 1e9
    fill = _LATENCY_CYCLES / gpu.clock_hz * 1e9
    full = (waves - 1) * (per_tile * gpu.resident + fill)
    tail = per_tile * np.where(waves > 1, np.ceil(np.maximum(last, 1) / gpu.units), sharing) + fill
    return np.asarray(full + tail)


def memory_ns(problem: Problem, gpu: Gpu) -> Array:
    """Time to move weights, inputs and results: from memory what the second-level cache cannot hold, else from it."""
    weights = problem.depth * problem.columns * gpu.element
    inputs = problem.reads * sectors(problem.inputs * gpu.element)
    results = problem.rows * sectors(problem.columns * gpu.element) * (1 + problem.extra)
    total = weights + inputs + results
    beyond = np.clip((total - gpu.l2_bytes / 2) / gpu.l2_bytes, 0, 1)
    # Weights are cold in every inference: a network's weights exceed the cache.
    far = weights + (inputs + results) * beyond
    near = total
    return np.asarray(np.maximum(far / gpu.dram, near / gpu.l2) / MEMORY_EFFICIENCY)


def sectors(size: Array) -> Array:
    """Bytes that really move for a contiguous piece: whole sectors of 32 bytes."""
    return np.asarray(np.ceil(np.asarray(size, float) / _SECTOR_BYTES) * _SECTOR_BYTES)

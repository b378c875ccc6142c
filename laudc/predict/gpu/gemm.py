"""One indexed implicit GEMM of ours: rows of lists times a weight matrix, in tiles spread over multiprocessors.

Own derivation. Against LAUDNet's simulator: rows of all samples and patches lie in lists, so tiles spread over all
multiprocessors and a last, partly filled wave is paid for; work is what is kept, counted once (kept inputs times kept
outputs); weights come from memory once per launch, whatever the batch; input is what the lists' windows cover, halo
shared; every byte goes to the level it comes from, and what tiles read again comes from the second-level cache;
coalescing counts for gathered and dense rows alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laudc.predict.gpu.launch import SECTOR_BYTES, TRIP_CYCLES, Gpu, Launch, beyond_cache, sectors, spread, traffic_ns
from laudc.predict.gpu.tiles import Cut, cut_gemm

Array = np.ndarray

_FILL_CYCLES = 2 * TRIP_CYCLES  # until a tile's rows are looked up and its first operands are there
_PARTIAL_BYTES = 4


@dataclass(frozen=True)
class Matrix:
    """A matrix of weights: `depth` inputs under each of `taps` taps, and `columns`; columns are kept or dropped in runs
    of `run` neighbours."""

    depth: int
    columns: int
    taps: int = 1
    run: int = 64


@dataclass(frozen=True)
class Problem:
    """A GEMM's work, arrays (calls, segments). A segment is a list of rows with kept inputs and outputs of its own.

    Attributes:
        matrix: its weights.
        most_rows: of a segment, if nothing is skipped.
        rows: listed rows.
        reads: distinct input pixels that they read.
        depth, columns: kept inputs and outputs.
        inputs: channels of an input pixel that are read.
        added: whether results are added to what the output holds.
        far: share of the weights that come from memory.
    """

    matrix: Matrix
    most_rows: int
    rows: Array
    reads: Array
    depth: Array
    columns: Array
    added: bool = False
    far: float = 1.0


def gemm(
    name: str, problem: Problem, gpu: Gpu, *, tensor_cores: bool | None = None, only_small: bool = False
) -> Launch:
    """The launch; `tensor_cores` and `only_small` as for kernels that differ from the data type's own."""
    matrix = problem.matrix
    cut = cut_gemm(
        gpu,
        segments=problem.rows.shape[1],
        rows=problem.most_rows,
        depth=matrix.depth,
        columns=matrix.columns,
        taps=matrix.taps,
        tensor_cores=tensor_cores,
        only_small=only_small,
    )
    tile = cut.tile
    mma = gpu.tensor_cores if tensor_cores is None else tensor_cores
    rate = gpu.gemm_rate if mma == gpu.tensor_cores else gpu.fp32_rate
    busy = problem.rows * problem.depth * problem.columns > 0
    down, across = np.ceil(problem.rows / tile.rows) * busy, np.ceil(problem.columns / tile.columns)
    steps = matrix.taps * np.ceil(problem.depth / cut.step)
    share = np.ceil(steps / cut.splits)
    pieces = down * across * cut.splits
    piece_ns = tile.rows * tile.columns * share * cut.step / rate * 1e9
    shared = spread(pieces, piece_ns, gpu, threads=tile.threads, resident=cut.resident)
    trips = np.max(share * busy, axis=1) / cut.ahead
    return Launch(
        name,
        shared.compute_ns,
        shared.waves * gpu.cycles_ns(_FILL_CYCLES),
        shared.waves * trips * gpu.cycles_ns(TRIP_CYCLES),
        _traffic(problem, gpu, cut, busy, down, across),
        on_gemm_units=mma == gpu.tensor_cores,
    )


def _traffic(problem: Problem, gpu: Gpu, cut: Cut, busy: Array, down: Array, across: Array) -> Array:
    element, matrix = gpu.element, problem.matrix
    touched = problem.depth * touched_columns(problem.columns, matrix, element) * matrix.taps * busy
    weights = np.minimum(touched.sum(axis=1), matrix.depth * matrix.columns * matrix.taps) * element
    inputs = (problem.reads * busy * sectors(problem.depth * element)).sum(axis=1)
    results = (problem.rows * busy * sectors(problem.columns * element)).sum(axis=1)
    maps = inputs + results
    moved_results = results * (2 if problem.added else 1)
    again = problem.rows * matrix.taps * sectors(problem.depth * element) * across * busy
    passed = again.sum(axis=1) + (touched * down).sum(axis=1) * element + moved_results
    if cut.splits > 1:
        pieces = (down * across).sum(axis=1) * cut.splits
        passed = passed + 2 * pieces * cut.tile.rows * cut.tile.columns * _PARTIAL_BYTES
    # Maps that fill the cache leave no weights of the call before in it.
    far = np.maximum(problem.far, beyond_cache(gpu, maps + weights))
    return traffic_ns(gpu, passed, maps + weights * (1 - far), weights * far)


def touched_columns(kept: Array, matrix: Matrix, element: int) -> Array:
    """Columns of the sectors in which some column is kept; kept runs lie at random."""
    per_sector = SECTOR_BYTES / element
    runs = max(1.0, per_sector / matrix.run)
    share = np.clip(kept / matrix.columns, 0, 1)
    return np.asarray(np.maximum(kept, matrix.columns * (1 - (1 - share) ** runs)))

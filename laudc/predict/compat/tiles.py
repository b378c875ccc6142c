"""Tile sizes that the authors' search tries along one dimension, and how well a tile uses the hardware."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from laudc.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EXPONENTS = 8
_MAX_SPLIT = 8


@dataclass(frozen=True)
class Axis:
    """Candidates along a dimension of `size`: tile sizes in ascending order, and how many of each cover it."""

    size: int
    tiles: NDArray[np.float64]
    counts: NDArray[np.float64]


def at_least_one(size: int) -> int:
    """The size of a dimension, as it is. Raises UserError when nothing is left of it."""
    if size < 1:
        raise UserError(
            "an operator cannot be predicted",
            "its sizes do not go together: nothing is left of one of its dimensions",
            "check groups, strides and group sizes against channels and map",
        )
    return size


def candidates(size: int) -> list[int]:
    """Tile sizes for a dimension of `size` >= 1: powers of two up to twice the size, even splits into up to seven
    parts, small numbers. A tile may be larger than the dimension.

    In the order in which CPython walks over a set filled in this order: that is how the authors' program asks for
    random numbers. For everything else ascending order gives the authors' results.
    """
    found = {2**k for k in range(_EXPONENTS) if 2**k <= 2 * size}
    found.update(math.ceil(size / parts) for parts in range(1, min(size, _MAX_SPLIT)))
    found.update(range(2, min(size, _MAX_SPLIT)))
    return list(found)


@lru_cache(maxsize=4096)
def axis(size: int) -> Axis:
    """The candidates for a dimension of `size` as arrays, ascending. Raises UserError when nothing is left of it."""
    at_least_one(size)
    tiles = np.array(sorted(candidates(size)), np.float64)
    return Axis(size, tiles, np.ceil(size / tiles))


@dataclass(frozen=True)
class Pixels:
    """All pairs of candidates for the rows and columns of a map, flattened with rows outermost: tile sizes, pixels of a
    tile, and how many tiles cover the map."""

    height: int
    width: int
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    elements: NDArray[np.float64]
    counts: NDArray[np.float64]


@lru_cache(maxsize=4096)
def pixels(height: int, width: int) -> Pixels:
    """The tiles of a height × width map."""
    down, across = axis(height), axis(width)
    rows = np.repeat(down.tiles, len(across.tiles))
    columns = np.tile(across.tiles, len(down.tiles))
    counts = np.outer(down.counts, across.counts).ravel()
    return Pixels(height, width, rows, columns, rows * columns, counts)


@lru_cache(maxsize=4096)
def windows(height: int, width: int, ks: int, stride: int) -> NDArray[np.float64]:
    """Input pixels that a ks × ks convolution reads for each tile of its height × width output."""
    tiles = pixels(height, width)
    return ((tiles.rows + ks - 1) * stride) * ((tiles.columns + ks - 1) * stride)


@lru_cache(maxsize=4096)
def row_coalescing(height: int, width: int, transaction: float) -> NDArray[np.float64]:
    """`coalescing` of each tile of a height × width map: its rows are runs with the rest of the map between."""
    columns = pixels(height, width).columns
    return coalescing(columns, width - columns, transaction)


def tile_at(channels: Axis, tiles: Pixels, index: int) -> dict[str, int]:
    """The tile at a flat index of (channels, pixels), as reports name it."""
    channel, pixel = divmod(index, len(tiles.elements))
    return {
        "c_tile": int(channels.tiles[channel]),
        "h_tile": int(tiles.rows[pixel]),
        "w_tile": int(tiles.columns[pixel]),
        "n_tiles": int(channels.counts[channel] * tiles.counts[pixel]),
    }


@lru_cache(maxsize=4096)
def powers(size: int) -> NDArray[np.float64]:
    """Only the powers of two among the candidates."""
    return np.array([2.0**k for k in range(_EXPONENTS) if 2**k <= 2 * size])


def fill(elements: Any, lanes: float) -> Any:
    """Share of `lanes` that is busy when `elements` are worked off in rounds of `lanes`."""
    return elements / (lanes * np.ceil(elements / lanes))


def coalescing(run: Any, gap: Any, width: float) -> Any:
    """Useful share of memory transactions `width` elements wide, for runs of `run` elements with `gap` between."""
    gap = np.maximum(gap, 0.0)
    long = fill(run, width)
    return np.where(run > width, long, np.where(run + gap > width, run / width, run / (run + gap)))

"""The search for the tile of a kernel that walks over the active patches of a map."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .tiles import axis, pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Far above rounding, far below any difference that matters.
_SLACK = 1e-9


def patch_count(h: int, w: int, granule: int) -> int:
    """Patches of granule × granule pixels that cover an h × w map."""
    return math.ceil(h / granule) * math.ceil(w / granule)


def active_patches(h: int, w: int, granule: int, density: float) -> int:
    """Active patches when a share `density` is; rounded up."""
    return math.ceil(density * math.ceil(h / granule) * math.ceil(w / granule))


def mean_patches(h: int, w: int, granule: int) -> float:
    """The patch count that the authors search tiles for: the mean of 1 and all, whatever the density."""
    return (1 + patch_count(h, w, granule)) / 2


@dataclass(frozen=True)
class PatchTiles:
    """Tiles inside one granule: arrays that broadcast to (channels, pixels), or plain numbers for a single tile.

    Tile sizes, elements of a tile (their product), and tiles that cover the granule.
    """

    channels: Any
    rows: Any
    columns: Any
    elements: Any
    count: Any

    def at(self, indices: NDArray[np.intp]) -> PatchTiles:
        """The tiles at these flat indices, as flat arrays."""
        channel, pixel = np.divmod(indices, self.elements.shape[1])
        return PatchTiles(
            self.channels[channel, 0],
            self.rows[pixel],
            self.columns[pixel],
            self.elements[channel, pixel],
            self.count[channel, pixel],
        )

    def single(self, index: int) -> PatchTiles:
        """The tile at a flat index, in plain numbers."""
        channel, pixel = divmod(index, self.elements.shape[1])
        return PatchTiles(
            float(self.channels[channel, 0]),
            float(self.rows[pixel]),
            float(self.columns[pixel]),
            float(self.elements[channel, pixel]),
            float(self.count[channel, pixel]),
        )

    def named(self, parallel: float) -> dict[str, int]:
        """A single tile as reports name it; `parallel` patches are worked on together."""
        return {
            "c_tile": int(self.channels),
            "h_tile": int(self.rows),
            "w_tile": int(self.columns),
            "n_patches_parallel": int(parallel),
            "n_tiles": int(self.count),
        }


def patch_tiles(channels: int, granule: int) -> PatchTiles:
    """All tiles for `channels` channels of a granule × granule patch."""
    depth, area = axis(channels), pixels(granule, granule)
    tile = depth.tiles[:, None]
    return PatchTiles(tile, area.rows, area.columns, tile * area.elements, depth.counts[:, None] * area.counts)


def useful_parallel(parallel: NDArray[np.float64], patches: float) -> NDArray[np.float64]:
    """Without those that need no fewer rounds than a smaller one: they only cost more."""
    rounds = np.ceil(patches / parallel)
    keep = np.ones(len(parallel), bool)
    np.less(rounds[1:], rounds[:-1], out=keep[1:])
    return parallel[keep]


def fewest_lane_rounds(
    parallel: NDArray[np.float64], patches: float, elements: NDArray[np.float64], lanes: float
) -> NDArray[np.float64]:
    """For each tile the least number of rounds of `lanes` elements that all patches take, over the candidates for
    patches in parallel; `elements` of a tile count for one patch."""
    some = useful_parallel(parallel, patches)
    work = np.multiply.outer(some / lanes, elements)
    np.ceil(work, out=work)
    work *= np.ceil(patches / some).reshape((-1,) + (1,) * elements.ndim)
    fewest: NDArray[np.float64] = work.min(axis=0)
    return fewest


def first_best(
    parallel: NDArray[np.float64],
    lower_bound: NDArray[np.float64],
    cost: Callable[[NDArray[np.float64], NDArray[np.intp]], NDArray[np.float64]],
) -> tuple[float, int]:
    """(patches in parallel, flat index of the tile) of the first smallest cost, patches in parallel outermost.

    `lower_bound` is each tile's cost with its best parallelism up to rounding. Only tiles near the smallest are
    evaluated with `cost(parallel, flat tile indices)`, which gives exact values for all pairs: ties, which rounding
    decides, then fall as in a plain search.
    """
    bound = lower_bound.ravel()
    near = np.flatnonzero(bound <= bound.min() * (1 + _SLACK))
    row, column = divmod(int(cost(parallel[:, None], near).argmin()), len(near))
    return float(parallel[row]), int(near[column])

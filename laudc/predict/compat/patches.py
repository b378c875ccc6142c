"""The search for the tile of a kernel that walks over the active patches of a map."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .tiles import axis

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
    """Tiles inside one granule, flattened with channels outermost, then rows, then columns."""

    channels: NDArray[np.float64]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    elements: NDArray[np.float64]
    count: NDArray[np.float64]

    def at(self, index: Any) -> PatchTiles:
        """Some of the tiles."""
        return PatchTiles(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def named(self, index: int, parallel: float) -> dict[str, int]:
        """The tile at `index` as reports name it; `parallel` patches are worked on together."""
        return {
            "c_tile": int(self.channels[index]),
            "h_tile": int(self.rows[index]),
            "w_tile": int(self.columns[index]),
            "n_patches_parallel": int(parallel),
            "n_tiles": int(self.count[index]),
        }


@lru_cache(maxsize=4096)
def patch_tiles(channels: int, granule: int) -> PatchTiles:
    """All tiles for `channels` channels of a granule × granule patch."""
    c, s = axis(channels), axis(granule)
    a, b, d = (grid.ravel() for grid in np.meshgrid(c.tiles, s.tiles, s.tiles, indexing="ij"))
    n = c.counts[:, None, None] * s.counts[:, None] * s.counts
    return PatchTiles(a, b, d, a * b * d, n.ravel())


def useful_parallel(parallel: NDArray[np.float64], patches: float) -> NDArray[np.float64]:
    """Without those that need no fewer rounds than a smaller one: they only cost more."""
    rounds = np.ceil(patches / parallel)
    keep = np.concatenate(([True], rounds[1:] < rounds[:-1]))
    return parallel[keep]


def first_best(
    parallel: NDArray[np.float64],
    tiles: PatchTiles,
    lower_bound: NDArray[np.float64],
    cost: Callable[[NDArray[np.float64], NDArray[np.intp]], NDArray[np.float64]],
) -> tuple[float, int]:
    """(patches in parallel, index of the tile) of the first smallest cost, patches in parallel outermost.

    `lower_bound` is each tile's cost with its best parallelism up to rounding. Only tiles near the smallest are
    evaluated with `cost(parallel, tile indices)`, which gives exact values for all pairs: ties, which rounding
    decides, then fall as in a plain search.
    """
    near = np.flatnonzero(lower_bound <= lower_bound.min() * (1 + _SLACK))
    exact = cost(parallel[:, None], near)
    row, column = divmod(int(np.argmin(exact)), len(near))
    return float(parallel[row]), int(near[column])

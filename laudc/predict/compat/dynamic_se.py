"""Squeeze-and-excitation whose pooling looks at the active patches only."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .patches import PatchTiles, active_patches, mean_patches, patch_count, patch_tiles, useful_parallel
from .plain import excitation, tree_reduction
from .tiles import axis, coalescing, fill

if TYPE_CHECKING:
    from .cost import Cost
    from .model import Model


@lru_cache(maxsize=65536)
def dynamic_se(
    model: Model, *, c: int, h: int, w: int, squeeze_channels: int, granul_size: int, density: float
) -> Cost:
    """Squeeze-and-excitation of (c, h, w) with a share `density` of its granules active: four launches."""
    tile, parallel = _pool_tile(model, c, h, w, granul_size)
    patches = active_patches(h, w, granul_size, density)
    # The answer reduces over the tiles of the whole map, the search over those of one granule.
    reduction = tree_reduction(model, tile.channels, math.ceil(h / tile.rows) * math.ceil(w / tile.columns))
    compute = _pool_compute(model, tile, parallel, patches) + float(reduction)
    memory = _pool_memory(model, tile, c, h, w, granul_size, patches)
    pooled = model.cost(compute, memory, launches=0)
    return pooled + excitation(model, c=c, h=h, w=w, squeeze_channels=squeeze_channels)


@lru_cache(maxsize=65536)
def _pool_tile(model: Model, c: int, h: int, w: int, granule: int) -> tuple[PatchTiles, float]:
    patches = mean_patches(h, w, granule)
    # More patches in parallel in as many rounds cost more here, so they can be left out.
    parallel = useful_parallel(axis(patch_count(h, w, granule)).tiles, patches)
    tiles = patch_tiles(c, granule)
    compute = _pool_compute(model, tiles, parallel[:, None, None], patches)
    compute = compute + tree_reduction(
        model, tiles.channels, np.ceil(granule / tiles.rows) * np.ceil(granule / tiles.columns)
    )
    memory = _pool_memory(model, tiles, c, h, w, granule, patches)
    row, index = divmod(int(model.combine(compute, memory).argmin()), tiles.elements.size)
    return tiles.single(index), float(parallel[row])


def _pool_memory(model: Model, tiles: PatchTiles, c: int, h: int, w: int, granule: int, patches: float) -> Any:
    device = model.device
    a = tiles.channels
    share = coalescing(tiles.columns, granule - tiles.columns, device.coalescing)
    l2 = (tiles.elements * patches + a) * tiles.count + a * np.ceil(h / tiles.rows) * np.ceil(w / tiles.columns) + a
    dram = patches * c * granule**2 + c * h * w
    return device.batch * (dram / device.dram_elements_s + l2 / (device.l2_elements_s * share))


def _pool_compute(model: Model, tiles: PatchTiles, parallel: Any, patches: float) -> Any:
    device = model.device
    a = tiles.channels
    inside = tiles.elements * parallel / device.unit_macs_s / fill(a * parallel, device.fill_lanes)
    across = a * parallel / device.unit_macs_s / fill(a, device.fill_lanes)
    return device.batch * (inside * np.ceil(patches / parallel) + across) * np.ceil(tiles.count / device.units)

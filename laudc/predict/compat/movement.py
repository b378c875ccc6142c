"""Kernels that only move patches: gather, scatter, scatter-add."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .patches import (
    PatchTiles,
    active_patches,
    fewest_lane_rounds,
    first_best,
    mean_patches,
    patch_count,
    patch_tiles,
)
from .tiles import axis, coalescing, fill

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .cost import Cost
    from .model import Model


@lru_cache(maxsize=65536)
def gather(model: Model, *, c: int, h: int, w: int, granul_size: int, density: float, granul_size_pad: int = 0) -> Cost:
    """Copies the active granules of (c, h, w), each with a halo of `granul_size_pad` pixels, into a compact buffer."""
    device = model.device
    side = granul_size + 2 * granul_size_pad
    moved = c * active_patches(h, w, granul_size, density) * side**2
    share = float(coalescing(side, w - side, device.coalescing))
    seconds = (c * h * w + moved) / device.dram_elements_s
    seconds += moved / (device.l2_elements_s * share) + moved / device.l2_elements_s
    return model.cost(0.0, device.batch * seconds)


def scatter(model: Model, *, c: int, h: int, w: int, granul_size: int, density: float) -> Cost:
    """Copies active granules from a compact buffer back into a (c, h, w) map: costs what gathering costs."""
    return gather(model, c=c, h=h, w=w, granul_size=granul_size, density=density)


@lru_cache(maxsize=65536)
def scatter_add(model: Model, *, c: int, h: int, w: int, granul_size: int, density: float) -> Cost:
    """Adds active granules from a compact buffer onto a (c, h, w) map."""
    tile, parallel = _scatter_add_tile(model, c, h, w, granul_size)
    patches = active_patches(h, w, granul_size, density)
    compute = _scatter_add_compute(model, tile, parallel, patches)
    memory = _scatter_add_memory(model, tile, c, h, w, granul_size, patches)
    return model.cost(compute, memory, tile=tile.named(parallel))


@lru_cache(maxsize=65536)
def _scatter_add_tile(model: Model, c: int, h: int, w: int, granule: int) -> tuple[PatchTiles, float]:
    device = model.device
    patches = mean_patches(h, w, granule)
    parallel = axis(patch_count(h, w, granule)).tiles
    tiles = patch_tiles(c, granule)
    memory = _scatter_add_memory(model, tiles, c, h, w, granule, patches)

    best_compute = fewest_lane_rounds(parallel, patches, tiles.elements, device.fill_lanes / device.batch)
    best_compute *= np.ceil(tiles.count / device.units)
    best_compute *= device.fill_lanes / device.unit_macs_s

    def cost(parallel: NDArray[np.float64], some: NDArray[np.intp]) -> NDArray[np.float64]:
        compute = _scatter_add_compute(model, tiles.at(some), parallel, patches)
        result: NDArray[np.float64] = model.combine(compute, memory.ravel()[some])
        return result

    best, index = first_best(parallel, model.combine(best_compute, memory), cost)
    return tiles.single(index), best


def _scatter_add_memory(model: Model, tiles: PatchTiles, c: int, h: int, w: int, granule: int, patches: float) -> Any:
    device, batch = model.device, model.device.batch
    share = coalescing(tiles.columns, granule - tiles.columns, device.coalescing)
    dram = batch * (patches * c * granule**2 + 2 * c * h * w)
    l2 = 3 * tiles.elements * patches * tiles.count * batch
    return dram / device.dram_elements_s + l2 / (device.l2_elements_s * share)


def _scatter_add_compute(model: Model, tiles: PatchTiles, parallel: Any, patches: float) -> Any:
    device, batch = model.device, model.device.batch
    seconds = tiles.elements * parallel / device.unit_macs_s
    seconds = seconds / fill(tiles.elements * batch * parallel, device.fill_lanes)
    return seconds * np.ceil(patches / parallel) * batch * np.ceil(tiles.count / device.units)

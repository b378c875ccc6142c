"""Convolution of the active patches only: input gathered through indices, output compact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .conv import conv
from .patches import PatchTiles, active_patches, first_best, mean_patches, patch_tiles, useful_parallel
from .tiles import axis, fill

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .cost import Cost
    from .model import Model

# The search for patches in parallel runs over the candidates of this size, whatever the map.
_PARALLEL = 256


@dataclass(frozen=True)
class _Problem:
    """A gather-convolution without its spatial density: all that its tile depends on."""

    model: Model
    cin: int
    cout: int
    height: int
    width: int
    ks: int
    groups: int
    stride: int
    granule: int
    indexed: bool
    i: float
    o: float
    run: int

    @property
    def depth(self) -> int:
        return self.cin // self.groups

    @property
    def taps(self) -> int:
        return self.depth * self.ks**2

    def memory(self, tiles: PatchTiles, patches: float) -> NDArray[np.float64]:
        """Seconds of moving data for `patches` patches. All data pays DRAM and L2; coalescing is perfect."""
        device, batch, s, ks = self.model.device, self.model.device.batch, self.stride, self.ks
        weights = tiles.channels * self.taps
        if batch == 1:
            weights = weights * self.i * self.o
        window = ((tiles.rows + ks - 1) * s) * ((tiles.columns + ks - 1) * s)
        inputs = np.ceil(tiles.channels / (self.cout // self.groups)) * self.depth * window
        if self.indexed:
            read: float = self.cin * self.height * s * self.width * s
        else:
            read = patches * self.cin * ((self.granule + ks - 1) * s) ** 2
        dram = self.cout * self.taps + batch * self.i * read + batch * self.o * patches * self.cout * self.granule**2
        l2 = tiles.count * (weights + batch * self.i * patches * inputs + batch * self.o * patches * tiles.elements)
        return dram / device.dram_elements_s + l2 / device.l2_elements_s

    def compute(self, tiles: PatchTiles, parallel: Any, patches: float, worst: Any) -> Any:
        """Seconds of arithmetic; a processing element walks over the patches, `parallel` at a time."""
        device, batch = self.model.device, self.model.device.batch
        if patches == 0:
            return np.zeros(np.broadcast_shapes(np.shape(parallel), tiles.elements.shape))
        time = tiles.elements * self.taps * parallel / device.unit_macs_s
        time = time / fill(tiles.elements * batch * parallel, device.fill_lanes) * np.ceil(patches / parallel)
        return time * self.i * worst * batch * np.ceil(tiles.count / device.units)

    def worst_density(self) -> NDArray[np.float64]:
        """Density of the fullest channel tile for each channel candidate."""
        return self.model.density.of(self.cout, self.i * self.o, self.run)

    def search_bound(
        self, tiles: PatchTiles, patches: float, worst: NDArray[np.float64], memory: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Cost of each tile with its best number of patches in parallel, up to rounding."""
        device, batch = self.model.device, self.model.device.batch
        parallel = useful_parallel(axis(_PARALLEL).tiles, patches)[:, None]
        rounds = np.ceil(tiles.elements * batch * parallel / device.fill_lanes) * np.ceil(patches / parallel)
        scale = self.taps * self.i * device.fill_lanes / device.unit_macs_s
        compute = rounds.min(axis=0) * scale * worst * np.ceil(tiles.count / device.units)
        bound: NDArray[np.float64] = self.model.combine(compute, memory)
        return bound


@dataclass(frozen=True)
class _Choice:
    """The tile found for a problem, alone in its `PatchTiles`."""

    tile: PatchTiles
    parallel: float
    worst: float


@lru_cache(maxsize=65536)
def _search(problem: _Problem) -> _Choice:
    model, granule = problem.model, problem.granule
    patches = mean_patches(problem.height, problem.width, granule)
    tiles = patch_tiles(problem.cout, granule)
    per_channel_tile = len(tiles.elements) // len(axis(problem.cout).tiles)
    worst = np.repeat(problem.worst_density(), per_channel_tile)
    memory = problem.memory(tiles, patches)

    def cost(parallel: NDArray[np.float64], some: NDArray[np.intp]) -> NDArray[np.float64]:
        compute = problem.compute(tiles.at(some), parallel, patches, worst[some])
        result: NDArray[np.float64] = model.combine(compute, memory[some])
        return result

    bound = problem.search_bound(tiles, patches, worst, memory)
    parallel, index = first_best(axis(_PARALLEL).tiles, tiles, bound, cost)
    return _Choice(tiles.at(slice(index, index + 1)), parallel, float(worst[index]))


@lru_cache(maxsize=65536)
def dynamic_conv(
    model: Model,
    *,
    cin: int,
    cout: int,
    inh: int,
    inw: int,
    ks: int,
    groups: int = 1,
    stride: int = 1,
    granul_size: int = 1,
    density: float = 1.0,
    with_indexing: bool = False,
    granul_size_pad: int = 0,
    ic_density: float = 1.0,
    oc_density: float = 1.0,
    c_n_groups: int = 1,
    spatial_masker: bool = True,
) -> Cost:
    """A convolution of the share `density` of granules of `granul_size`² output pixels.

    `with_indexing`: the kernel reads the full input through indices; otherwise its input was gathered before.
    `ic_density`, `oc_density`: shares of channels that are on, in runs of `c_n_groups` (the authors pass a number of
    groups where a run length belongs). `granul_size_pad` has no effect in the authors' model. Without a spatial mask
    it is `conv` with these channel densities.
    """
    if not spatial_masker:
        return conv(
            model,
            cin=cin,
            cout=cout,
            inh=inh,
            inw=inw,
            ks=ks,
            groups=groups,
            stride=stride,
            ic_density=ic_density,
            oc_density=oc_density,
        )
    height, width = inh // stride, inw // stride
    problem = _Problem(
        model,
        cin,
        cout,
        height,
        width,
        ks,
        groups,
        stride,
        granul_size,
        with_indexing,
        ic_density,
        oc_density,
        c_n_groups,
    )
    chosen = _search(problem)
    patches = active_patches(height, width, granul_size, density)
    compute = problem.compute(chosen.tile, chosen.parallel, patches, chosen.worst)
    memory = problem.memory(chosen.tile, patches)
    return model.cost(compute.flat[0], memory[0], tile=chosen.tile.named(0, chosen.parallel))

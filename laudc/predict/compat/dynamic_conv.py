"""Convolution of the active patches only: input gathered through indices, output compact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .conv import conv
from .patches import PatchTiles, active_patches, fewest_lane_rounds, first_best, mean_patches, patch_tiles
from .tiles import at_least_one, axis, fill

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
        return at_least_one(self.cin // self.groups)

    @property
    def taps(self) -> int:
        return self.depth * self.ks**2

    def memory(self, tiles: PatchTiles, patches: float) -> Any:
        """Seconds of moving data for `patches` patches. All data pays DRAM and L2; coalescing is perfect."""
        device, batch, s, ks = self.model.device, self.model.device.batch, self.stride, self.ks
        weights = tiles.channels * self.taps
        if batch == 1:
            weights = weights * self.i * self.o
        window = ((tiles.rows + ks - 1) * s) * ((tiles.columns + ks - 1) * s)
        inputs = np.ceil(tiles.channels / at_least_one(self.cout // self.groups)) * self.depth * window
        if self.indexed:
            read: float = self.cin * self.height * s * self.width * s
        else:
            read = patches * self.cin * ((self.granule + ks - 1) * s) ** 2
        dram = self.cout * self.taps + batch * self.i * read + batch * self.o * patches * self.cout * self.granule**2
        l2 = batch * self.i * patches * inputs
        l2 = weights + l2 + batch * self.o * patches * tiles.elements
        return dram / device.dram_elements_s + tiles.count * l2 / device.l2_elements_s

    def compute(self, tiles: PatchTiles, parallel: Any, patches: float, worst: Any) -> Any:
        """Seconds of arithmetic; a processing element walks over the patches, `parallel` at a time."""
        if patches == 0:
            return 0.0 * tiles.elements
        device, batch = self.model.device, self.model.device.batch
        time = tiles.elements * self.taps * parallel / device.unit_macs_s
        time = time / fill(tiles.elements * batch * parallel, device.fill_lanes) * np.ceil(patches / parallel)
        return time * self.i * worst * batch * np.ceil(tiles.count / device.units)

    def worst_density(self) -> NDArray[np.float64]:
        """Density of the fullest channel tile for each channel candidate."""
        return self.model.density.of(self.cout, self.i * self.o, self.run)

    def best_compute(self, tiles: PatchTiles, patches: float, worst: NDArray[np.float64]) -> NDArray[np.float64]:
        """`compute` of all tiles, each with its best number of patches in parallel, up to rounding."""
        device, batch = self.model.device, self.model.device.batch
        rounds = fewest_lane_rounds(axis(_PARALLEL).tiles, patches, tiles.elements, device.fill_lanes / batch)
        rounds *= np.ceil(tiles.count / device.units)
        rounds *= worst[:, None] * (self.taps * self.i * device.fill_lanes / device.unit_macs_s)
        return rounds


@dataclass(frozen=True)
class _Choice:
    """The tile found for a problem, and the density of the fullest one of its size."""

    tile: PatchTiles
    parallel: float
    worst: float


@lru_cache(maxsize=65536)
def _search(problem: _Problem) -> _Choice:
    model = problem.model
    patches = mean_patches(problem.height, problem.width, problem.granule)
    tiles = patch_tiles(problem.cout, problem.granule)
    worst = problem.worst_density()
    memory = problem.memory(tiles, patches)
    width = memory.shape[1]

    def cost(parallel: NDArray[np.float64], some: NDArray[np.intp]) -> NDArray[np.float64]:
        compute = problem.compute(tiles.at(some), parallel, patches, worst[some // width])
        result: NDArray[np.float64] = model.combine(compute, memory.ravel()[some])
        return result

    bound = model.combine(problem.best_compute(tiles, patches, worst), memory)
    parallel, index = first_best(axis(_PARALLEL).tiles, bound, cost)
    return _Choice(tiles.single(index), parallel, float(worst[index // width]))


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
    height, width = at_least_one(inh // stride), at_least_one(inw // stride)
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
    return model.cost(compute, memory, tile=chosen.tile.named(chosen.parallel))

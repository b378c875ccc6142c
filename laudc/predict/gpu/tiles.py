"""How an indexed GEMM of ours is cut into tiles: the rules of plugins/cuda (shapes.h, dispatch.cuh, gemm_tiles.cpp)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from laudc.predict.gpu.launch import Gpu


@dataclass(frozen=True)
class Tile:
    """Rows and columns of results that a thread block of so many threads makes at a time."""

    rows: int
    columns: int
    threads: int


# Multiply-adds: every thread holds 64 sums.
SIMT_TILES: Mapping[str, Tile] = MappingProxyType({"small": Tile(64, 64, 64), "tall": Tile(128, 64, 128)})
# Tensor cores.
MMA_TILES: Mapping[str, Tile] = MappingProxyType(
    {"small": Tile(64, 64, 128), "tall": Tile(128, 64, 256), "big": Tile(128, 128, 256)}
)
_SIMT_STEP = 8  # inputs per step
_MMA_STEP_BYTES = 64
# Steps that operands are brought ahead: through registers one, by copies in the background two.
_FIRST_BACKGROUND_SM = 80
_THREADS_PER_UNIT = 512  # of the blocks that are started
_SHORTEST_SPLIT = 8  # steps
_MOST_SPLITS = 16
_SPLIT_TILES_PER_UNIT = 2
_PARTIAL_FLOATS_PER_UNIT = 4 * 64 * 64


@dataclass(frozen=True)
class Cut:
    """A launch's tile, into how many pieces each is split along k, inputs per step, how many steps operands are ahead,
    and the blocks that share a multiprocessor."""

    tile: Tile
    splits: int
    step: int
    ahead: int
    resident: int


def cut_gemm(
    gpu: Gpu,
    *,
    segments: int,
    rows: int,
    depth: int,
    columns: int,
    taps: int = 1,
    tensor_cores: bool | None = None,
    only_small: bool = False,
) -> Cut:
    """The cut of a launch: it follows from what there would be without masks.

    Args:
        segments, rows: lists, and rows of each.
        depth, taps, columns: inputs under each tap, and outputs.
        tensor_cores: None where the data type says it.
        only_small: of a kernel that exists in one shape.
    """
    mma = gpu.tensor_cores if tensor_cores is None else tensor_cores
    tiles = MMA_TILES if mma else SIMT_TILES
    name = "small" if only_small else _shape(tiles, gpu.units, segments, rows, columns)
    tile = tiles[name]
    step = _MMA_STEP_BYTES // gpu.element if mma else _SIMT_STEP
    splits = _splits(gpu.units, _tiles(tile, segments, rows, columns), taps * -(-depth // step), tile)
    return Cut(
        tile,
        splits if name == "small" else 1,
        step,
        2 if mma and gpu.sm >= _FIRST_BACKGROUND_SM else 1,
        max(1, _THREADS_PER_UNIT // tile.threads),
    )


def _tiles(tile: Tile, segments: int, rows: int, columns: int) -> int:
    return segments * -(-rows // tile.rows) * -(-columns // tile.columns)


def _shape(tiles: Mapping[str, Tile], units: int, segments: int, rows: int, columns: int) -> str:
    """The larger the tile, the less often operands are read, as long as half of the tiles keep all units busy."""
    for name in ("big", "tall"):
        tile = tiles.get(name)
        if tile is None:
            continue
        fits = columns > tile.columns // 2 or tile.columns <= 64
        if fits and _tiles(tile, segments, rows, columns) // 2 >= units:
            return name
    return "small"


def _splits(units: int, tiles: int, steps: int, tile: Tile) -> int:
    if tiles == 0 or tiles > _SPLIT_TILES_PER_UNIT * units:
        return 1
    wanted = min(units // tiles, steps // _SHORTEST_SPLIT, _MOST_SPLITS)
    room = _PARTIAL_FLOATS_PER_UNIT * units // (tiles * tile.rows * tile.columns)
    return max(1, min(wanted, room))

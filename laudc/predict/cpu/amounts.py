"""Collecting amounts of work: matrix products as the kernels share them out, and the weights that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from laudc.predict.interface import Place

Array = np.ndarray

# Rows of a register tile by vectors of 16 columns, per instruction set (plugins/cpu/kernels_*.cpp).
TILE_ROWS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"avx512": (14, 12, 8, 6), "avx2": (6, 6, 6, 6), "neon": (6, 6, 6, 6), "portable": (4, 4, 4, 4)}
)
_LANES, _PANEL = 16, 64
# Kernels fetch the next weights while they multiply: with this many rows the fetching is hidden.
_ROWS_HIDE_NEAR = 8
_ROWS_HIDE_FAR = 32
# Where memory is slow or shared, it takes more.
_ROWS_HIDE_SLOW = 64
# Rows that each thread must get to share out a product by rows (plugins/cpu/phases.cpp, panel_gemm.cpp).
ROWS_PER_TASK = 48
TOKENS_PER_TASK = 24
_MIN_TILES_PER_TASK = 16
MIN_MACS_TO_SHARE = 300_000


# Terms that `Amounts` fills by itself for products and their weights; families name them among theirs.
PRODUCT_TERMS = (
    "panel_reads",  # floats of weights read by tiles from the second-level cache
    "tiles",  # register tiles begun
    "weights_near",  # floats of weights read from the last-level cache
    "weights_far",  # floats of weights read from memory
    "waited_near",  # of these, what few rows leave no time to fetch meanwhile
    "waited_far",
    "waited_slow",
    "narrow_macs",  # multiply-accumulates in panels that are not full
    "rows_read",  # floats of activations read, per panel
)


@dataclass(frozen=True)
class Machine:
    """What the terms need to know: kernels, threads, bytes of the last-level cache (of all) and the second (of one
    core)."""

    isa: str
    threads: int
    last_cache: int
    second_cache: int = 1 << 20


class Amounts:
    """Collects terms, one column per name, for `rows` calls. `merged`: kinds of work that count as another one, or,
    where it says None, not at all."""

    def __init__(
        self,
        names: Sequence[str],
        rows: int,
        machine: Machine,
        place: Place,
        merged: Mapping[str, str | None] = MappingProxyType({}),
    ) -> None:
        self._index: dict[str, int | None] = {name: index for index, name in enumerate(names)}
        self._index |= {name: None if other is None else self._index[other] for name, other in merged.items()}
        self.values = np.zeros((rows, len(names)))
        self.machine = machine
        self.threads = machine.threads
        self._place = place

    def add(self, name: str, amount: Array | float) -> None:
        """More work of one kind."""
        column = self._index[name]
        if column is not None:
            self.values[:, column] += amount

    def gemm(
        self,
        kind: str,
        rows: Array,
        depth: Array | float,
        columns: Array | float,
        points: int = 1,
        rows_per_task: int = ROWS_PER_TASK,
        panel: int = _PANEL,
    ) -> None:
        """Rows times a (depth, columns) matrix in panels of `panel` columns, `points` times over, shared out among the
        threads by rows where there are `rows_per_task` of them for each, else by panels."""
        threads = self.threads
        any_work = (rows > 0) & (np.asarray(columns) > 0) & (np.asarray(depth) > 0)
        padded = np.ceil(np.asarray(columns, float) / _LANES) * _LANES
        macs = rows * depth * padded * points * any_work
        by_rows = rows >= (_MIN_TILES_PER_TASK if points > 1 else rows_per_task) * threads
        alone = rows * depth * columns * points < MIN_MACS_TO_SHARE
        mine = np.where(alone | ~by_rows, rows, np.ceil(rows / threads))
        panels = np.ceil(padded / panel)
        panel_share = np.where(alone | by_rows, 1.0, np.ceil(panels / threads) / np.maximum(panels, 1))
        columns_mine = padded * panel_share
        tile_rows = TILE_ROWS[self.machine.isa][panel // _LANES - 1]
        strips = np.ceil(mine / tile_rows)
        self.add(f"{kind}_macs", mine * depth * columns_mine * points * any_work)
        self.add("panel_reads", strips * depth * columns_mine * points * any_work)
        self.add("tiles", strips * np.ceil(columns_mine / panel) * points * any_work)
        self.add("rows_read", mine * depth * np.ceil(columns_mine / panel) * points * any_work)
        narrow_share = np.where(alone | by_rows, 1.0, 1.0 / threads)
        self.add("narrow_macs", mine * depth * (padded % panel) * narrow_share * points * any_work)
        self.add("section", any_work * 1.0 * (threads > 1) * (macs > 0))

    def weights(self, floats: Array | float, rows: Array) -> None:
        """Stored weights that are read when there are rows to multiply: all by every thread that shares out rows."""
        self.stream(self.by_each(floats, rows), rows)

    def packed_weights(self, kind: str, floats: Array, rows: Array) -> None:
        """Weights that are brought together first, each by one thread. Nothing hides how long memory takes for them,
        but what is fetched ahead while rows are multiplied."""
        amount = floats * (rows > 0) / self.threads
        self.add(kind, amount)
        self.add("packed_far", amount * self._place.far)
        self.add("packed_waited", amount * self._place.far * np.maximum(0, 1 - rows / _ROWS_HIDE_SLOW))

    def own_packed_weights(self, kind: str, floats: Array, rows: Array) -> None:
        """Weights that are brought together first, all by every thread that shares out rows."""
        amount = self.by_each(floats, rows)
        self.stream(amount, rows)
        self.add(kind, amount)

    def by_each(self, floats: Array | float, rows: Array) -> Array:
        """Weights that one thread reads where there are `rows` to multiply: all if threads share out rows, else its
        share."""
        share = np.where(rows >= ROWS_PER_TASK * self.threads, 1.0, 1.0 / self.threads)
        return np.asarray(floats, float) * (rows > 0) * share

    @property
    def far(self) -> float:
        """Share of the weights that comes from memory."""
        return self._place.far

    def spill(self, largest_map: float, passes: Array) -> None:
        """Maps larger than the second-level cache come from further away each time they are gone through: `passes`
        floats in all, where the largest map has `largest_map`."""
        room = self.machine.second_cache * self.threads
        share = float(np.clip((4 * largest_map - room / 2) / room, 0, 1))
        self.add("spilled", share * passes / self.threads)

    def stream(self, amount: Array, rows: Array) -> None:
        """Weights that this thread reads, from memory and from the last-level cache, while it multiplies `rows`."""
        self.add("weights_far", amount * self._place.far)
        self.add("weights_near", amount * (1 - self._place.far))
        self.add("waited_near", amount * (1 - self._place.far) * np.maximum(0, 1 - rows / _ROWS_HIDE_NEAR))
        self.add("waited_far", amount * self._place.far * np.maximum(0, 1 - rows / _ROWS_HIDE_FAR))
        self.add("waited_slow", amount * self._place.far * np.maximum(0, 1 - rows / _ROWS_HIDE_SLOW))

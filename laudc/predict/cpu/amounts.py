"""Collecting amounts of work: matrix products as the kernels share them out, and the weights that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from laudc.predict.interface import Place

Array = np.ndarray

# Rows of a register tile by vectors of 16 columns, per instruction set (plugins/cpu/kernels_*.cpp).
TILE_ROWS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"avx512": (14, 12, 8, 6), "avx2": (6, 6, 6, 6), "neon": (6, 6, 6, 6), "portable": (4, 4, 4, 4)}
)
PANEL = 64
_LANES = 16
# Kernels fetch the next weights while they multiply: with this many rows the fetching is hidden.
_ROWS_HIDE_NEAR = 8
_ROWS_HIDE_FAR = 32
# Where memory is slow or shared, it takes more.
_ROWS_HIDE_SLOW = 64
MIN_MACS_TO_SHARE = 300_000


@dataclass(frozen=True)
class Sharing:
    """When a product is shared out among the threads, and how.

    rows_per_task: rows that each thread must get to be shared out by rows, and otherwise by panels. least_rows: fewer
    count as so many when it is decided whether there is enough work to share.
    """

    rows_per_task: int
    least_rows: int


# Of the convolutional kernels (plugins/cpu/phases.cpp) and of those of transformers (plugins/cpu/panel_gemm.cpp).
PIXELS = Sharing(rows_per_task=48, least_rows=8)
TOKENS = Sharing(rows_per_task=24, least_rows=0)


@dataclass(frozen=True)
class Share:
    """What the busiest thread does of a product, (calls,) each: its rows, its panels of full width, the columns of a
    narrower last one (0: it has none), and its share of the weights. packed: the share of them that it brings together,
    where they do not lie ready. shared: whether others take part."""

    rows: Array
    panels: Array
    narrow: Array
    weights: Array
    packed: Array
    shared: Array

    @classmethod
    def of(
        cls, rows: Array, columns: Array, panel: Array | int, threads: int, *, by_panels: Array, shared: Array
    ) -> Share:
        """Of a matrix with so many columns, where the thread has `rows` rows; `by_panels`: it has a part of the panels,
        else all. Whoever has the last panel may have one more than the others, but a narrower one."""
        panels = np.ceil(columns / panel)
        last = np.ceil((columns - (panels - 1) * panel) / _LANES) * _LANES
        most = np.where(by_panels, np.ceil(panels / threads), panels)
        others_as_many = by_panels & (np.floor(panels / threads) == most)
        narrow = np.where((last < panel) & (panels > 0) & ~others_as_many, last, 0.0)
        weights = np.where(by_panels, most / np.maximum(panels, 1), 1.0)
        return cls(rows, most - (narrow > 0), narrow, weights, weights, shared)


# Terms that `Amounts` fills by itself for products and their weights; families name them among theirs.
PRODUCT_TERMS = (
    "panel_reads",  # floats of weights read by tiles from the second-level cache
    "tiles",  # register tiles begun
    "weights_near",  # floats of weights read from the last-level cache
    "weights_far",  # floats of weights read from memory
    "waited_near",  # of these, what few rows leave no time to fetch meanwhile
    "waited_far",
    "waited_slow",
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

    def for_weights(self, share: float) -> int:
        """Bytes of so much of the last-level cache."""
        return int(self.last_cache * share)


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
        *,
        sharing: Sharing = PIXELS,
        panel: Array | int = PANEL,
        written: str | None = None,
    ) -> Share:
        """Rows times a (depth, columns) matrix in panels of `panel` columns; `written`: the kind of work that its
        results are. Returns the busiest thread's part of it."""
        mine = self.share(rows, depth, columns, sharing, panel)
        self.multiplied(kind, mine, depth, panel)
        if written is not None:
            self.add(written, mine.rows * (mine.panels * panel + mine.narrow))
        return mine

    def share(
        self,
        rows: Array,
        depth: Array | float,
        columns: Array | float,
        sharing: Sharing = PIXELS,
        panel: Array | int = PANEL,
    ) -> Share:
        """The busiest thread's part of a product (`make_grid` and `indexed_gemm_apart` of plugins/cpu/phases.cpp)."""
        threads = self.threads
        some = (rows > 0) & (np.asarray(depth) > 0)
        columns = np.asarray(columns, float) * some
        worthwhile = (np.maximum(rows, sharing.least_rows) * depth * columns >= MIN_MACS_TO_SHARE) & (threads > 1)
        many = rows >= sharing.rows_per_task * threads
        # A single panel is cut into as many ranges of rows as are worth a task.
        parts = np.where(many, threads, np.clip(rows // sharing.rows_per_task, 1, threads))
        by_rows = many | (columns <= panel)
        shared = worthwhile & (~by_rows | (parts > 1))
        mine = np.where(shared & by_rows, np.ceil(rows / parts), rows)
        share = Share.of(mine, columns, panel, threads, by_panels=shared & ~by_rows, shared=shared)
        # Many rows, or panels of its own: each thread packs what it multiplies with. Else all of them pack together.
        apart = (worthwhile & many) | (shared & ~by_rows)
        return replace(share, packed=np.where(apart, share.weights, 1 / threads))

    def multiplied(self, kind: str, mine: Share, depth: Array | float, panel: Array | int, points: int = 1) -> None:
        """The work of a thread's part of a product, `points` times over."""
        self.add("section", mine.shared * 1.0)
        for panels, width in ((mine.panels, panel), ((mine.narrow > 0) * 1.0, mine.narrow)):
            strips = np.ceil(mine.rows / self._tile_rows(width)) * panels * points
            self.add(f"{kind}_macs", mine.rows * depth * width * panels * points)
            self.add("panel_reads", strips * depth * width)
            self.add("tiles", strips)
            self.add("rows_read", mine.rows * depth * panels * points)

    def _tile_rows(self, width: Array | int) -> Array:
        vectors = np.clip(np.ceil(np.asarray(width) / _LANES), 1, 4).astype(int)
        return np.asarray(TILE_ROWS[self.machine.isa], float)[vectors - 1]

    def weights(self, floats: Array | float, rows: Array, share: Array | float) -> None:
        """Stored weights that are read when there are rows to multiply: the share of them that a thread reads."""
        self.stream(np.asarray(floats, float) * (rows > 0) * share, rows)

    def packed_weights(self, kind: str, floats: Array, rows: Array, share: Share) -> None:
        """Weights that are brought together first. Nothing hides how long memory takes for them, but what is fetched
        ahead while rows are multiplied."""
        amount = self._brought_together(kind, floats, rows, share)
        self.add("packed_far", amount * self._place.far)
        self.add("packed_waited", amount * self._place.far * np.maximum(0, 1 - rows / _ROWS_HIDE_SLOW))

    def own_packed_weights(self, kind: str, floats: Array, rows: Array, share: Share) -> None:
        """As `packed_weights`, where what memory takes for them is fitted as for weights that lie ready."""
        self.stream(self._brought_together(kind, floats, rows, share), rows)

    def _brought_together(self, kind: str, floats: Array, rows: Array, share: Share) -> Array:
        """Floats that this thread moves, in a section of its own where threads do so together."""
        amount = floats * (rows > 0) * share.packed
        self.add("section", (amount > 0) & (share.packed < share.weights))
        self.add(kind, amount)
        return amount

    @property
    def far(self) -> float:
        """Share of the weights that comes from memory."""
        return self._place.far

    def spill(self, largest_map: float, passes: Array) -> None:
        """Maps larger than the second-level cache come from further away each time they are gone through: `passes`
        floats in all, where the largest map has `largest_map`."""
        share = self.spilled_share(largest_map / self.threads)
        self.add("spilled", share * passes / self.threads)

    def spilled_share(self, floats: Array | float) -> Array:
        """What a core's second-level cache cannot hold of so many floats that it goes through again, beside others."""
        room = self.machine.second_cache
        return np.clip((4 * np.asarray(floats, float) - room / 2) / room, 0, 1)

    def stream(self, amount: Array, rows: Array) -> None:
        """Weights that this thread reads, from memory and from the last-level cache, while it multiplies `rows`."""
        self.add("weights_far", amount * self._place.far)
        self.add("weights_near", amount * (1 - self._place.far))
        self.add("waited_near", amount * (1 - self._place.far) * np.maximum(0, 1 - rows / _ROWS_HIDE_NEAR))
        self.add("waited_far", amount * self._place.far * np.maximum(0, 1 - rows / _ROWS_HIDE_FAR))
        self.add("waited_slow", amount * self._place.far * np.maximum(0, 1 - rows / _ROWS_HIDE_SLOW))

"""What work costs on a CPU, as far as its cores are apart.

In virtual machines what goes from one core to another takes longer in some minutes than in others: two virtual cores
that shared a last-level cache may not share one a moment later. Then each has a way to memory of its own, and weights
that both read from memory come faster. The handover says how it stands (`laudc.predict.interface.Conditions`), its
excess how much it is above the usual one. Our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from laudc.predict.linear import fit_relative

Array = np.ndarray

# Kinds of work, of all families, inside of blocks and outside, in which something goes from core to core: where threads
# meet, and maps, lists and weights that one of them made ready for the others.
HANDED = frozenset(
    {
        "block", "section", "sublayers", "crossed", "listed", "entries", "rows_written", "outputs", "packed",
        "compacted", "filters", "filters_spilled", "copied", "pieces", "tile_transforms", "tile_outputs", "summed",
        "scaled", "excited", "passed", "heads", "scores", "gelu",
        "call", "runs", "boundaries", "transposed", "nodes", "elementwise", "stem_nodes", "behind_nodes",
    }
)  # fmt: skip

# Kinds of work that wait for memory.
FROM_MEMORY = frozenset({"weights_far", "waited_far", "waited_slow", "packed_far", "packed_waited", "weights"})
# Two ways to memory carry twice as much as one, and never less.
_LEAST_SHARE = 0.5


def columns_of(kinds: frozenset[str], names: Sequence[str]) -> list[int]:
    """Which of a family's terms are among `kinds`."""
    return [index for index, name in enumerate(names) if name in kinds]


@dataclass(frozen=True)
class Cost:
    """Nanoseconds per unit of work, (terms,) each: `ns` at the usual handover, and `apart_ns` on top, times its
    excess: positive where something is handed over, negative where memory is faster."""

    ns: Array
    apart_ns: Array

    @classmethod
    def flat(cls, ns: Array) -> Cost:
        """The same wherever the cores are."""
        return cls(ns, np.zeros_like(ns))

    def at(self, excess: Array | float) -> Array:
        """(terms,) at one handover, or (rows, terms) at several (rows, 1)."""
        return np.maximum(self.ns + excess * self.apart_ns, _LEAST_SHARE * self.ns)

    def of(self, terms: Array, excess: Array) -> Array:
        """(rows,) of so much work (rows, terms), each at its own handover (rows,)."""
        return np.asarray((terms * self.at(excess[:, None])).sum(axis=1))

    def only(self, kinds: Array) -> Cost:
        """Without the other kinds of work; `kinds`: (terms,) of truth values."""
        return Cost(self.ns * kinds, self.apart_ns * kinds)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.ns + other.ns, self.apart_ns + other.apart_ns)


def fit_cost(
    names: Sequence[str],
    terms: Array,
    measured: Array,
    excess: Array,
    *,
    scale: Array | None = None,
    importance: Array | None = None,
    pairs: Array | None = None,
) -> Cost:
    """What so much work (rows, terms) of the kinds `names` costs, from what it took (rows,), each row at its own
    handover. What is handed over has a second coefficient, times the excess; what comes from memory has two that add
    up, of which one falls to half at the largest excess of all rows. The other arguments: see `fit_relative`."""
    most = float(excess.max(initial=0.0))
    handed, far = (columns_of(kinds, names) if most else [] for kinds in (HANDED, FROM_MEMORY))
    apart = (excess / most if most else excess)[:, None]
    faster = 1 - (1 - _LEAST_SHARE) * apart
    every = np.hstack([terms, terms[:, handed] * apart, terms[:, far] * faster])
    found = fit_relative(every, measured, scale=scale, importance=importance, pairs=pairs)
    ns, on_top, falling = np.split(found, [len(names), len(names) + len(handed)])
    apart_ns = np.zeros_like(ns)
    apart_ns[handed] = on_top
    apart_ns[far] = (_LEAST_SHARE - 1) * falling
    ns[far] += falling
    return Cost(ns, apart_ns / most if most else apart_ns)

"""What work costs on a CPU, as far as its cores are apart.

In virtual machines what goes from one core to another takes longer in some minutes than in others: two virtual cores
that shared a last-level cache may not share one a moment later. The handover says how it stands
(`laudc.predict.interface.Conditions`), its excess how much it is above the usual one. Our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

# Kinds of work, of all families, inside of blocks and outside, in which something goes from core to core: where threads
# meet, and maps, lists and weights that one of them made ready for the others.
HANDED = frozenset(
    {
        "block", "section", "sublayers", "crossed", "listed", "entries", "rows_written", "outputs", "packed",
        "compacted", "filters", "copied", "pieces", "tile_transforms", "tile_outputs", "summed", "scaled", "excited",
        "passed", "heads", "scores", "gelu",
        "call", "runs", "boundaries", "transposed", "nodes", "elementwise", "stem_nodes", "behind_nodes",
    }
)  # fmt: skip


def handed(names: Sequence[str]) -> list[int]:
    """Which of a family's terms are."""
    return [index for index, name in enumerate(names) if name in HANDED]


@dataclass(frozen=True)
class Cost:
    """Nanoseconds per unit of work, (terms,) each: `ns` at the usual handover, and `handed_ns` on top, times its
    excess."""

    ns: Array
    handed_ns: Array

    @classmethod
    def flat(cls, ns: Array) -> Cost:
        """The same wherever the cores are."""
        return cls(ns, np.zeros_like(ns))

    def at(self, excess: float) -> Array:
        """(terms,) at one handover."""
        return np.asarray(self.ns + excess * self.handed_ns)

    def of(self, terms: Array, excess: Array) -> Array:
        """(rows,) of so much work (rows, terms), each at its own handover (rows,)."""
        return np.asarray(terms @ self.ns + excess * (terms @ self.handed_ns))

    def only(self, kinds: Array) -> Cost:
        """Without the other kinds of work; `kinds`: (terms,) of truth values."""
        return Cost(self.ns * kinds, self.handed_ns * kinds)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.ns + other.ns, self.handed_ns + other.handed_ns)

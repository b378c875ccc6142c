"""What a run of a network yields for comparison, whatever ran it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Decisions:
    """One masker's decisions for a batch: `keep` bool (B, ...), `margin` keep − drop likewise, if known."""

    keep: Array
    margin: Array | None = None


@dataclass(frozen=True)
class BlockOutcome:
    """One block of one run: decisions by kind ("channel", "spatial"), output mean (B, C) if known."""

    name: str
    decisions: dict[str, Decisions] = field(default_factory=dict)
    gap: Array | None = None


@dataclass(frozen=True)
class Outcome:
    """Logits (B, classes) and all blocks in forward order."""

    logits: Array
    blocks: tuple[BlockOutcome, ...]


def join(parts: Sequence[Outcome]) -> Outcome:
    """The outcomes of consecutive batches of the same network as one."""
    logits = np.concatenate([part.logits for part in parts])
    blocks = (_join_blocks(same) for same in zip(*(part.blocks for part in parts), strict=True))
    return Outcome(logits, tuple(blocks))


def _join_blocks(parts: Sequence[BlockOutcome]) -> BlockOutcome:
    kinds = parts[0].decisions
    decisions = {kind: _join_decisions([part.decisions[kind] for part in parts]) for kind in kinds}
    return BlockOutcome(parts[0].name, decisions, _join_known([part.gap for part in parts]))


def _join_decisions(parts: Sequence[Decisions]) -> Decisions:
    return Decisions(
        np.concatenate([part.keep for part in parts]), _join_known([part.margin for part in parts])
    )


def _join_known(parts: Sequence[Array | None]) -> Array | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None

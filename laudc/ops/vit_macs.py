"""Counts of multiply-accumulates of a transformer block: dense, and what one image's decisions leave.

Own derivation from the definition of the sublayers (`laudc.ops.transformer`), for t kept of L tokens and h kept of H
heads with d features each, D = H·d, F hidden units:

* query, key, value: t·D·d for each kept head; values of all heads where dropped ones pass theirs;
* scores and mix: 2·t²·d for each kept head;
* projection: t·D·d for each kept head (all of them where dropped ones pass their values);
* fc1: t·D·F, of which dropped heads leave out their inputs or outputs; fc2: t·F·D, of which dropped outputs of fc1 are
  left out; t is L where the MLP does not follow the choice of tokens;
* a sublayer that is off counts nothing.

Policies count as overhead of the dynamic network only. Of the last block, only the class token is read; the dense
network computes the others all the same, so they count in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from laudc.ops.spec import Array
from laudc.ops.transformer import DroppedHead, MlpWidth


@dataclass(frozen=True)
class VitBlockShape:
    """Everything about a transformer block that its MACs depend on, except the decisions.

    `masker`: MACs of its policies for one image; `tokens_in_mlp`: whether the MLP follows the choice of tokens.
    """

    name: str
    tokens: int
    dim: int
    heads: int
    hidden: int
    masker: int
    tokens_in_mlp: bool = True
    dropped_heads: int = DroppedHead.NOTHING
    head_width: int = MlpWidth.FULL


@dataclass(frozen=True)
class VitBlockMacs:
    """MACs of one block for one image: `dense` without decisions, the parts as the decisions leave them."""

    name: str
    dense: int
    qkv: int
    attention: int
    projection: int
    fc1: int
    fc2: int
    masker: int

    @property
    def active(self) -> int:
        """All MACs the decisions leave, policies included."""
        return self.qkv + self.attention + self.projection + self.fc1 + self.fc2 + self.masker


def vit_block_macs(
    shape: VitBlockShape,
    *,
    token: Array | None = None,
    head: Array | None = None,
    layer: Array | None = None,
) -> VitBlockMacs:
    """MACs of one block for one image.

    Args:
        token: (L-1,), head: (H,), layer: (2,) of 0 and 1; None keeps all.
    """
    parts = _parts(shape, _count(token, shape.tokens - 1) + 1, _count(head, shape.heads))
    attends, transforms = (1, 1) if layer is None else (int(on > 0) for on in np.asarray(layer))
    dense = sum(_parts(shape, shape.tokens, shape.heads).values())
    on = {name: macs * (transforms if name.startswith("fc") else attends) for name, macs in parts.items()}
    return VitBlockMacs(shape.name, dense, masker=shape.masker, **on)


def _count(mask: Array | None, total: int) -> int:
    return total if mask is None else int(np.count_nonzero(np.asarray(mask) > 0))


def _parts(shape: VitBlockShape, tokens: int, heads: int) -> Mapping[str, int]:
    width = shape.dim // shape.heads
    passing = shape.heads if shape.dropped_heads == DroppedHead.VALUES else heads
    in_mlp = tokens if shape.tokens_in_mlp else shape.tokens
    inputs = heads * width if shape.head_width == MlpWidth.INPUTS else shape.dim
    outputs = shape.hidden * heads // shape.heads if shape.head_width == MlpWidth.OUTPUTS else shape.hidden
    return {
        "qkv": tokens * shape.dim * width * (2 * heads + passing),
        "attention": 2 * tokens * tokens * width * heads,
        "projection": tokens * shape.dim * width * passing,
        "fc1": in_mlp * inputs * outputs,
        "fc2": in_mlp * outputs * shape.dim,
    }

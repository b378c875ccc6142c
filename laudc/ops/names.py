"""Names in the portable graph; all follow from the block's module path, such as `layer3.7`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laudc.ops.spec import Array

INPUT = "input"
OUTPUT = "logits"
# Kinds of decisions, and which values keep: LAUDNet's maskers keep a tie between keep and drop, AdaViT's policies drop
# what just reaches their threshold.
KINDS = ("channel", "spatial", "token", "head", "layer")
_STRICT = frozenset({"token", "head", "layer"})
_ATTENTION = ".attn"
_MLP = ".mlp"


def masker_node(block: str, kind: str) -> str:
    """Name of a masker node; `kind` is one of KINDS."""
    return f"{block}.masker_{kind}"


def mask_value(block: str, kind: str) -> str:
    """Name of the value that holds a block's mask; `kind` is one of KINDS."""
    return f"{block}.mask_{kind}"


def split_mask_value(value: str) -> tuple[str, str] | None:
    """(block, kind) of a mask value, None for any other name."""
    block, _, last = value.rpartition(".")
    kind = last.removeprefix("mask_")
    return (block, kind) if block and last.startswith("mask_") and kind in KINDS else None


def attention_node(block: str) -> str:
    """Name of the DynamicAttention node of a transformer block."""
    return block + _ATTENTION


def mlp_node(block: str) -> str:
    """Name of the DynamicMlp node of a transformer block."""
    return block + _MLP


def block_of_node(node: str) -> str:
    """The block that an attention, MLP or bottleneck node belongs to."""
    return node.removesuffix(_ATTENTION).removesuffix(_MLP)


def kept(kind: str, margin: Array) -> Array:
    """bool: which decisions of `kind` keep, from their margins. A NaN drops."""
    import numpy as np

    return np.asarray(margin > 0 if kind in _STRICT else margin >= 0)

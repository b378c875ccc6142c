"""Names in the portable graph; all follow from the block's module path, such as `layer3.7`."""

from __future__ import annotations

INPUT = "input"
OUTPUT = "logits"
KINDS = ("channel", "spatial")


def masker_node(block: str, kind: str) -> str:
    """Name of a masker node; `kind` is "channel" or "spatial"."""
    return f"{block}.masker_{kind}"


def mask_value(block: str, kind: str) -> str:
    """Name of the value that holds a block's mask; `kind` is "channel" or "spatial"."""
    return f"{block}.mask_{kind}"


def split_mask_value(value: str) -> tuple[str, str] | None:
    """(block, kind) of a mask value, None for any other name."""
    block, _, last = value.rpartition(".")
    kind = last.removeprefix("mask_")
    return (block, kind) if block and last.startswith("mask_") and kind in KINDS else None

"""The `margins` output of runs: which number is whose decision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from laudc.ops import names
from laudc.ops.spec import Array


def split_margins(blocks: Iterable[Mapping[str, Any]], margins: Array) -> dict[str, dict[str, Array]]:
    """(batch, total) → per block and kind of decision `KIND_margin` (batch, *its shape), such as `spatial_margin`.

    `blocks` are the records of the blocks in their order, with their `name`.
    """
    found: dict[str, dict[str, Array]] = {}
    at = 0
    for block in blocks:
        entry = found[block["name"]] = {}
        for kind, shape in _decisions(block).items():
            number = math.prod(shape)
            entry[f"{kind}_margin"] = margins[:, at : at + number].reshape(-1, *shape)
            at += number
    return found


def _decisions(block: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of a block's decisions for one image, in the order in which a run reports them."""
    if "decisions" in block:
        return {kind: (number,) for kind, number in block["decisions"].items()}
    shapes = {
        "spatial": (block["mask_groups"], block["mask_h"], block["mask_w"]),
        "channel": (block["channel_groups"],),
    }
    return {kind: shape for kind, shape in shapes.items() if math.prod(shape)}


def masks_from_margins(schedule: Iterable[Mapping[str, Any]], margins: Array) -> dict[str, Array]:
    """The decisions of all sparse blocks of a manifest's schedule as masks of 0 and 1, by the name in the graph."""
    import numpy as np

    records = [{"name": block["name"], **block["record"]} for block in schedule if block.get("record")]
    return {
        names.mask_value(block, key.removesuffix("_margin")): (margin >= 0).astype(np.float32)
        for block, kinds in split_margins(records, margins).items()
        for key, margin in kinds.items()
    }

"""How much work policies leave of a transformer block, for many images at once (`plugins/cpu/vit_run.cpp`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from laudc.ops.scheduled_vit import VitRecord

Array = np.ndarray


@dataclass(frozen=True)
class VitCounts:
    """Decisions of one block, one entry per image (float64).

    tokens: kept ones, the class token included. heads: kept ones. attends, transforms: 1 where attention and MLP run,
    else 0.
    """

    tokens: Array
    heads: Array
    attends: Array
    transforms: Array

    def __len__(self) -> int:
        return len(self.tokens)


def full_vit_counts(record: VitRecord, images: int = 1) -> VitCounts:
    """Everything kept."""
    return count_vit_block(record, {}, images)


def count_vit_block(record: VitRecord, masks: Mapping[str, Array], images: int) -> VitCounts:
    """Counts of a block from its masks.

    Args:
        record: the block.
        masks: by kind: token (images, tokens − 1), head (images, heads), layer (images, 2) of 0 and 1; kinds that are
            left out keep everything.
        images: number of images, for blocks without masks.
    """

    def kept(kind: str, everything: int) -> Array:
        mask = masks.get(kind)
        if mask is None:
            return np.full(images, float(everything))
        return np.asarray((np.asarray(mask) != 0).reshape(images, -1).sum(axis=1).astype(float))

    layer = np.asarray(masks["layer"]) != 0 if "layer" in masks else np.ones((images, 2), bool)
    attends, transforms = (layer.reshape(images, 2)[:, at].astype(float) for at in (0, 1))
    return VitCounts(kept("token", record.tokens - 1) + 1, kept("head", record.heads), attends, transforms)

"""The work that masks leave of a block, whatever its family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np

from laudc.ops.scheduled import RegNetRecord
from laudc.ops.scheduled_vit import VitRecord
from laudc.predict.counts import Counts, count_block, full_counts
from laudc.predict.families import REGNET, RESNET, VIT, Record, family_of
from laudc.predict.regnet_counts import RegNetCounts, count_regnet_block, full_regnet_counts
from laudc.predict.vit_counts import VitCounts, count_vit_block, full_vit_counts

Array = np.ndarray
Work = Counts | RegNetCounts | VitCounts

_KINDS: Mapping[str, type[Work]] = {RESNET: Counts, REGNET: RegNetCounts, VIT: VitCounts}


def count_work(record: Record, masks: Mapping[str, Array], images: int) -> Work:
    """The work of a block for each image.

    Args:
        masks: of 0 and 1 by kind (`laudc.ops.names.KINDS`), images first; kinds that the block lacks are left out.
        images: number of images, for blocks without masks.
    """
    if isinstance(record, VitRecord):
        return count_vit_block(record, masks, images)
    count = count_regnet_block if isinstance(record, RegNetRecord) else count_block
    return count(record, masks.get("spatial"), masks.get("channel"), images)  # type: ignore[arg-type]


def full_work(record: Record, images: int = 1) -> Work:
    """Everything kept."""
    if isinstance(record, VitRecord):
        return full_vit_counts(record, images)
    return full_regnet_counts(record, images) if isinstance(record, RegNetRecord) else full_counts(record, images)


def first_row(work: Work) -> tuple[float, ...]:
    """The numbers of the first image, in the order of the fields."""
    return tuple(float(getattr(work, field.name)[0]) for field in fields(work))


def work_of_row(record: Record, row: Sequence[float]) -> Work:
    """Inverse of `first_row`: the work of one image. Raises TypeError for a row of another family."""
    return _KINDS[family_of(record)](*(np.asarray([value], float) for value in row))

"""The work that a device's own decisions left."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from laudc.ops.scheduled_vit import VitRecord
from laudc.predict.families import Record
from laudc.predict.work import count_work

Array = np.ndarray


def mean_counts(record: Record, margins: Array) -> tuple[float, ...]:
    """The work of a block as `laudc.predict.work.first_row` has it: means over images, from the margins (images,
    margins)."""
    work = count_work(record, _masks(record, margins), len(margins))
    return tuple(float(getattr(work, field.name).mean()) for field in fields(work))


def _masks(record: Record, margins: Array) -> dict[str, Array]:
    """The decisions by kind, in the order in which a run reports them. Convolution blocks keep what is not below 0,
    transformer blocks what is above."""
    if isinstance(record, VitRecord):
        ends = np.cumsum([0, *record.decisions.values()])
        parts = zip(record.decisions, ends[:-1], ends[1:], strict=True)
        return {kind: margins[:, begin:end] > 0 for kind, begin, end in parts}
    cells, masks = record.spatial_cells, {}
    if record.mask_groups:
        shape = (len(margins), record.mask_groups, record.mask_h, record.mask_w)
        masks["spatial"] = margins[:, :cells].reshape(shape) >= 0
    if record.channel_groups:
        masks["channel"] = margins[:, cells:] >= 0
    return masks

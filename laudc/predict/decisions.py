"""The work that a device's own decisions left."""

from __future__ import annotations

import numpy as np

from laudc.ops.scheduled import BlockRecord
from laudc.predict.counts import count_block

Array = np.ndarray


def mean_counts(record: BlockRecord, margins: Array) -> tuple[float, ...]:
    """conv1, conv2, tiles, conv3 and channels of a block, means over images, from its margins (images, margins)."""
    images, cells = len(margins), record.spatial_cells
    spatial = channel = None
    if record.mask_groups:
        spatial = margins[:, :cells].reshape(images, record.mask_groups, record.mask_h, record.mask_w) >= 0
    if record.channel_groups:
        channel = margins[:, cells:] >= 0
    counts = count_block(record, spatial, channel, images)
    values = (counts.conv1, counts.conv2, counts.tiles, counts.conv3, counts.channels)
    return tuple(float(value.mean()) for value in values)

"""Weights that a call goes through, and whether a cache still holds them from the call before."""

from __future__ import annotations

import numpy as np

from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.counts import Counts

Array = np.ndarray

_WINOGRAD_POINTS, _TAPS = 16, 9
_VECTOR = 16


def gone_through(record: BlockRecord, kept: Array) -> Array:
    """Input channels of conv2 whose weights are gone through for `kept` ones of them: a vector of 16 neighbours is read
    and turned as a whole when any of them is kept (kept groups lie at random)."""
    if not record.channel_groups:
        return kept
    per_vector = max(1.0, _VECTOR * record.channel_groups / record.width)
    return np.asarray(record.width * (1 - (1 - kept / record.width) ** per_vector))


def touched_floats(record: BlockRecord, counts: Counts) -> Array:
    """Floats of weights that a block reads for each image."""
    kept = counts.channels
    transformed = record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2 and not record.channel_groups
    taps = _WINOGRAD_POINTS if transformed else _TAPS
    inner = (record.cin * kept + taps * kept * gone_through(record, kept)) * (counts.conv1 > 0)
    return inner + kept * record.cout * (counts.conv3 > 0) + record.projection * record.cin * record.cout


def far_share(floats: float, last_cache: int) -> float:
    """Share of the weights that must come from memory when a call touches `floats` of them and the last-level cache
    holds `last_cache` bytes: none while they fill half of it, all from its full size on."""
    if last_cache <= 0:
        return 1.0
    return float(np.clip((4 * floats - last_cache / 2) / (last_cache / 2), 0, 1))

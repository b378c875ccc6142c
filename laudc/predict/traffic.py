"""Weights that a call goes through, and whether a cache still holds them from the call before."""

from __future__ import annotations

import numpy as np

from laudc.ops.scheduled import BlockRecord, Conv2Algorithm, RegNetRecord
from laudc.ops.scheduled_vit import VitRecord
from laudc.ops.transformer import DroppedHead, MlpWidth
from laudc.predict.counts import Counts
from laudc.predict.families import Record
from laudc.predict.regnet_counts import RegNetCounts
from laudc.predict.vit_counts import VitCounts
from laudc.predict.work import Work

Array = np.ndarray

_WINOGRAD_POINTS, _TAPS = 16, 9
_VECTOR = 16
# Floats of conv a's weights that a RegNetY block fetches for the next one (plugins/cpu/regnet_run.cpp).
_FETCHED_AHEAD = 128.0 * 1024
# Weights that fill this share of the last-level cache are all still there in the next call, and none of them are from
# this multiple of its size on (found by cross-validation on calibrations).
_STAYS, _GONE = 0.2, 1.5


def gone_through(record: BlockRecord, kept: Array) -> Array:
    """Input channels of conv2 whose weights are gone through for `kept` ones of them: a vector of 16 neighbours is read
    and turned as a whole when any of them is kept (kept groups lie at random)."""
    if not record.channel_groups:
        return kept
    per_vector = max(1.0, _VECTOR * record.channel_groups / record.width)
    return np.asarray(record.width * (1 - (1 - kept / record.width) ** per_vector))


def touched_floats(record: Record, counts: Work) -> Array:
    """Floats of weights that a block reads for each image, or that are fetched for it and then not needed."""
    if isinstance(record, VitRecord):
        assert isinstance(counts, VitCounts)
        return sum(vit_weights(record, counts).values(), np.zeros(len(counts)))
    if isinstance(record, RegNetRecord):
        assert isinstance(counts, RegNetCounts)
        return sum(regnet_weights(record, counts).values(), np.zeros(len(counts))) + fetched_in_vain(record, counts)
    assert isinstance(counts, Counts)
    return _resnet_floats(record, counts)


def regnet_weights(record: RegNetRecord, counts: RegNetCounts) -> dict[str, Array]:
    """Floats of weights that the parts of a RegNetY block read for each image: "a", "b", "se", "c", "projection"."""
    kept, runs = counts.channels, counts.b > 0
    width = record.width // record.group
    # A convolution group with any kept channel is read as a whole.
    return {
        "a": record.cin * kept * runs,
        "b": 9 * counts.parts * width * width * runs,
        "se": 2.0 * record.squeeze * record.width * (runs & (kept > 0)),
        "c": kept * record.cout * (counts.c > 0),
        "projection": np.full(len(counts), float(record.projection * record.cin * record.cout)),
    }


def fetched_in_vain(record: RegNetRecord, counts: RegNetCounts) -> Array:
    """Floats of conv a's weights that are fetched though no kept channel needs them: while the block before computes
    its last convolution, its masks are not known, and so much from the beginning on is brought into the cache."""
    if not record.channel_groups:
        return np.zeros(len(counts))
    ahead = min(float(record.cin * record.width), _FETCHED_AHEAD)
    return ahead * (1 - counts.channels / record.width)


def vit_weights(record: VitRecord, counts: VitCounts) -> dict[str, Array]:
    """Floats of weights that the matrices of a transformer block read for each image: "query", "key", "value", "proj",
    "fc1", "fc2"."""
    dim, kept = record.dim, counts.heads * record.head_dim
    values = np.full(len(counts), float(dim)) if record.dropped_heads == DroppedHead.VALUES else kept
    share = counts.heads / record.heads
    inputs = kept if record.head_width == MlpWidth.INPUTS else dim
    hidden = record.hidden * (share if record.head_width == MlpWidth.OUTPUTS else 1.0)
    attends, transforms = counts.attends, counts.transforms
    return {
        "query": dim * kept * attends,
        "key": dim * kept * attends,
        "value": dim * values * attends,
        "proj": values * dim * attends,
        "fc1": inputs * hidden * transforms,
        "fc2": hidden * dim * transforms,
    }


def _resnet_floats(record: BlockRecord, counts: Counts) -> Array:
    kept = counts.channels
    transformed = record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2 and not record.channel_groups
    taps = _WINOGRAD_POINTS if transformed else _TAPS
    inner = (record.cin * kept + taps * kept * gone_through(record, kept)) * (counts.conv1 > 0)
    return inner + kept * record.cout * (counts.conv3 > 0) + record.projection * record.cin * record.cout


def far_share(floats: float, last_cache: int) -> float:
    """Share of the weights that must come from memory when a call touches `floats` of them and the last-level cache
    holds `last_cache` bytes. Between none and all the share grows evenly, as measured: others use the cache as well,
    and it does not drop what was used longest ago first, so that some of what is a little too large for it stays."""
    if last_cache <= 0:
        return 1.0
    return float(np.clip((4 * floats / last_cache - _STAYS) / (_GONE - _STAYS), 0, 1))


def cold_share(floats: float, last_cache: int) -> float:
    """Share of everything that a call needs once - image, buffers, what the runtime keeps for itself - that its weights
    push out of the last-level cache: what is left after replacing lines at random, 1 − exp(−weights / cache)."""
    if last_cache <= 0:
        return 1.0
    return float(-np.expm1(-4 * floats / last_cache))

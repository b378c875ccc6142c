"""How much work masks leave of a RegNetY block, for many images at once.

The rules are those of `plugins/cpu/regnet_run.cpp`: conv a and b are computed everywhere unless squeeze-excitation
averages over kept positions only; of each convolution group, the kept channels are multiplied with each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laudc.ops.packing import ALIGN
from laudc.ops.scheduled import RegNetRecord
from laudc.predict.counts import count_block

Array = np.ndarray

NARROW = 8  # channels of a convolution group that fill half a vector
# Whole vectors of a group, with half a one behind them, of the kernel that goes through whole maps.
_BEFORE_HALF = 1


@dataclass(frozen=True)
class RegNetCounts:
    """Work of one block, one entry per image (float64).

    a, b: pixels computed by conv a and b. c: pixels, added up over the mask groups and divided by their number.
    read: pixels that conv c reads, each once. channels: kept ones. parts: convolution groups with a kept channel.
    pairs: input times output channels of conv b, added up over the groups; padded, narrow: the same with outputs as the
    kernel of whole maps computes them, in whole vectors and in half ones; listed: in whole vectors only, as the kernel
    of listed pixels does.
    """

    a: Array
    b: Array
    c: Array
    read: Array
    channels: Array
    parts: Array
    pairs: Array
    narrow: Array
    padded: Array
    listed: Array

    def __len__(self) -> int:
        return len(self.a)


def full_regnet_counts(record: RegNetRecord, images: int = 1) -> RegNetCounts:
    """Everything kept."""
    return count_regnet_block(record, None, None, images)


def count_regnet_block(record: RegNetRecord, spatial: Array | None, channel: Array | None, images: int) -> RegNetCounts:
    """Counts of a block from its masks; arguments as of `laudc.predict.counts.count_block`."""
    rows = count_block(record, spatial, None, images)
    a, b = rows.conv1, rows.conv2
    if not record.se_pool:
        runs = rows.conv3 > 0
        a, b = runs * float(record.hin * record.win), runs * float(record.hout * record.wout)
    kept = _kept_per_group(record, channel, images)
    vectors = np.ceil(kept / ALIGN)
    # The last vector is half a one if that is enough.
    half = (kept > 0) & (vectors <= 1 + _BEFORE_HALF) & (kept <= vectors * ALIGN - NARROW)
    return RegNetCounts(
        a=a,
        b=b,
        c=rows.conv3,
        read=rows.conv3 if record.conv3_parts == 1 else b,
        channels=kept.sum(axis=1),
        parts=(kept > 0).sum(axis=1).astype(float),
        pairs=(kept**2).sum(axis=1),
        narrow=(kept * NARROW * half).sum(axis=1),
        padded=(kept * ALIGN * (vectors - half)).sum(axis=1),
        listed=(kept * ALIGN * vectors).sum(axis=1),
    )


def _kept_per_group(record: RegNetRecord, channel: Array | None, images: int) -> Array:
    """(images, convolution groups): kept channels of each."""
    width = record.width // record.group
    if channel is None:
        return np.full((images, record.group), float(width))
    mask = np.asarray(channel) != 0
    by_channel = mask.repeat(record.width // mask.shape[1], axis=1)
    return by_channel.reshape(images, record.group, width).sum(axis=2).astype(float)

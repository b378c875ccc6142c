"""Blocks made for measuring: random weights and inputs, and masks that keep what a design says.

Every block gets an input of its own, so that its maskers' thresholds follow from the input alone: the first channels
carry blobs as photos have them, and each spatial mask group looks at one of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from laudc.calibrate.design import Design
from laudc.calibrate.synthetic import Drawn, synthetic_image
from laudc.ops.numeric import pool_matrix
from laudc.ops.packing import BlockWeights, MaskerWeights, pack_block
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm

Array = np.ndarray

# Keeps inputs, which kernels take to be the results of a ReLU, above zero.
_OFFSET = 8.0
_DECIDED = 4.0


@dataclass(frozen=True)
class MadeBlock:
    """A block's record, its packed weights, and its input (batch, height, width, channels), float32."""

    record: BlockRecord
    packed: Array
    x: Array


def made_blocks(design: Design, batch: int, panel: int) -> Iterator[MadeBlock]:
    """The blocks of a design in forward order, conv2 direct as on every GPU."""
    assert isinstance(design.drawn, Drawn)
    random = np.random.default_rng(design.index)
    shares = zip(design.records(panel), design.drawn.spatial, design.drawn.channel, strict=True)
    for (_, drawn), spatial, channel in shares:
        assert isinstance(drawn, BlockRecord)
        record = replace(drawn, conv2_algorithm=Conv2Algorithm.DIRECT)
        x = _input(record, batch, random)
        weights = BlockWeights(
            conv1=_convolution(random, record.width, record.cin, 1),
            conv2=_convolution(random, record.width, record.width, 3),
            conv3=_convolution(random, record.cout, record.width, 1),
            projection=_convolution(random, record.cout, record.cin, 1) if record.projection else None,
            spatial_masker=_spatial_masker(record, spatial, x) if record.mask_groups else None,
            channel_masker=_channel_masker(record, channel, random) if record.channel_groups else None,
        )
        yield MadeBlock(record, pack_block(record, weights), np.ascontiguousarray(x.transpose(0, 2, 3, 1)))


def _convolution(random: np.random.Generator, out: int, inside: int, kernel: int) -> tuple[Array, Array]:
    scale = np.float32((inside * kernel * kernel) ** -0.5)
    weight = random.standard_normal((out, inside, kernel, kernel), dtype=np.float32) * scale
    return weight, 0.1 * random.standard_normal(out, dtype=np.float32)


def _input(record: BlockRecord, batch: int, random: np.random.Generator) -> Array:
    x = np.abs(random.standard_normal((batch, record.cin, record.hin, record.win), dtype=np.float32))
    side = max(record.hin, record.win)
    for group in range(record.mask_groups):
        blobs = synthetic_image(side, int(random.integers(1 << 31)), batch)[:, 0]
        x[:, group] = np.maximum(blobs[:, : record.hin, : record.win] + _OFFSET, 0)
    return x


def _spatial_masker(record: BlockRecord, share: float, x: Array) -> tuple[Array, Array]:
    """Keeps the share of all cells of the batch that see most of their channel; of a layer, all images or none."""
    groups = record.mask_groups
    weight = np.zeros((2 * groups, record.cin, 1, 1), np.float32)
    bias = np.zeros(2 * groups, np.float32)
    rows, columns = pool_matrix(record.hin, record.mask_h), pool_matrix(record.win, record.mask_w)
    for group in range(groups):
        weight[group, group] = 1
        scores = rows @ x[:, group] @ columns.T
        if share <= 0:
            bias[group] = -float(scores.max()) - _DECIDED
        elif share < 1:
            bias[group] = -float(np.quantile(scores, 1 - share, method="midpoint"))
    return weight, bias


def _channel_masker(record: BlockRecord, share: float, random: np.random.Generator) -> MaskerWeights:
    groups, hidden = record.channel_groups, record.masker_hidden
    keep = np.where(random.permutation(groups) < max(1, round(share * groups)), _DECIDED, -_DECIDED)
    bias = np.concatenate([keep, np.zeros(groups)]).astype(np.float32)
    last = np.zeros((2 * groups, hidden or record.cin), np.float32)
    if not hidden:
        return MaskerWeights(last, bias)
    first = random.standard_normal((hidden, record.cin), dtype=np.float32) * np.float32(record.cin**-0.5)
    return MaskerWeights(last, bias, first, np.zeros(hidden, np.float32))

"""Blocks made for measuring: random weights and inputs, and masks that keep what a design says.

Every block gets an input of its own, so that its maskers' thresholds follow from the input alone. Of maps the first
channels carry blobs as photos have them, and each spatial mask group looks at one of these; tokens are random.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from laudc.calibrate.design import Design
from laudc.calibrate.synthetic import synthetic_image
from laudc.calibrate.synthetic_vit import VitDrawn, vit_masks
from laudc.ops.numeric import pool_matrix
from laudc.ops.packing import BlockWeights, MaskerWeights
from laudc.ops.packing_vit import VitWeights, pack_vit_block
from laudc.ops.regnet_packing import RegNetWeights, pack_conv_block
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm, RegNetRecord
from laudc.ops.scheduled_vit import VitRecord
from laudc.predict.families import Record
from laudc.predict.vit_blueprint import VitBlueprint

Array = np.ndarray
Layer = tuple[Array, Array]

# Keeps inputs, which kernels take to be the results of a ReLU, above zero.
_OFFSET = 8.0
_DECIDED = 4.0
_EPSILON = 1e-5


@dataclass(frozen=True)
class MadeBlock:
    """A block's record, its packed weights, and its input: (batch, height, width, channels) or (batch, tokens,
    features), float32."""

    record: Record
    packed: Array
    x: Array

    @property
    def outputs(self) -> int:
        """Values that the block makes of an image."""
        record = self.record
        if isinstance(record, VitRecord):
            return (1 if record.first_only else record.tokens) * record.dim
        return record.hout * record.wout * record.cout


def made_blocks(design: Design, batch: int, panel: int) -> Iterator[MadeBlock]:
    """The blocks of a design in forward order, conv2 direct as on every GPU."""
    random = np.random.default_rng(design.index)
    if isinstance(design.drawn, VitDrawn):
        yield from _vit_blocks(design, design.drawn, batch, panel, random)
        return
    shares = zip(design.records(panel), design.drawn.spatial, design.drawn.channel, strict=True)
    for (_, drawn), spatial, channel in shares:
        assert isinstance(drawn, BlockRecord)
        record = replace(drawn, conv2_algorithm=Conv2Algorithm.DIRECT)
        x = _input(record, batch, random)
        maskers = _Maskers(
            _spatial_masker(record, spatial, x) if record.mask_groups else None,
            _channel_masker(record, channel, random) if record.channel_groups else None,
        )
        weights = _conv_weights(record, maskers, random)
        yield MadeBlock(record, pack_conv_block(record, weights), np.ascontiguousarray(x.transpose(0, 2, 3, 1)))


@dataclass(frozen=True)
class _Maskers:
    spatial: Layer | None
    channel: MaskerWeights | None


def _conv_weights(
    record: BlockRecord, maskers: _Maskers, random: np.random.Generator
) -> BlockWeights | RegNetWeights:
    if isinstance(record, RegNetRecord):
        return _regnet_weights(record, maskers, random)
    return BlockWeights(
        conv1=_convolution(random, record.width, record.cin, 1),
        conv2=_convolution(random, record.width, record.width, 3),
        conv3=_convolution(random, record.cout, record.width, 1),
        projection=_convolution(random, record.cout, record.cin, 1) if record.projection else None,
        spatial_masker=maskers.spatial,
        channel_masker=maskers.channel,
    )


def _regnet_weights(record: RegNetRecord, maskers: _Maskers, random: np.random.Generator) -> RegNetWeights:
    return RegNetWeights(
        a=_convolution(random, record.width, record.cin, 1),
        b=_convolution(random, record.width, record.width // record.group, 3),
        squeeze=_convolution(random, record.squeeze, record.width, 1),
        excite=_convolution(random, record.width, record.squeeze, 1),
        c=_convolution(random, record.cout, record.width, 1),
        projection=_convolution(random, record.cout, record.cin, 1) if record.projection else None,
        spatial_masker=maskers.spatial,
        channel_masker=maskers.channel,
    )


def _convolution(random: np.random.Generator, out: int, inside: int, kernel: int) -> Layer:
    weight, bias = _linear(random, out, inside * kernel * kernel)
    return weight.reshape(out, inside, kernel, kernel), bias


def _linear(random: np.random.Generator, out: int, inside: int) -> Layer:
    weight = random.standard_normal((out, inside), dtype=np.float32) * np.float32(inside**-0.5)
    return weight, 0.1 * random.standard_normal(out, dtype=np.float32)


def _vit_blocks(
    design: Design, drawn: VitDrawn, batch: int, panel: int, random: np.random.Generator
) -> Iterator[MadeBlock]:
    assert isinstance(design.blueprint, VitBlueprint)
    masks = vit_masks(design.blueprint, drawn, design.index)
    for (name, record), share in zip(design.records(panel), drawn.token, strict=True):
        assert isinstance(record, VitRecord)
        x = random.standard_normal((batch, record.tokens, record.dim), dtype=np.float32)
        norm = np.ones(record.dim, np.float32), np.zeros(record.dim, np.float32)
        chosen = {kind: mask[0] for kind, mask in masks[name].items() if kind != "token"}
        heads, layers = (_by_bias(chosen[kind], record.dim) if kind in chosen else None for kind in ("head", "layer"))
        weights = VitWeights(
            epsilon=_EPSILON,
            norm1=norm,
            norm2=norm,
            query=_linear(random, record.dim, record.dim),
            key=_linear(random, record.dim, record.dim),
            value=_linear(random, record.dim, record.dim),
            proj=_linear(random, record.dim, record.dim),
            fc1=_linear(random, record.hidden, record.dim),
            fc2=_linear(random, record.dim, record.hidden),
            token_policy=_token_policy(x, share, random) if record.token_policy else None,
            head_policy=heads,
            layer_policy=layers,
        )
        yield MadeBlock(record, pack_vit_block(record, weights), x)


def _token_policy(x: Array, share: float, random: np.random.Generator) -> Layer:
    """Keeps the share of all tokens of the batch."""
    weight, _ = _linear(random, 1, x.shape[2])
    deviation = np.sqrt(x.var(axis=2, keepdims=True) + _EPSILON)
    scores = ((x - x.mean(axis=2, keepdims=True)) / deviation)[:, 1:] @ weight[0]
    cut = scores.min() - _DECIDED if share >= 1 else np.quantile(scores, 1 - share, method="midpoint")
    return weight, np.asarray([-cut], np.float32)


def _by_bias(kept: Array, features: int) -> Layer:
    """A policy that decides the same for every image."""
    return np.zeros((len(kept), features), np.float32), np.where(kept, _DECIDED, -_DECIDED).astype(np.float32)


def _input(record: BlockRecord, batch: int, random: np.random.Generator) -> Array:
    x = np.abs(random.standard_normal((batch, record.cin, record.hin, record.win), dtype=np.float32))
    side = max(record.hin, record.win)
    for group in range(record.mask_groups):
        blobs = synthetic_image(side, int(random.integers(1 << 31)), batch)[:, 0]
        x[:, group] = np.maximum(blobs[:, : record.hin, : record.win] + _OFFSET, 0)
    return x


def _spatial_masker(record: BlockRecord, share: float, x: Array) -> Layer:
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

"""Blocks as kernels run them, made from the test vectors of single ops: the block itself has to decide the masks."""

from __future__ import annotations

import numpy as np

from laudc.ops.numeric import pool_matrix
from laudc.ops.packing import BlockWeights, MaskerWeights
from laudc.ops.scheduled import BlockRecord, ChannelMasker
from tests.ops.vectors import BLOCKS, BlockCase, MaskerCase

Array = np.ndarray
COVERED = [case for case in BLOCKS if case.geometry.group == 1 and case.geometry.dilation == 1]
# A further output channel would move the borders between shares.
IN_PLACE = [case for case in COVERED if case.shape.identity and case.shape.shares == 1]


def _spatial_signal(case: BlockCase) -> Array:
    """(B, shares, H, W) whose adaptive pooling is +1 where a cell is kept and -1 elsewhere."""
    mask = case.spatial_mask
    assert mask is not None
    rows = np.linalg.pinv(pool_matrix(case.shape.height, mask.shape[2]).astype(np.float64))
    columns = np.linalg.pinv(pool_matrix(case.shape.width, mask.shape[3]).astype(np.float64))
    return rows @ (2.0 * mask - 1) @ columns.T


def _channel_signal(case: BlockCase) -> Array:
    mask = case.channel_mask
    assert mask is not None
    return np.broadcast_to((2 * mask - 1)[:, :, None, None], (*mask.shape, case.shape.height, case.shape.width))


def _residual_signal(case: BlockCase) -> Array:
    stride = case.geometry.stride
    signal = np.zeros((case.shape.batch, case.shape.cout, case.shape.height, case.shape.width))
    signal[:, :, ::stride, ::stride] = case.residual
    return signal


def _select(wanted: range, count: int, total: int) -> Array:
    """(len, total, 1, 1) that picks channels; rows beyond `wanted` up to `count` are zero."""
    weight = np.zeros((count, total, 1, 1), np.float32)
    for row, channel in enumerate(wanted):
        weight[row, channel] = 1
    return weight


def _halves(keep: Array) -> Array:
    return np.concatenate([keep, np.zeros_like(keep)])


class Carrier:
    """Input `x` (B, C, H, W), record and weights of a block that decides the masks of a case by itself.

    Masks are carried by further channels of the input. `identity`: the residual is the input, else a projection.
    """

    def __init__(self, case: BlockCase, identity: bool) -> None:
        self.case = case
        parts: list[Array] = [case.x]
        spatial = channel = residual = range(0)
        if case.spatial_mask is not None:
            spatial = self._append(parts, _spatial_signal(case))
        if case.channel_mask is not None:
            channel = self._append(parts, _channel_signal(case))
        if not identity:
            residual = self._append(parts, _residual_signal(case))
        self.x = np.concatenate(parts, axis=1).astype(np.float32)
        total = self.x.shape[1]
        w1, b1, w2, b2, w3, b3 = case.weights
        extra = total - case.shape.cout if identity else 0
        self.weights = BlockWeights(
            conv1=(np.pad(w1, ((0, 0), (0, total - w1.shape[1]), (0, 0), (0, 0))), b1),
            conv2=(w2, b2),
            conv3=(np.pad(w3, ((0, extra), (0, 0), (0, 0), (0, 0))), np.pad(b3, (0, extra))),
            projection=None
            if identity
            else (_select(residual, case.shape.cout, total), np.zeros(case.shape.cout, np.float32)),
            spatial_masker=self._masker(spatial, total, 4) if spatial else None,
            channel_masker=MaskerWeights(*self._masker(channel, total, 2)) if channel else None,
        )
        mask = (len(spatial), *case.shape.mask) if spatial else (0, 0, 0)
        self.record = BlockRecord(
            cin=total,
            width=case.shape.mid,
            cout=total if identity else case.shape.cout,
            stride=case.geometry.stride,
            hin=case.shape.height,
            win=case.shape.width,
            projection=int(not identity),
            mask_groups=mask[0],
            mask_h=mask[1],
            mask_w=mask[2],
            channel_groups=len(channel),
            channel_masker=ChannelMasker.LINEAR if channel else ChannelMasker.NONE,
        )

    @staticmethod
    def _append(parts: list[Array], signal: Array) -> range:
        first = sum(part.shape[1] for part in parts)
        parts.append(signal)
        return range(first, first + signal.shape[1])

    @staticmethod
    def _masker(channels: range, total: int, dims: int) -> tuple[Array, Array]:
        weight = _select(channels, len(channels), total)
        return _halves(weight if dims == 4 else weight[:, :, 0, 0]), np.zeros(2 * len(channels), np.float32)


def masker_block(case: MaskerCase) -> tuple[BlockRecord, BlockWeights]:
    """A block whose margins are those of the case."""
    x = case.inputs[0]
    _, cin, height, width = x.shape
    weight, bias = case.inputs[-2:]
    groups = bias.shape[0] // 2
    spatial = case.op == "SpatialMasker"
    kind = ChannelMasker.NONE if spatial else ChannelMasker[case.op.removeprefix("ChannelMasker").upper()]
    hidden = case.inputs[1:3] if kind in (ChannelMasker.MLP, ChannelMasker.CONV) else ()
    mid = 1 if spatial else groups
    zeros = np.zeros
    record = BlockRecord(
        cin=cin,
        width=mid,
        cout=cin,
        stride=1,
        hin=height,
        win=width,
        projection=0,
        mask_groups=groups if spatial else 0,
        mask_h=case.margin.shape[2] if spatial else 0,
        mask_w=case.margin.shape[3] if spatial else 0,
        channel_groups=0 if spatial else groups,
        channel_masker=kind,
        masker_hidden=hidden[0].shape[0] if hidden else 0,
    )
    weights = BlockWeights(
        conv1=(zeros((mid, cin, 1, 1), np.float32), zeros(mid, np.float32)),
        conv2=(zeros((mid, mid, 3, 3), np.float32), zeros(mid, np.float32)),
        conv3=(zeros((cin, mid, 1, 1), np.float32), zeros(cin, np.float32)),
        spatial_masker=(weight, bias) if spatial else None,
        channel_masker=None if spatial else MaskerWeights(weight, bias, *hidden),
    )
    return record, weights

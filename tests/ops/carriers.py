"""Blocks as kernels run them, made from the test vectors of single ops: the block itself has to decide the masks."""

from __future__ import annotations

import numpy as np

from laudc.ops.numeric import pool_matrix
from laudc.ops.packing import BlockWeights, MaskerWeights
from laudc.ops.regnet_packing import RegNetWeights
from laudc.ops.scheduled import BlockRecord, ChannelMasker, RegNetRecord
from tests.ops.regnet_vectors import RegNetCase
from tests.ops.vectors import BLOCKS, BlockCase, MaskerCase

Array = np.ndarray
Case = BlockCase | RegNetCase
COVERED = [case for case in BLOCKS if case.geometry.group == 1 and case.geometry.dilation == 1]
# A further output channel would move the borders between shares.
IN_PLACE = [case for case in COVERED if case.shape.identity and case.shape.shares == 1]


def _spatial_signal(case: Case) -> Array:
    """(B, shares, H, W) whose adaptive pooling is +1 where a cell is kept and -1 elsewhere."""
    mask = case.spatial_mask
    assert mask is not None
    rows = np.linalg.pinv(pool_matrix(case.shape.height, mask.shape[2]).astype(np.float64))
    columns = np.linalg.pinv(pool_matrix(case.shape.width, mask.shape[3]).astype(np.float64))
    return rows @ (2.0 * mask - 1) @ columns.T


def _channel_signal(case: Case) -> Array:
    mask = case.channel_mask
    assert mask is not None
    return np.broadcast_to((2 * mask - 1)[:, :, None, None], (*mask.shape, case.shape.height, case.shape.width))


def _residual_signal(case: Case) -> Array:
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


class _Signals:
    """Input `x` (B, C, H, W) whose first channels are the case's; others carry its masks and, unless `identity`, its
    residual."""

    def __init__(self, case: Case, identity: bool) -> None:
        self._parts: list[Array] = [case.x]
        none = range(0)
        self.spatial = none if case.spatial_mask is None else self._append(_spatial_signal(case))
        self.channel = none if case.channel_mask is None else self._append(_channel_signal(case))
        self.residual = none if identity else self._append(_residual_signal(case))
        self.x = np.concatenate(self._parts, axis=1).astype(np.float32)
        self.total = self.x.shape[1]

    def _append(self, signal: Array) -> range:
        first = sum(part.shape[1] for part in self._parts)
        self._parts.append(signal)
        return range(first, first + signal.shape[1])

    def widened(self, weight: Array) -> Array:
        """A 1x1 convolution's weight that ignores the further channels."""
        return np.pad(weight, ((0, 0), (0, self.total - weight.shape[1]), (0, 0), (0, 0)))

    def projection(self, cout: int) -> tuple[Array, Array] | None:
        """What reads the residual."""
        if not self.residual:
            return None
        return _select(self.residual, cout, self.total), np.zeros(cout, np.float32)

    def spatial_masker(self) -> tuple[Array, Array] | None:
        return self._masker(self.spatial, 4) if self.spatial else None

    def channel_masker(self) -> MaskerWeights | None:
        return MaskerWeights(*self._masker(self.channel, 2)) if self.channel else None

    def _masker(self, channels: range, dims: int) -> tuple[Array, Array]:
        weight = _select(channels, len(channels), self.total)
        return _halves(weight if dims == 4 else weight[:, :, 0, 0]), np.zeros(2 * len(channels), np.float32)

    def masks(self, case: Case) -> dict[str, int]:
        """The fields of a record that describe its masks."""
        rows, columns = case.shape.mask if self.spatial else (0, 0)
        kind = ChannelMasker.LINEAR if self.channel else ChannelMasker.NONE
        return {
            "mask_groups": len(self.spatial),
            "mask_h": rows,
            "mask_w": columns,
            "channel_groups": len(self.channel),
            "channel_masker": kind,
        }


class Carrier:
    """Input `x` (B, C, H, W), record and weights of a block that decides the masks of a case by itself.

    Masks are carried by further channels of the input. `identity`: the residual is the input, else a projection.
    """

    def __init__(self, case: BlockCase, identity: bool) -> None:
        self.case = case
        signals = _Signals(case, identity)
        self.x = signals.x
        w1, b1, w2, b2, w3, b3 = case.weights
        extra = signals.total - case.shape.cout if identity else 0
        self.weights = BlockWeights(
            conv1=(signals.widened(w1), b1),
            conv2=(w2, b2),
            conv3=(np.pad(w3, ((0, extra), (0, 0), (0, 0), (0, 0))), np.pad(b3, (0, extra))),
            projection=signals.projection(case.shape.cout),
            spatial_masker=signals.spatial_masker(),
            channel_masker=signals.channel_masker(),
        )
        self.record = BlockRecord(
            cin=signals.total,
            width=case.shape.mid,
            cout=signals.total if identity else case.shape.cout,
            stride=case.geometry.stride,
            hin=case.shape.height,
            win=case.shape.width,
            projection=int(not identity),
            **signals.masks(case),
        )


class RegNetCarrier:
    """The same for a RegNetY block; further channels would widen all of it, so its residual is always projected."""

    def __init__(self, case: RegNetCase) -> None:
        self.case = case
        signals = _Signals(case, identity=False)
        self.x = signals.x
        a, ab, b, bb, squeeze, squeeze_b, excite, excite_b, c, cb = case.weights
        self.weights = RegNetWeights(
            a=(signals.widened(a), ab),
            b=(b, bb),
            squeeze=(squeeze, squeeze_b),
            excite=(excite, excite_b),
            c=(c, cb),
            projection=signals.projection(case.shape.mid),
            spatial_masker=signals.spatial_masker(),
            channel_masker=signals.channel_masker(),
        )
        geometry = case.geometry
        self.record = RegNetRecord(
            cin=signals.total,
            width=case.shape.mid,
            cout=case.shape.mid,
            stride=geometry.stride,
            hin=case.shape.height,
            win=case.shape.width,
            projection=1,
            **signals.masks(case),
            group=geometry.group,
            squeeze=case.shape.squeeze,
            se_pool=case.se_pool,
        )


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

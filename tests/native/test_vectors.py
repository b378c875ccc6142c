"""The shared op vectors, run by the library.

The vectors give masks, while the operator decides them itself from its input: further input channels, which conv1
ignores, carry each mask to a masker that reads nothing else. Others carry the residual to the projection.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from laudc.ops.numeric import pool_matrix
from laudc.ops.packing import BlockWeights, MaskerWeights
from laudc.ops.scheduled import BlockRecord, ChannelMasker, Conv2Algorithm
from tests.native.support import run_block
from tests.ops.vectors import BLOCKS, MASKERS, BlockCase, MaskerCase

Array = np.ndarray
COVERED = [case for case in BLOCKS if case.geometry.group == 1 and case.geometry.dilation == 1]


def _name(case: BlockCase | MaskerCase) -> str:
    return case.name


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


class _Carrier:
    """Input, record and weights of a block that decides the masks of a case."""

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


def _check(case: BlockCase, identity: bool) -> None:
    carrier = _Carrier(case, identity)
    algorithms = [Conv2Algorithm.DIRECT]
    if case.geometry.stride == 1:
        algorithms.append(Conv2Algorithm.WINOGRAD_2X2)
    for algorithm in algorithms:
        panel = 16 if algorithm else 64
        found = run_block(replace(carrier.record, conv2_algorithm=algorithm, panel=panel), carrier.weights, carrier.x)
        counts = found["counts"]
        if case.spatial_mask is not None:
            np.testing.assert_array_equal(counts[:, 0, 2], case.spatial_mask.sum(axis=(1, 2, 3)))
        if case.channel_mask is not None:
            np.testing.assert_array_equal(counts[:, 0, 3], case.channel_mask.sum(axis=1))
        case.check(found["Y"][:, : case.shape.cout])


@pytest.mark.parametrize("case", COVERED, ids=_name)
def test_blocks_with_a_projection(case: BlockCase) -> None:
    _check(case, identity=False)


# A further output channel would move the borders between shares.
@pytest.mark.parametrize("case", [c for c in COVERED if c.shape.identity and c.shape.shares == 1], ids=_name)
def test_blocks_in_place(case: BlockCase) -> None:
    _check(case, identity=True)


def _masker_block(case: MaskerCase) -> tuple[BlockRecord, BlockWeights]:
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


@pytest.mark.parametrize("case", MASKERS, ids=_name)
def test_maskers(case: MaskerCase) -> None:
    record, weights = _masker_block(case)
    found = run_block(record, weights, case.inputs[0])
    np.testing.assert_allclose(found["margins"].reshape(case.margin.shape), case.margin, rtol=0, atol=2e-5)
    kept = found["counts"][:, 0, 2 if case.op == "SpatialMasker" else 3]
    np.testing.assert_array_equal(kept, case.expected.reshape(len(kept), -1).sum(axis=1))


@pytest.mark.parametrize("case", COVERED[::23], ids=_name)
def test_threads_change_nothing(case: BlockCase) -> None:
    carrier = _Carrier(case, identity=False)
    one, two = (run_block(carrier.record, carrier.weights, carrier.x, threads) for threads in (1, 2))
    np.testing.assert_array_equal(one["Y"], two["Y"])
    np.testing.assert_array_equal(one["counts"], two["counts"])

"""The bodies of the RegNetY blocks against the NumPy reference and against torch, in two runtimes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from laudc.ops import SEMANTIC, ShapeError
from laudc.ops.macs import BlockMasks, BlockShape, block_macs
from laudc.ops.numeric import upsample_mask
from tests.ops.regnet_vectors import REGNET_BLOCKS, RegNetCase
from tests.ops.runtimes import RUNNERS, feed_of, single_op_model


def _name(case: RegNetCase) -> str:
    return case.name


def _torch_block(case: RegNetCase) -> np.ndarray:
    """The block written with torch only, in float64."""
    arrays = [torch.from_numpy(a).double() for a in (case.x, case.residual, *case.weights)]
    x, residual, wa, ba, wb, bb, ws, bs, we, be, wc, bc = arrays
    geometry = case.shape.geometry

    def gate(y: torch.Tensor) -> torch.Tensor:
        if case.channel_mask is None:
            return y
        mask = torch.from_numpy(case.channel_mask).double()
        return y * mask.repeat_interleave(y.shape[1] // mask.shape[1], dim=1)[:, :, None, None]

    y = gate(torch.relu(F.conv2d(x, wa, ba)))
    y = gate(torch.relu(F.conv2d(y, wb, bb, stride=geometry.stride, padding=1, groups=geometry.group)))
    mask = None
    if case.spatial_mask is not None:
        mask = F.interpolate(torch.from_numpy(case.spatial_mask), size=y.shape[2:], mode="nearest").double()
    if mask is None or not case.se_pool:
        mean = y.mean((2, 3), keepdim=True)
    else:
        kept = mask.amax(1, keepdim=True)
        mean = (y * kept).sum((2, 3), keepdim=True) / kept.sum((2, 3), keepdim=True).clamp(min=1)
    y = y * torch.sigmoid(F.conv2d(torch.relu(F.conv2d(mean, ws, bs)), we, be))
    y = F.conv2d(y, wc, bc)
    if mask is not None:
        y = y * mask.repeat_interleave(y.shape[1] // mask.shape[1], dim=1)
    return torch.relu(y + residual).numpy()


@pytest.mark.parametrize("case", REGNET_BLOCKS, ids=_name)
def test_reference_agrees_with_torch(case: RegNetCase) -> None:
    np.testing.assert_allclose(case.expected, _torch_block(case), rtol=0, atol=1e-6)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("case", REGNET_BLOCKS, ids=_name)
def test_body(case: RegNetCase, runner: str) -> None:
    model = single_op_model(case.op, case.inputs, case.attributes)
    (found,) = RUNNERS[runner](model, feed_of(case.op, case.inputs))
    case.check(found)


@pytest.mark.parametrize("case", [c for c in REGNET_BLOCKS if c.spatial_mask is not None], ids=_name)
def test_dropped_positions_are_the_residual(case: RegNetCase) -> None:
    kept = upsample_mask(case.spatial_mask, *case.shape.out).repeat(case.shape.mid // case.shape.shares, axis=1)
    np.testing.assert_array_equal(case.expected[kept == 0], np.maximum(case.residual, 0)[kept == 0])


@pytest.mark.parametrize("case", REGNET_BLOCKS[::9], ids=_name)
def test_infer_gives_the_shape_of_the_reference(case: RegNetCase) -> None:
    shapes = [array.shape for array in case.inputs]
    assert SEMANTIC[case.op].infer(shapes, case.attributes) == case.expected.shape


def test_infer_names_what_does_not_fit() -> None:
    case = REGNET_BLOCKS[0]
    for position, name in ((-4, "WE"), (-6, "WS"), (-8, "WB"), (-1, "BC"), (1, "R")):
        shapes = [array.shape for array in case.inputs]
        shapes[position] = (*shapes[position][:-1], shapes[position][-1] + 1)
        with pytest.raises(ShapeError, match=name):
            SEMANTIC[case.op].infer(shapes, case.attributes)
    spatial = next(c for c in REGNET_BLOCKS if c.op == "SpatialRegNetBlock")
    with pytest.raises(ShapeError, match="se_pool"):
        SEMANTIC[spatial.op].infer([a.shape for a in spatial.inputs], {**spatial.attributes, "se_pool": 2})


def _shape(case: RegNetCase, pools_all: bool) -> BlockShape:
    s = case.shape
    size, out = (s.height, s.width), s.out
    return BlockShape("b", s.cin, s.mid, s.mid, size, out, s.geometry, False, 0, s.squeeze, pools_all)


def test_macs_of_a_block_that_pools_over_all_positions() -> None:
    """Convolutions a and b count everywhere; with nothing kept, nothing counts."""
    case = next(c for c in REGNET_BLOCKS if c.name == "identity-m_one")
    exact, active = (
        block_macs(_shape(case, pools_all), BlockMasks(spatial=case.spatial_mask[0])) for pools_all in (True, False)
    )
    pixels = 64
    assert exact.conv1 == pixels * 16 * 16
    assert exact.conv2 == pixels * 9 * 16 * 8
    assert exact.conv3 == active.conv3 == 4 * 16 * 16
    assert exact.excitation == 2 * 4 * 16
    assert active.conv1 < exact.conv1 and active.conv2 < exact.conv2
    nothing = block_macs(_shape(case, True), BlockMasks(spatial=np.zeros((1, 4, 4))))
    assert nothing.active == 0
    assert exact.dense == exact.conv1 + exact.conv2 + pixels * 16 * 16 + 2 * 4 * 16

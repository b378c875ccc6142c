"""MAC counts against a count that walks over every product."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laudc.ops import Geometry
from laudc.ops.macs import BlockMasks, BlockShape, NetworkShape, block_macs, masks_of_image, network_macs
from laudc.ops.numeric import nearest_index


def _brute_force(shape: BlockShape, masks: BlockMasks) -> tuple[int, int, int]:
    """MACs of conv1, conv2, conv3, walking back from the output to every value it depends on."""
    (height, width), (out_height, out_width) = shape.in_size, shape.out_size
    geometry = shape.geometry
    channel = masks.channel if masks.channel is not None else np.ones(1)
    kept = [c for c in range(shape.channels) if channel[c // (shape.channels // len(channel))]]
    spatial = masks.spatial if masks.spatial is not None else np.ones((1, 1, 1))
    groups, rows, columns = spatial.shape
    row_cell, column_cell = nearest_index(rows, out_height), nearest_index(columns, out_width)
    conv1 = conv2 = conv3 = 0
    y1: set[tuple[int, int, int]] = set()
    y2: set[tuple[int, int, int]] = set()
    for c, i, j in itertools.product(range(shape.out_channels), range(out_height), range(out_width)):
        if spatial[c // (shape.out_channels // groups), row_cell[i], column_cell[j]]:
            conv3 += len(kept)
            y2.update((k, i, j) for k in kept)
    per_group = shape.channels // geometry.group
    for c, i, j in y2:
        inputs = [k for k in kept if k // per_group == c // per_group]
        for di, dj in itertools.product((-1, 0, 1), repeat=2):
            conv2 += len(inputs)
            r, q = i * geometry.stride + di * geometry.dilation, j * geometry.stride + dj * geometry.dilation
            if 0 <= r < height and 0 <= q < width:
                y1.update((k, r, q) for k in inputs)
    conv1 = len(y1) * shape.in_channels
    return conv1, conv2, conv3


@st.composite
def _blocks(draw: st.DrawFn) -> tuple[BlockShape, BlockMasks]:
    geometry = Geometry(draw(st.integers(1, 2)), draw(st.sampled_from([1, 2])), draw(st.integers(1, 2)))
    size = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    out = (geometry.out_size(size[0]), geometry.out_size(size[1]))
    shape = BlockShape("b", draw(st.integers(1, 3)), 4, 4, size, out, geometry, False, 0)
    bits = st.integers(0, 1)
    channel = spatial = None
    if draw(st.booleans()):
        groups = draw(st.sampled_from([1, 2, 4]))
        channel = np.array(draw(st.lists(bits, min_size=groups, max_size=groups)))
    if draw(st.booleans()):
        cells = (draw(st.sampled_from([1, 2])), draw(st.integers(1, out[0])), draw(st.integers(1, out[1])))
        total = cells[0] * cells[1] * cells[2]
        spatial = np.array(draw(st.lists(bits, min_size=total, max_size=total))).reshape(cells)
    return shape, BlockMasks(channel, spatial)


@settings(max_examples=300, deadline=None)
@given(_blocks())
def test_counts_agree_with_a_walk_over_every_product(block: tuple[BlockShape, BlockMasks]) -> None:
    shape, masks = block
    found = block_macs(shape, masks)
    assert (found.conv1, found.conv2, found.conv3) == _brute_force(shape, masks)
    assert found.active <= found.dense


def _resnet_block(**changes: object) -> BlockShape:
    options: dict[str, object] = {
        "name": "layer1.1",
        "in_channels": 256,
        "channels": 64,
        "out_channels": 256,
        "in_size": (56, 56),
        "out_size": (56, 56),
        "geometry": Geometry(),
        "projection": False,
        "masker": 1000,
    }
    return BlockShape(**(options | changes))  # type: ignore[arg-type]


def test_dense_counts_of_a_resnet_block() -> None:
    found = block_macs(_resnet_block(), BlockMasks())
    assert found.dense == 56 * 56 * (256 * 64 + 9 * 64 * 64 + 64 * 256)
    assert found.active == found.dense + 1000


def test_nothing_kept_leaves_projection_and_masker() -> None:
    shape = _resnet_block(in_channels=64, projection=True)
    found = block_macs(shape, BlockMasks(np.zeros(64), np.zeros((1, 7, 7))))
    assert found.projection == 56 * 56 * 64 * 256
    assert found.active == found.projection + 1000


def test_one_tile_needs_its_halo_in_conv1_only() -> None:
    mask = np.zeros((1, 14, 14))
    mask[0, 3, 3] = 1
    found = block_macs(_resnet_block(), BlockMasks(None, mask))
    assert (found.conv1, found.conv2, found.conv3) == (36 * 256 * 64, 16 * 9 * 64 * 64, 16 * 64 * 256)


def test_ideal_speedup_of_a_network() -> None:
    shape = NetworkShape((_resnet_block(masker=0),), stem=100, head=20)
    full = network_macs(shape, {})
    assert full.ideal_speedup == 1
    empty = network_macs(shape, {"layer1.1": BlockMasks(spatial=np.zeros((1, 7, 7)))})
    assert empty.active == 120
    assert empty.ideal_speedup == pytest.approx(full.dense / 120)


def test_masks_of_one_image_are_picked_by_name() -> None:
    values = {
        "logits": np.zeros((2, 10)),
        "layer1.0.mask_channel": np.array([[1, 0], [0, 1]]),
        "layer1.0.mask_spatial": np.arange(8).reshape(2, 1, 2, 2),
        "layer2.0.mask_spatial": np.zeros((2, 1, 1, 1)),
    }
    masks = masks_of_image(values, 1)
    assert sorted(masks) == ["layer1.0", "layer2.0"]
    np.testing.assert_array_equal(masks["layer1.0"].channel, [0, 1])
    np.testing.assert_array_equal(masks["layer1.0"].spatial, [[[4, 5], [6, 7]]])
    assert masks["layer2.0"].channel is None

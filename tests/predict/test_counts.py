"""Counts for many images against the masks' definition, one image at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from laudc.ops import Geometry
from laudc.ops.macs import BlockShape, conv1_positions, conv2_positions, conv3_positions
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict import counts as counting
from laudc.predict.counts import count_block, full_counts


def _shape(record: BlockRecord) -> BlockShape:
    return BlockShape(
        "b", record.cin, record.width, record.cout, (record.hin, record.win), (record.hout, record.wout),
        Geometry(record.stride), False, 0,
    )  # fmt: skip


@st.composite
def _cases(draw):
    stride = draw(st.sampled_from([1, 2]))
    hin, win = draw(st.integers(1, 15)), draw(st.integers(1, 15))
    hout, wout = (hin - 1) // stride + 1, (win - 1) // stride + 1
    groups, rows, columns = draw(st.integers(1, 2)), draw(st.integers(1, hout)), draw(st.integers(1, wout))
    record = BlockRecord(16, 8, 16, stride, hin, win, 0, groups, rows, columns, 4, 1)
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    rate = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return record, random.random((3, groups, rows, columns)) < rate, random.random((3, 4)) < 0.5


@given(_cases())
@settings(max_examples=150, deadline=None)
def test_rows_are_those_of_the_definition(case) -> None:
    record, spatial, channel = case
    shape = _shape(record)
    counts = count_block(record, spatial, channel, 3)
    for image in range(3):
        assert counts.conv1[image] == conv1_positions(shape, spatial[image]).sum()
        assert counts.conv2[image] == conv2_positions(shape, spatial[image]).sum()
        assert counts.conv3[image] * record.mask_groups == conv3_positions(shape, spatial[image]).sum()
        assert counts.channels[image] == 2 * channel[image].sum()
    assert not counts.tiles.any()


@given(_cases())
@settings(max_examples=100, deadline=None)
def test_winograd_computes_whole_tiles(case) -> None:
    record, spatial, _ = case
    if record.stride == 2:
        return
    winograd = BlockRecord(**{**record.__dict__, "conv2_algorithm": Conv2Algorithm.WINOGRAD_2X2})
    counts, direct = count_block(winograd, spatial, None, 3), count_block(record, spatial, None, 3)
    for image in range(3):
        wanted = conv2_positions(_shape(record), spatial[image])
        tiles = {(y // 2, x // 2) for y, x in zip(*np.nonzero(wanted), strict=True)}
        assert counts.tiles[image] == len(tiles)
    assert (counts.conv1 >= direct.conv1).all()
    assert (counts.conv2 == direct.conv2).all()


@st.composite
def _wide_cases(draw):
    """Maps around the width of a word, where counting changes its way."""
    stride = draw(st.sampled_from([1, 2]))
    hin, win = draw(st.integers(1, 9)), draw(st.integers(58, 70))
    hout, wout = (hin - 1) // stride + 1, (win - 1) // stride + 1
    algorithm = draw(st.sampled_from(list(Conv2Algorithm))) if stride == 1 else Conv2Algorithm.DIRECT
    groups, rows, columns = draw(st.integers(1, 2)), draw(st.integers(1, hout)), draw(st.integers(1, wout))
    record = BlockRecord(16, 8, 16, stride, hin, win, 0, groups, rows, columns, 4, 1, conv2_algorithm=algorithm)
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    return record, random.random((3, groups, rows, columns)) < draw(st.sampled_from([0.1, 0.5, 1.0]))


@given(_wide_cases())
@settings(max_examples=100, deadline=None)
def test_both_ways_of_counting_agree(case) -> None:
    record, spatial = case
    by_map = counting._count_maps(record, spatial)
    counts = count_block(record, spatial, None, 3)
    for field, expected in zip(("conv1", "conv2", "tiles", "conv3"), by_map, strict=True):
        if spatial.shape[1:] != (1, 1, 1):
            assert getattr(counts, field).tolist() == expected.tolist()
    shape = _shape(record)
    for image in range(3):
        assert counts.conv3[image] * record.mask_groups == conv3_positions(shape, spatial[image]).sum()
        if record.conv2_algorithm == Conv2Algorithm.DIRECT:
            assert counts.conv1[image] == conv1_positions(shape, spatial[image]).sum()


def test_without_masks_everything_is_kept() -> None:
    record = BlockRecord(16, 8, 16, 2, 7, 7, 1)
    counts = count_block(record, None, None, 2)
    assert counts.conv1.tolist() == [49, 49]
    assert counts.conv3.tolist() == [16, 16]
    assert counts.channels.tolist() == [8, 8]
    assert (full_counts(record, 2).conv2 == counts.conv2).all()


def test_more_images_than_one_step() -> None:
    record = BlockRecord(16, 8, 16, 1, 9, 9, 0, 1, 3, 3)
    masks = np.random.default_rng(0).random((300, 1, 3, 3)) < 0.5
    together = count_block(record, masks, None, 300)
    alone = [count_block(record, masks[i : i + 1], None, 1).conv1[0] for i in range(300)]
    assert together.conv1.tolist() == alone


def test_images_computed_together_add_their_rows() -> None:
    record = BlockRecord(16, 8, 16, 1, 4, 4, 0, 1, 1, 1)
    counts = count_block(record, np.asarray([1, 0, 1]).reshape(3, 1, 1, 1), None, 3)
    both = counts.together(np.asarray([[0, 1], [0, 2]]))
    assert both.conv2.tolist() == [16, 32]
    assert both.channels.tolist() == [8, 8]

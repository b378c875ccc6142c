"""Records and packed weights: what Python writes is what the library reads."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laudc.ops.packing import (
    ALIGN,
    TAIL,
    BlockWeights,
    MaskerWeights,
    border_table,
    pack_block,
    pack_panels,
    pack_stem,
)
from laudc.ops.scheduled import (
    BLOCK_FIELDS,
    BlockRecord,
    ChannelMasker,
    Conv2Algorithm,
    decode_blocks,
    encode_blocks,
)

Array = np.ndarray

# Timings mean nothing on a shared machine; the same examples every time.
PROPERTY = settings(deadline=None, derandomize=True, database=None)


@st.composite
def records(draw: st.DrawFn) -> BlockRecord:
    """Consistent records of small blocks."""

    def number(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    stride = number(1, 2)
    projection = 1 if stride == 2 else number(0, 1)
    hin, win = number(1, 12), number(1, 12)
    masks = number(0, 3)
    share, groups = number(1, 5), number(1, 9)
    channel = draw(st.booleans())
    kind = ChannelMasker(number(1, 3)) if channel else ChannelMasker.NONE
    cout = max(1, masks) * number(1, 30)
    return BlockRecord(
        cin=number(1, 70) if projection else cout,
        width=share * groups,
        cout=cout,
        stride=stride,
        hin=hin,
        win=win,
        projection=projection,
        mask_groups=masks,
        mask_h=number(1, (hin - 1) // stride + 1) if masks else 0,
        mask_w=number(1, (win - 1) // stride + 1) if masks else 0,
        channel_groups=groups if channel else 0,
        channel_masker=kind,
        masker_hidden=number(1, 20) if kind > ChannelMasker.LINEAR else 0,
        conv2_algorithm=Conv2Algorithm(number(0, 1) if stride == 1 else 0),
        panel=16 * number(1, 4),
    )


def weights_of(record: BlockRecord, seed: int = 0) -> BlockWeights:
    """Random weights of a record's shapes."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float32)

    masker = None
    if record.channel_groups:
        hidden = record.masker_hidden
        masker = MaskerWeights(
            normal(2 * record.channel_groups, hidden or record.cin),
            normal(2 * record.channel_groups),
            normal(hidden, record.cin) if hidden else None,
            normal(hidden) if hidden else None,
        )
    return BlockWeights(
        conv1=(normal(record.width, record.cin, 1, 1), normal(record.width)),
        conv2=(normal(record.width, record.width, 3, 3), normal(record.width)),
        conv3=(normal(record.cout, record.width, 1, 1), normal(record.cout)),
        projection=(normal(record.cout, record.cin, 1, 1), normal(record.cout)) if record.projection else None,
        spatial_masker=(normal(2 * record.mask_groups, record.cin, 1, 1), normal(2 * record.mask_groups))
        if record.mask_groups
        else None,
        channel_masker=masker,
    )


@given(st.lists(records(), min_size=1, max_size=4))
@PROPERTY
def test_records_survive_the_attribute(blocks: list[BlockRecord]) -> None:
    values = encode_blocks(blocks)
    assert len(values) == len(blocks) * len(BLOCK_FIELDS)
    assert all(type(value) is int for value in values)
    assert decode_blocks(values) == blocks


@pytest.mark.parametrize("count", [0, 1, len(BLOCK_FIELDS) - 1, len(BLOCK_FIELDS) + 1])
def test_partial_records_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} values"):
        decode_blocks([1] * count)


def test_sizes_of_a_record() -> None:
    record = BlockRecord(8, 4, 8, 2, 7, 10, 1, mask_groups=2, mask_h=4, mask_w=5, channel_groups=2)
    assert (record.hout, record.wout, record.conv3_parts) == (4, 5, 2)
    assert (record.spatial_cells, record.margins) == (40, 42)
    assert BlockRecord(8, 4, 8, 1, 7, 10, 0).conv3_parts == 1


@given(st.integers(1, 40), st.integers(1, 150), st.sampled_from([16, 32, 48, 64]))
@PROPERTY
def test_panels(rows: int, columns: int, panel: int) -> None:
    matrix = np.arange(1, rows * columns + 1, dtype=np.float32).reshape(rows, columns)
    packed = pack_panels(matrix, panel)
    count = -(-columns // panel)
    assert packed.dtype == np.float32
    assert packed.shape == (count * rows * panel,)
    panels = packed.reshape(count, rows, panel)
    for column in range(count * panel):
        wanted = matrix[:, column] if column < columns else 0
        np.testing.assert_array_equal(panels[column // panel, :, column % panel], wanted)


def _border_class(y: int, x: int, stride: int, height: int, width: int) -> int:
    top, left = y * stride - 1, x * stride - 1
    return (top < 0) + 2 * (top + 2 >= height) + 4 * (left < 0) + 8 * (left + 2 >= width)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 2), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
@settings(PROPERTY, max_examples=60)
def test_border_table_is_the_convolution_of_a_constant_map(
    height: int, width: int, stride: int, k: int, n: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weight, constants = random.standard_normal((n, k, 3, 3)), random.standard_normal(k)
    table = border_table(weight, constants)
    assert table.shape == (16, n)
    whole = np.zeros((1, k, height + 2, width + 2))
    whole[:, :, 1:-1, 1:-1] = constants[None, :, None, None]
    found = _convolve(whole, weight, stride)
    for y in range(found.shape[1]):
        for x in range(found.shape[2]):
            cls = _border_class(y, x, stride, height, width)
            np.testing.assert_allclose(found[:, y, x], table[cls], rtol=0, atol=1e-12)


def _convolve(padded: Array, weight: Array, stride: int) -> Array:
    """(1, k, H + 2, W + 2) → (n, Ho, Wo), window by window."""
    _, _, height, width = padded.shape
    rows, columns = range(0, height - 2, stride), range(0, width - 2, stride)
    found = [[np.sum(weight * padded[:, :, y : y + 3, x : x + 3], axis=(1, 2, 3)) for x in columns] for y in rows]
    return np.array(found).transpose(2, 0, 1)


@given(records())
@PROPERTY
def test_packed_blocks_are_whole_cache_lines(record: BlockRecord) -> None:
    packed = pack_block(record, weights_of(record))
    assert packed.dtype == np.float32
    assert packed.ndim == 1
    assert packed.size % ALIGN == 0
    assert not packed[-TAIL:].any()
    np.testing.assert_array_equal(packed, pack_block(record, weights_of(record)))


@pytest.mark.usefixtures("native")
@given(records())
@settings(PROPERTY, max_examples=60)
def test_the_library_accepts_every_packed_block(record: BlockRecord) -> None:
    from tests.native.support import run_model, session_of

    packed = pack_block(record, weights_of(record))
    session = session_of(run_model([record], [packed]))
    x = np.abs(np.random.default_rng(1).standard_normal((2, record.hin, record.win, record.cin))).astype(np.float32)
    y, counts, margins, _ = session.run(None, {"X": x})
    assert y.shape == (2, record.hout, record.wout, record.cout)
    assert counts.shape == (2, 1, 4)
    assert margins.shape == (2, record.margins)
    assert np.isfinite(y).all()
    # Reading one float less or more would be another layout.
    with pytest.raises(Exception, match="packed weights hold"):
        session_of(run_model([record], [packed[:-1]]))


@cache
def _a_record() -> BlockRecord:
    return BlockRecord(8, 4, 8, 1, 5, 5, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cin": 9}, "conv1 has shape"),
        ({"width": 5}, "conv1 has shape"),
        ({"cout": 9}, "conv3 has shape"),
        ({"projection": 0}, "projection weights and record disagree"),
    ],
)
def test_weights_of_another_shape_are_refused(change: dict[str, int], message: str) -> None:
    weights = weights_of(_a_record())
    with pytest.raises(ValueError, match=message):
        pack_block(replace(_a_record(), **change), weights)


@pytest.mark.parametrize("cout", [1, 16, 20, 72])
@pytest.mark.parametrize("panel", [16, 64])
def test_stem(cout: int, panel: int) -> None:
    weight = np.arange(cout * 147, dtype=np.float32).reshape(cout, 3, 7, 7)
    bias = np.arange(cout, dtype=np.float32)
    packed = pack_stem(weight, bias, panel)
    panels = packed[: -(-cout // panel) * 147 * panel].reshape(-1, 7, 7, 3, panel)
    for n in range(cout):
        np.testing.assert_array_equal(panels[n // panel, ..., n % panel], weight[n].transpose(1, 2, 0))
    np.testing.assert_array_equal(packed[panels.size :][:cout], bias)

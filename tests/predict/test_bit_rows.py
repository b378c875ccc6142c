"""Rows of bits against the same operations on arrays of booleans."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from laudc.predict import bit_rows

_ROWS = st.integers(1, 64).flatmap(
    lambda columns: st.lists(st.lists(st.booleans(), min_size=columns, max_size=columns), min_size=1, max_size=5)
)


def _maps(rows) -> np.ndarray:
    return np.asarray(rows, np.uint8)


def _unpacked(words: np.ndarray, columns: int) -> np.ndarray:
    return (words[:, None] >> np.arange(columns, dtype=np.uint64)) & np.uint64(1)


@given(_ROWS)
@settings(max_examples=100, deadline=None)
def test_packing_keeps_every_pixel(rows) -> None:
    maps = _maps(rows)
    words = bit_rows.pack_rows(maps)
    assert (_unpacked(words, 64)[:, : maps.shape[1]] == maps).all()
    assert bit_rows.set_bits(words).tolist() == maps.sum(axis=1).tolist()


@given(_ROWS, st.sampled_from([1, 2]), st.integers(0, 1))
@settings(max_examples=200, deadline=None)
def test_windows_read_their_neighbours(rows, stride, odd) -> None:
    maps = _maps(rows)[:, : 64 // stride]
    size = max(1, maps.shape[1] * stride - (odd if stride == 2 else 0))
    read = np.zeros((len(maps), size), bool)
    for row, column in zip(*np.nonzero(maps), strict=True):
        for tap in (-1, 0, 1):
            if 0 <= column * stride + tap < size:
                read[row, column * stride + tap] = True
    words = bit_rows.widen_columns(bit_rows.pack_rows(maps), size, stride)
    assert (_unpacked(words, size) == read).all()
    assert bit_rows.set_bits(words).tolist() == read.sum(axis=1).tolist()


@given(_ROWS)
@settings(max_examples=100, deadline=None)
def test_pairs(rows) -> None:
    maps = _maps(rows)
    columns = maps.shape[1]
    pairs = np.pad(maps, ((0, 0), (0, columns % 2))).reshape(len(maps), -1, 2).any(axis=2)
    joined = bit_rows.join_pairs(bit_rows.pack_rows(maps))
    assert bit_rows.set_bits(joined).tolist() == pairs.sum(axis=1).tolist()
    filled = bit_rows.fill_pairs(joined, columns)
    assert (_unpacked(filled, columns) == pairs.repeat(2, axis=1)[:, :columns]).all()


def test_counting_without_numpys_own_way(monkeypatch) -> None:
    words = np.random.default_rng(0).integers(0, 1 << 63, (7, 5), np.uint64)
    expected = [[bin(word).count("1") for word in row] for row in words.tolist()]
    assert bit_rows.set_bits(words).tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert bit_rows.set_bits(words).tolist() == expected

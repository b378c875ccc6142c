"""Rows of masks as 64-bit words, one bit per pixel: whole rows are widened, joined and counted at once."""

from __future__ import annotations

import numpy as np

Array = np.ndarray

MOST_COLUMNS = 64
_BYTES = 8
_COUNTS = np.asarray([bin(value).count("1") for value in range(1 << 16)], np.uint8)
_EVEN = np.uint64(0x5555555555555555)
# Each step moves the upper half of every group of bits apart from the lower one.
_SPREAD = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


def pack_rows(maps: Array) -> Array:
    """(..., columns) of which what is not 0 is set → (...) uint64, column x in bit x. At most MOST_COLUMNS columns."""
    packed = np.packbits(maps, axis=-1, bitorder="little")
    words = np.zeros((*maps.shape[:-1], _BYTES), np.uint8)
    words[..., : packed.shape[-1]] = packed
    return np.asarray(words.view("<u8")[..., 0], np.uint64)


def set_bits(rows: Array) -> Array:
    """Set bits of every word, as int64."""
    if hasattr(np, "bitwise_count"):  # from NumPy 2 on
        return np.asarray(np.bitwise_count(rows), np.int64)
    halves = np.ascontiguousarray(rows).view(np.uint16).reshape(*rows.shape, _BYTES // 2)
    return np.asarray(_COUNTS[halves].sum(axis=-1, dtype=np.int64))


def spread_columns(rows: Array) -> Array:
    """Bit x of every word moves to bit 2x; the upper half of the bits must be clear."""
    for shift, mask in _SPREAD:
        rows = (rows | (rows << np.uint64(shift))) & np.uint64(mask)
    return rows


def widen_columns(rows: Array, size: int, stride: int) -> Array:
    """The columns, of `size`, that windows of three around the set bits read, `stride` (1 or 2) apart."""
    centres = rows if stride == 1 else spread_columns(rows)
    one = np.uint64(1)
    last = np.uint64((1 << size) - 1)
    return (centres | (centres << one) | (centres >> one)) & last


def join_pairs(rows: Array) -> Array:
    """Bit 2x of every word: whether bit 2x or 2x + 1 is set; the others are clear."""
    return (rows | (rows >> np.uint64(1))) & _EVEN


def fill_pairs(rows: Array, size: int) -> Array:
    """Bits 2x and 2x + 1, below `size`, as bit 2x."""
    return (rows | (rows << np.uint64(1))) & np.uint64((1 << size) - 1)

"""How much work masks leave: the row counts that the kernels walk, for many images at once.

The rules are those of `plugins/core/index_lists` and `laudc.ops.macs`, vectorised over images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laudc.ops.numeric import nearest_index
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict import bit_rows

Array = np.ndarray

# Images per step: the maps of one step stay in a core's cache.
_CHUNK = 256


@dataclass(frozen=True)
class Counts:
    """Work of one block, one entry per image (float64).

    conv1, conv2: pixels computed. tiles: Winograd tiles (0 when conv2 is direct). conv3: pixels, added up over the
    mask groups and divided by their number, so that `conv3 * cout` is what conv3 writes. late: pixels that get their
    ReLU alone. channels: kept channels of conv1 and conv2.
    """

    conv1: Array
    conv2: Array
    tiles: Array
    conv3: Array
    channels: Array

    def __len__(self) -> int:
        return len(self.conv1)

    def together(self, groups: Array) -> Counts:
        """Counts of images computed together: rows add up, channels are those of the first; groups (calls, images)."""
        rows = (self.conv1[groups], self.conv2[groups], self.tiles[groups], self.conv3[groups])
        conv1, conv2, tiles, conv3 = (values.sum(axis=1) for values in rows)
        return Counts(conv1, conv2, tiles, conv3, self.channels[groups[:, 0]])


def full_counts(record: BlockRecord, images: int = 1) -> Counts:
    """Everything kept."""
    out = record.hout * record.wout
    tiles = -(-record.hout // 2) * -(-record.wout // 2) if _winograd(record) else 0

    def repeated(value: int) -> Array:
        return np.full(images, float(value))

    # Strided 3x3 windows skip no row of a map, whether its size is odd or even.
    return Counts(*map(repeated, (record.hin * record.win, out, tiles, out, record.width)))


def count_block(record: BlockRecord, spatial: Array | None, channel: Array | None, images: int) -> Counts:
    """Counts of a block from its masks.

    Args:
        record: the block; `conv2_algorithm` decides whether whole 2×2 tiles are computed.
        spatial: (images, groups, rows, columns) of 0 and 1, or None.
        channel: (images, groups) of 0 and 1, or None.
        images: number of images, for blocks without masks.
    """
    counts = full_counts(record, images)
    if spatial is not None:
        counts = _spatial_counts(record, _as_bytes(spatial), counts.channels)
    if channel is None:
        return counts
    per_group = record.width // channel.shape[1]
    kept = (np.asarray(channel) != 0).sum(axis=1) * float(per_group)
    return Counts(counts.conv1, counts.conv2, counts.tiles, counts.conv3, kept)


def _as_bytes(mask: Array) -> Array:
    """The mask with 1 where it is not 0."""
    array = np.asarray(mask)
    return array if array.dtype in (np.uint8, np.bool_) else (array != 0).view(np.uint8)


def _winograd(record: BlockRecord) -> bool:
    return record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2


def _spatial_counts(record: BlockRecord, keep: Array, channels: Array) -> Counts:
    if record.mask_h == record.mask_w == 1 and record.mask_groups == 1:
        on = (keep[:, 0, 0, 0] != 0).astype(float)
        full = full_counts(record)
        return Counts(full.conv1 * on, full.conv2 * on, full.tiles * on, full.conv3 * on, channels)
    count = _count_words if _fits_words(record) else _count_maps
    parts = [count(record, keep[at : at + _CHUNK]) for at in range(0, len(keep), _CHUNK)]
    conv1, conv2, tiles, conv3 = (np.concatenate(values).astype(float) for values in zip(*parts, strict=True))
    return Counts(conv1, conv2, tiles, conv3, channels)


def _fits_words(record: BlockRecord) -> bool:
    """Whether a row of pixels fits a word, spread out by the stride."""
    return record.stride in (1, 2) and record.wout * record.stride <= bit_rows.MOST_COLUMNS


def _count_words(record: BlockRecord, keep: Array) -> tuple[Array, Array, Array, Array]:
    """conv1, conv2, tiles and conv3 of (images, groups, rows, columns), a row of pixels at a time."""
    rows = nearest_index(record.mask_h, record.hout)
    columns = nearest_index(record.mask_w, record.wout)
    cells = keep if record.mask_w == record.wout else keep[..., columns]
    words = bit_rows.pack_rows(cells)
    # Rows of cells are alike, so each is counted once and weighed.
    repeats = np.bincount(rows, minlength=record.mask_h)
    in_groups = bit_rows.set_bits(words) @ repeats
    conv3 = in_groups.sum(axis=1) / record.mask_groups
    union = words[:, 0] if record.mask_groups == 1 else np.bitwise_or.reduce(words, axis=1)
    conv2 = in_groups[:, 0] if record.mask_groups == 1 else bit_rows.set_bits(union) @ repeats
    computed = union if record.mask_h == record.hout else union[:, rows]
    tiles: Array = np.zeros(len(keep))
    if _winograd(record):
        padded = np.pad(computed, ((0, 0), (0, record.hout % 2)))
        whole = bit_rows.join_pairs(padded[:, 0::2] | padded[:, 1::2])
        tiles = bit_rows.set_bits(whole).sum(axis=1)
        computed = bit_rows.fill_pairs(whole, record.wout).repeat(2, axis=1)[:, : record.hout]
    read = bit_rows.widen_columns(_dilated(computed, record.hin, record.stride, 1), record.win, record.stride)
    return bit_rows.set_bits(read).sum(axis=1), conv2, tiles, conv3


def _count_maps(record: BlockRecord, keep: Array) -> tuple[Array, Array, Array, Array]:
    """The same pixel by pixel, for maps of any width."""
    rows = nearest_index(record.mask_h, record.hout)
    columns = nearest_index(record.mask_w, record.wout)
    in_groups: Array = (keep != 0)[:, :, rows][..., columns]
    conv3 = in_groups.sum(axis=(1, 2, 3)) / record.mask_groups
    wanted: Array = np.any(in_groups, axis=1)
    computed: Array = wanted
    tiles: Array = np.zeros(len(keep))
    if _winograd(record):
        whole: Array = _tile_map(wanted)
        tiles = whole.sum(axis=(1, 2))
        computed = whole.repeat(2, axis=1).repeat(2, axis=2)[:, : record.hout, : record.wout]
    conv1 = _dilated(_dilated(computed, record.hin, record.stride, 1), record.win, record.stride, 2)
    return conv1.sum(axis=(1, 2)), wanted.sum(axis=(1, 2)), tiles, conv3


def _tile_map(wanted: Array) -> Array:
    """(images, rows, columns) → 2×2 tiles with any pixel wanted."""
    padded = np.pad(wanted, ((0, 0), (0, wanted.shape[1] % 2), (0, wanted.shape[2] % 2)))
    rows = padded[:, 0::2] | padded[:, 1::2]
    return rows[:, :, 0::2] | rows[:, :, 1::2]


def _dilated(values: Array, size: int, stride: int, axis: int) -> Array:
    """The input rows (axis 1) or columns (axis 2) that windows of three around the kept ones read; values are booleans,
    or words of bits."""
    shape = list(values.shape)
    shape[axis] = size
    out: Array = np.zeros(shape, values.dtype)
    kept, moved = np.swapaxes(out, 0, axis), np.swapaxes(values, 0, axis)
    kept[::stride] |= moved
    after = kept[1::stride]
    after |= moved[: len(after)]
    before = kept[stride - 1 :: stride]
    before[: len(moved) - 1] |= moved[1:]
    return out

"""How much work masks leave: the row counts that the kernels walk, for many images at once.

The rules are those of `plugins/core/index_lists` and `laudc.ops.macs`, vectorised over images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laudc.ops.numeric import nearest_index
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm

Array = np.ndarray

# Images per step: the maps of one step stay in a core's cache.
_CHUNK = 128
_BITS = np.asarray([bin(byte).count("1") for byte in range(256)], np.uint8)


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
        counts = _spatial_counts(record, np.asarray(spatial) != 0, counts.channels)
    if channel is None:
        return counts
    per_group = record.width // channel.shape[1]
    kept = (np.asarray(channel) != 0).sum(axis=1) * float(per_group)
    return Counts(counts.conv1, counts.conv2, counts.tiles, counts.conv3, kept)


def _winograd(record: BlockRecord) -> bool:
    return record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2


def _spatial_counts(record: BlockRecord, keep: Array, channels: Array) -> Counts:
    if record.mask_h == record.mask_w == 1 and record.mask_groups == 1:
        on = keep[:, 0, 0, 0].astype(float)
        full = full_counts(record)
        return Counts(full.conv1 * on, full.conv2 * on, full.tiles * on, full.conv3 * on, channels)
    parts = [_count_chunk(record, keep[at : at + _CHUNK]) for at in range(0, len(keep), _CHUNK)]
    conv1, conv2, tiles, conv3 = (np.concatenate(values).astype(float) for values in zip(*parts, strict=True))
    return Counts(conv1, conv2, tiles, conv3, channels)


def _count_chunk(record: BlockRecord, keep: Array) -> tuple[Array, Array, Array, Array]:
    rows = nearest_index(record.mask_h, record.hout)
    columns = nearest_index(record.mask_w, record.wout)
    # What a cell covers is a product of row and column counts, so conv3 needs no map.
    area = np.outer(np.bincount(rows, minlength=record.mask_h), np.bincount(columns, minlength=record.mask_w))
    conv3 = np.tensordot(keep, area, axes=([2, 3], [0, 1])).sum(axis=1) / record.mask_groups
    union: Array = np.any(keep, axis=1)
    conv2 = np.tensordot(union, area, axes=([1, 2], [0, 1]))
    as_fine = union.shape[1:] == (record.hout, record.wout)
    wanted: Array = union if as_fine else union[:, rows][:, :, columns]
    computed: Array = wanted
    tiles: Array = np.zeros(len(keep))
    if _winograd(record):
        whole: Array = _tile_map(wanted)
        tiles = _count(whole)
        computed = whole.repeat(2, axis=1).repeat(2, axis=2)[:, : record.hout, : record.wout]
    conv1 = _dilated(_dilated(computed, record.hin, record.stride, 1), record.win, record.stride, 2)
    return _count(conv1), conv2, tiles, conv3


def _tile_map(wanted: Array) -> Array:
    """(images, rows, columns) → 2×2 tiles with any pixel wanted."""
    padded = np.pad(wanted, ((0, 0), (0, wanted.shape[1] % 2), (0, wanted.shape[2] % 2)))
    rows = padded[:, 0::2] | padded[:, 1::2]
    return rows[:, :, 0::2] | rows[:, :, 1::2]


def _dilated(values: Array, size: int, stride: int, axis: int) -> Array:
    """The input rows (axis 1) or columns (axis 2) that windows of three around the kept ones read."""
    shape = list(values.shape)
    shape[axis] = size
    out: Array = np.zeros(shape, bool)
    kept, moved = np.swapaxes(out, 0, axis), np.swapaxes(values, 0, axis)
    kept[::stride] |= moved
    after = kept[1::stride]
    after |= moved[: len(after)]
    before = kept[stride - 1 :: stride]
    before[: len(moved) - 1] |= moved[1:]
    return out


def _count(maps: Array) -> Array:
    """Set pixels of each of (images, rows, columns)."""
    return np.asarray(_BITS[np.packbits(maps.reshape(len(maps), -1), axis=1)].sum(axis=1, dtype=np.int64))

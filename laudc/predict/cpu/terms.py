"""What a block makes the CPU do, as numbers: one column per kind of work, one row per image or call.

The columns mirror `plugins/cpu`: masker, list building, conv1, conv2 (direct, or Winograd over 2×2 tiles), conv3,
projection, turning kept channels into panels, streaming weights. Each is an amount of work on the critical path (the
busiest thread); a fitted coefficient says how many nanoseconds one unit costs on a given machine with a given number
of threads. Times are sums: on the machines we know, phases of a block do not overlap.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from laudc.ops.packing import ALIGN
from laudc.ops.scheduled import BlockRecord, ChannelMasker, Conv2Algorithm
from laudc.predict.counts import Counts
from laudc.predict.cpu.amounts import PANEL, PRODUCT_TERMS, Amounts, Machine, Share
from laudc.predict.interface import Place
from laudc.predict.traffic import gone_through

Array = np.ndarray

TERMS = (
    "block",  # one per block and call
    "block_far",  # one per block that runs, where weights push its biases, lists and buffers out of the cache
    "section",  # parallel sections
    "conv1_macs",
    "conv2_macs",
    "conv3_macs",
    "projection_macs",
    "winograd_macs",
    *PRODUCT_TERMS,
    "crossed",  # floats of rows that another thread wrote, where every thread reads all of them
    "rows_written",
    "outputs",  # floats of block output read and written
    "tile_transforms",  # floats of Winograd inputs transformed
    "tile_outputs",
    "packed",  # floats of conv1 and conv2 weights brought into panels
    "filters",  # floats of Winograd filters made from packed ones
    "filters_spilled",  # of these, what a core's second-level cache cannot hold of a panel
    "copied",  # floats of conv3 weights moved together
    "packed_far",  # floats of weights brought together that come from memory
    "packed_waited",  # of these, what few rows leave no time to fetch meanwhile
    "begun_cold",  # one of a call's first block, where its weights push code and tables out of the cache
    "cold",  # floats of maps of a call's first block, where its weights push them out of the cache
    "behind",  # one of a block right behind one of the runtime's: code, lists and buffers come from further away
    "behind_floats",  # floats of its maps
    "spilled",  # floats of maps that a core's second-level cache cannot hold
    "listed",  # pixels gone through for row lists
    "entries",  # list entries written
    "masked",  # floats read by the spatial masker
    "averaged",  # floats read by the channel masker
    "decided",  # floats of channel masker weights
    "decided_far",  # of these, what comes from memory: nothing is multiplied meanwhile
)
# Weights in the last-level cache are fetched while others are multiplied; only what few rows leave no time for shows.
_MERGED = {"weights_near": None}
# Winograd works on so many tiles at a time; every chunk reads all transformed weights.
_WINOGRAD_POINTS = 16
_WINOGRAD_CHUNK_FLOATS = 192 * 1024
_MIN_TILES_PER_TASK = 16
# Floats of packed panels that stay in a core's second-level cache, and in the last one.
_GROUP_FLOATS, _SHARED_GROUP_FLOATS = 128 * 1024, 1024 * 1024
# Maps of fewer pixels are shared out by channels.
_FEW_PIXELS = 96
# Input channels whose filters one thread makes at a time.
_WINOGRAD_SLICE = 48
# Columns that a panel of Winograd's filters should have for threads to pack whole ones.
_WIDE = 32


def block_terms(record: BlockRecord, counts: Counts, machine: Machine, place: Place, samples: int = 1) -> Array:
    """(calls, terms) of one block.

    Args:
        record: the block.
        counts: work of each call; rows are those of all its samples together.
        machine: kernels, threads and cache.
        place: where the block stands in its network.
        samples: images that a call computes together (their weights are read once).
    """
    work = Amounts(TERMS, len(counts), machine, place, _MERGED)
    work.add("block", 1.0)
    work.add("block_far", place.far * ((counts.conv1 > 0) & (counts.channels > 0)))
    _spills(work, record, counts, samples)
    _cold_maps(work, record, counts, place, samples)
    add_maskers(work, record, place, samples, "conv1")
    work.add("decided_far", place.far * _decided(record) * samples)
    _lists(work, record, counts, samples)
    if record.projection:
        _projection(work, record, counts, samples)
    _conv1(work, record, counts)
    _conv2(work, record, counts)
    _conv3(work, record, counts)
    return work.values


def _spills(work: Amounts, record: BlockRecord, counts: Counts, samples: int) -> None:
    inner, outer = record.hin * record.win * record.cin, record.hout * record.wout * record.cout
    passes = counts.conv1 * record.cin + counts.conv3 * record.cout + samples * (
        inner * (bool(record.mask_groups) + record.projection) + outer * record.projection
    )
    work.spill(max(inner, outer) * samples, passes)


def _cold_maps(work: Amounts, record: BlockRecord, counts: Counts, place: Place, samples: int) -> None:
    inner, outer = record.hin * record.win * record.cin, record.hout * record.wout * record.cout
    maps = (samples * (inner + 2 * outer) + (counts.conv1 + counts.conv2) * record.width) / work.threads
    work.add("begun_cold", place.cold)
    work.add("cold", place.cold * maps)
    work.add("behind", place.behind)
    work.add("behind_floats", place.behind * maps)


def add_maskers(work: Amounts, record: BlockRecord, place: Place, samples: int, convolution: str) -> None:
    """The maskers of a convolutional block; `convolution`: the kind of product that a masker's own one is like."""
    pixels = record.hin * record.win * samples
    if record.mask_groups:
        work.add("masked", pixels * record.cin * record.mask_groups / work.threads)
    if record.channel_groups:
        if not place.sums_known and record.channel_masker != ChannelMasker.CONV:
            work.add("averaged", pixels * record.cin / work.threads)
        if record.channel_masker == ChannelMasker.CONV:
            rows = np.full(len(work.values), float(pixels))
            work.gemm(convolution, rows, record.cin, record.masker_hidden)
        work.add("decided", _decided(record) * samples)


def _decided(record: BlockRecord) -> int:
    """Floats of the weights of the channel masker."""
    if not record.channel_groups:
        return 0
    return record.masker_hidden * record.cin + record.channel_groups * (record.masker_hidden or record.cin)


def _lists(work: Amounts, record: BlockRecord, counts: Counts, samples: int) -> None:
    if not record.mask_groups:
        return
    out = record.hout * record.wout
    # Direct convolutions go through pixels, Winograd's through tiles of four.
    second = out / 4 if record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2 else out
    listed = (record.hin * record.win + second + out * record.mask_groups) * samples
    # A block without a projection makes no lists where nothing is kept.
    work.add("listed", listed * ((counts.conv1 > 0) | record.projection))
    work.add("entries", counts.conv1 * 2 + counts.conv2 * 2 + counts.tiles * 4 + counts.conv3 * record.mask_groups)


def shares_of(record: BlockRecord, threads: int) -> int:
    """Few pixels are shared out by channels, many by pixels."""
    return threads if record.hin * record.win < _FEW_PIXELS else 1


def working_panel(record: BlockRecord, channels: Array, shares: Array | int) -> Array:
    """Columns of a panel of the convolutions that make `channels`: kept ones are spread evenly over a multiple of
    `shares` panels (`working_panel` of plugins/cpu/weights.cpp)."""
    kept = np.maximum(channels, 1)
    if not record.channel_groups:
        return np.full(len(kept), float(PANEL))
    panels = np.ceil(np.ceil(kept / PANEL) / shares) * shares
    panels = np.clip(panels, 1, np.maximum(1, kept // ALIGN))
    return np.asarray(np.ceil(np.ceil(kept / panels) / ALIGN) * ALIGN)


def _projection(work: Amounts, record: BlockRecord, counts: Counts, samples: int) -> None:
    """Pixels that conv3 adds to, and the others, which get their ReLU at once: two products with the same weights."""
    pixels = float(record.hout * record.wout * samples)
    # With several mask groups a pixel gets its ReLU at once where no group keeps it.
    added = np.full(len(counts), pixels) if not record.mask_groups else counts.conv2
    for rows in (pixels - added, added):
        share = work.gemm("projection", rows, record.cin, record.cout, written="outputs")
        work.weights(record.cin * record.cout, rows, share.weights)


def _conv1(work: Amounts, record: BlockRecord, counts: Counts) -> None:
    panel = working_panel(record, counts.channels, shares_of(record, work.threads))
    share = work.gemm("conv1", counts.conv1, record.cin, counts.channels, panel=panel, written="rows_written")
    crossed(work, counts.conv1 * record.cin, share.weights)
    _inner_weights(work, record, record.cin * counts.channels, counts.conv1, share)


def _conv2(work: Amounts, record: BlockRecord, counts: Counts) -> None:
    kept = counts.channels
    if record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2:
        return _winograd(work, record, counts)
    panel = working_panel(record, counts.channels, shares_of(record, work.threads))
    share = work.gemm("conv2", counts.conv2, 9 * kept, kept, panel=panel, written="rows_written")
    crossed(work, counts.conv2 * kept, share.weights)
    _inner_weights(work, record, 9 * kept * gone_through(record, kept), counts.conv2, share)


def _winograd(work: Amounts, record: BlockRecord, counts: Counts) -> None:
    """Few tiles are shared out by panels; more by ranges of tiles, as tasks of some dozens, each going through all
    panels (`winograd_conv` of plugins/cpu/phases.cpp)."""
    threads, tiles, kept = work.threads, counts.tiles, counts.channels
    # Threads pack whole panels of filters, unless these would be too narrow.
    shares = np.maximum(shares_of(record, threads), np.minimum(threads, kept // _WIDE))
    panel = working_panel(record, kept, shares)
    panels = np.ceil(kept / panel)
    padded = np.ceil(kept / ALIGN) * ALIGN
    tile_floats = _WINOGRAD_POINTS * (padded + PANEL)
    chunk = np.clip(_WINOGRAD_CHUNK_FLOATS // tile_floats, 16, 128)
    few = tiles < _MIN_TILES_PER_TASK * threads
    by_panels = (threads > 1) & (panels >= threads) & few
    # With tiles enough each thread packs for itself what it multiplies them with.
    apart = (threads > 1) & ~few & bool(record.channel_groups)
    tasks = np.ones(len(tiles))
    if threads > 1:
        tasks = np.clip(np.maximum(threads, np.ceil(tiles / chunk)), 1, np.maximum(1, tiles // 8))
    tasks = np.where(apart, threads, tasks)
    in_tasks = np.ceil(tiles * np.ceil(tasks / threads) / tasks)
    shared = ((tasks > 1) | by_panels) & (tiles > 0)
    mine = Share.of(
        np.where(by_panels, tiles, in_tasks), kept * (tiles > 0), panel, threads, by_panels=by_panels, shared=shared
    )
    work.multiplied("winograd", mine, kept, panel, _WINOGRAD_POINTS)
    together = np.where(apart, 1, threads)
    groups = np.where(by_panels, 1, _panel_groups(record, kept, panel, together))
    # Panels that are not ready together follow one another.
    work.add("section", 2 * (groups - 1) * (together > 1) * (tiles > 0))
    # Inputs of one chunk serve all panels that are ready together; those of several are transformed anew for each.
    several = (in_tasks / np.ceil(tasks / threads) > chunk) & ~apart
    again = np.where(~by_panels & several, panels, groups)
    work.add("tile_transforms", mine.rows * _WINOGRAD_POINTS * padded * again)
    work.add("tile_outputs", mine.rows * _WINOGRAD_POINTS * (mine.panels * panel + mine.narrow))
    if record.channel_groups:
        # What threads pack together, they pack before the tiles, in slices of some inputs.
        slices = np.maximum(np.ceil(kept / _WINOGRAD_SLICE), 1) * np.maximum(panels, 1)
        part = np.where(apart, 1.0, np.ceil(slices / threads) / slices)
        mine = replace(mine, packed=np.where(by_panels, mine.weights, part))
        work.packed_weights("packed", 9 * kept * gone_through(record, kept), tiles, mine)
        filters = _WINOGRAD_POINTS * kept * panels * panel * (tiles > 0) * mine.packed
        work.add("filters", filters)
        work.add("filters_spilled", filters * work.spilled_share(_WINOGRAD_POINTS * kept * panel))
    else:
        work.weights(_WINOGRAD_POINTS * kept * kept, tiles, mine.weights)
    crossed(work, counts.conv1 * kept * (tiles > 0), mine.weights)


def _panel_groups(record: BlockRecord, kept: Array, panel: Array, threads: Array) -> Array:
    """How many times panels are made ready: all together where they are stored so, those that so many threads pack as
    many as stay in cache (`panels_per_group` of plugins/cpu/weights.cpp)."""
    panels = np.maximum(np.ceil(kept / panel), 1)
    if not record.channel_groups:
        return np.ones(len(kept))
    budget = np.where(threads == 1, _GROUP_FLOATS, _SHARED_GROUP_FLOATS)
    together = np.clip(budget // np.maximum(_WINOGRAD_POINTS * kept * panel, 1), 1, panels)
    return np.asarray(np.ceil(panels / together))


def _conv3(work: Amounts, record: BlockRecord, counts: Counts) -> None:
    share = work.gemm("conv3", counts.conv3, counts.channels, record.cout, written="outputs")
    crossed(work, counts.conv3 * counts.channels, share.weights)
    # Without a kept channel there is no product, but one thread adds the constant.
    work.add("outputs", counts.conv3 * record.cout * (counts.channels == 0))
    floats = counts.channels * record.cout
    if not record.channel_groups:
        work.weights(floats, counts.conv3, share.weights)
        return
    some = counts.channels < record.width
    work.weights(floats, counts.conv3 * ~some, share.weights)
    work.packed_weights("copied", floats * some, counts.conv3, share)


def crossed(work: Amounts, floats: Array, share: Array) -> None:
    """Rows of so many floats, multiplied by `share` of the weights: where panels are shared out, each thread reads all
    rows, and those that another one wrote come from its cache."""
    work.add("crossed", floats * (share < 1) * (1 - 1 / work.threads))


def _inner_weights(work: Amounts, record: BlockRecord, floats: Array, rows: Array, share: Share) -> None:
    """conv1 and direct conv2: with channel masks their kept weights are packed, without they lie ready."""
    if record.channel_groups:
        work.packed_weights("packed", floats, rows, share)
    else:
        work.weights(floats, rows, share.weights)

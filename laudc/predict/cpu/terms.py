"""What a block makes the CPU do, as numbers: one column per kind of work, one row per image or call.

The columns mirror `plugins/cpu`: masker, list building, conv1, conv2 (direct, or Winograd over 2×2 tiles), conv3,
projection, turning kept channels into panels, streaming weights. Each is an amount of work on the critical path (the
busiest thread); a fitted coefficient says how many nanoseconds one unit costs on a given machine with a given number
of threads. Times are sums: on the machines we know, phases of a block do not overlap.
"""

from __future__ import annotations

import numpy as np

from laudc.ops.scheduled import BlockRecord, ChannelMasker, Conv2Algorithm
from laudc.predict.counts import Counts
from laudc.predict.cpu.amounts import PRODUCT_TERMS, Amounts, Machine
from laudc.predict.interface import Place
from laudc.predict.traffic import gone_through

Array = np.ndarray

TERMS = (
    "block",  # one per block and call
    "section",  # parallel sections
    "conv1_macs",
    "conv2_macs",
    "conv3_macs",
    "projection_macs",
    "winograd_macs",
    *PRODUCT_TERMS,
    "rows_written",
    "outputs",  # floats of block output read and written
    "tile_transforms",  # floats of Winograd inputs transformed
    "tile_outputs",
    "packed",  # floats of conv1 and conv2 weights brought into panels
    "filters",  # floats of Winograd filters made from packed ones
    "copied",  # floats of conv3 weights moved together
    "packed_far",  # floats of weights brought together that come from memory
    "packed_waited",  # of these, what few rows leave no time to fetch meanwhile
    "begun_cold",  # one of a call's first block, where its weights push code and tables out of the cache
    "cold",  # floats of maps of a call's first block, where its weights push them out of the cache
    "spilled",  # floats of maps that a core's second-level cache cannot hold
    "listed",  # pixels gone through for row lists
    "entries",  # list entries written
    "masked",  # floats read by the spatial masker
    "averaged",  # floats read by the channel masker
    "decided",  # floats of channel masker weights
)
# Winograd works on so many tiles at a time; every chunk reads all transformed weights.
_WINOGRAD_POINTS = 16
_WINOGRAD_CHUNK_FLOATS = 192 * 1024


def block_terms(record: BlockRecord, counts: Counts, machine: Machine, place: Place, samples: int = 1) -> Array:
    """(calls, terms) of one block.

    Args:
        record: the block.
        counts: work of each call; rows are those of all its samples together.
        machine: kernels, threads and cache.
        place: where the block stands in its network.
        samples: images that a call computes together (their weights are read once).
    """
    work = Amounts(TERMS, len(counts), machine, place)
    work.add("block", 1.0)
    _spills(work, record, counts, samples)
    _cold_maps(work, record, counts, place, samples)
    add_maskers(work, record, place, samples, "conv1")
    _lists(work, record, counts, samples)
    if record.projection:
        pixels = np.full(len(counts), float(record.hout * record.wout * samples))
        work.gemm("projection", pixels, record.cin, record.cout)
        work.weights(record.cin * record.cout, pixels)
        work.add("outputs", pixels * record.cout / machine.threads)
    _conv1(work, record, counts, machine)
    _conv2(work, record, counts, machine)
    _conv3(work, record, counts, machine)
    return work.values


def _spills(work: Amounts, record: BlockRecord, counts: Counts, samples: int) -> None:
    inner, outer = record.hin * record.win * record.cin, record.hout * record.wout * record.cout
    passes = counts.conv1 * record.cin + counts.conv3 * record.cout + samples * (
        inner * (bool(record.mask_groups) + record.projection) + outer * record.projection
    )
    work.spill(max(inner, outer) * samples, passes)


def _cold_maps(work: Amounts, record: BlockRecord, counts: Counts, place: Place, samples: int) -> None:
    if place.cold:
        work.add("begun_cold", place.cold)
        inner, outer = record.hin * record.win * record.cin, record.hout * record.wout * record.cout
        between = (counts.conv1 + counts.conv2) * record.width
        work.add("cold", place.cold * (samples * (inner + 2 * outer) + between) / work.threads)


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
        inputs = record.masker_hidden or record.cin
        work.add("decided", (record.masker_hidden * record.cin + record.channel_groups * inputs) * samples)


def _lists(work: Amounts, record: BlockRecord, counts: Counts, samples: int) -> None:
    if not record.mask_groups:
        return
    out = record.hout * record.wout
    work.add("listed", (record.hin * record.win + out * (1 + record.mask_groups)) * samples)
    work.add("entries", counts.conv1 * 2 + counts.conv2 * 2 + counts.tiles * 4 + counts.conv3 * record.mask_groups)


def _conv1(work: Amounts, record: BlockRecord, counts: Counts, machine: Machine) -> None:
    work.gemm("conv1", counts.conv1, record.cin, counts.channels)
    work.add("rows_written", counts.conv1 * counts.channels / machine.threads)
    _inner_weights(work, record, record.cin * counts.channels, counts.conv1)


def _conv2(work: Amounts, record: BlockRecord, counts: Counts, machine: Machine) -> None:
    kept = counts.channels
    if record.conv2_algorithm != Conv2Algorithm.WINOGRAD_2X2:
        work.gemm("conv2", counts.conv2, 9 * kept, kept)
        work.add("rows_written", counts.conv2 * kept / machine.threads)
        _inner_weights(work, record, 9 * kept * gone_through(record, kept), counts.conv2)
        return
    chunk = np.clip(_WINOGRAD_CHUNK_FLOATS // (_WINOGRAD_POINTS * (kept + 64)), 16, 128)
    mine = np.ceil(counts.tiles / machine.threads)
    chunks = np.ceil(mine / chunk)
    work.gemm("winograd", counts.tiles, kept, kept, _WINOGRAD_POINTS)
    again = np.where(chunks > 1, np.ceil(kept / 64), 1)
    work.add("tile_transforms", mine * _WINOGRAD_POINTS * kept * again)
    work.add("tile_outputs", mine * _WINOGRAD_POINTS * kept)
    if record.channel_groups:
        work.packed_weights("packed", 9 * kept * gone_through(record, kept), counts.tiles)
        work.add("filters", _WINOGRAD_POINTS * kept * kept * (counts.tiles > 0) / machine.threads)
    else:
        work.weights(_WINOGRAD_POINTS * kept * kept, counts.tiles)


def _conv3(work: Amounts, record: BlockRecord, counts: Counts, machine: Machine) -> None:
    work.gemm("conv3", counts.conv3, counts.channels, record.cout)
    work.add("outputs", counts.conv3 * record.cout / machine.threads)
    floats = counts.channels * record.cout
    if not record.channel_groups:
        work.weights(floats, counts.conv3)
        return
    some = counts.channels < record.width
    work.weights(floats, counts.conv3 * ~some)
    work.packed_weights("copied", floats * some, counts.conv3)


def _inner_weights(work: Amounts, record: BlockRecord, floats: Array, rows: Array) -> None:
    """conv1 and direct conv2: with channel masks their kept weights are packed, without they lie ready."""
    if record.channel_groups:
        work.packed_weights("packed", floats, rows)
    else:
        work.weights(floats, rows)

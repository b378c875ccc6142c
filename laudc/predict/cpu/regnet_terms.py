"""What a RegNetY block makes the CPU do: the columns mirror `plugins/cpu/regnet_run.cpp` and what it calls.

See `laudc.predict.cpu.terms` for what a term is. The kernels go through the images of a call one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from laudc.ops.packing import ALIGN, round_up
from laudc.ops.scheduled import RegNetRecord
from laudc.predict.cpu.amounts import MIN_MACS_TO_SHARE, PANEL, PIXELS, PRODUCT_TERMS, Amounts, Machine, Share
from laudc.predict.cpu.terms import add_maskers, crossed, shares_of, working_panel
from laudc.predict.interface import Place
from laudc.predict.regnet_counts import RegNetCounts
from laudc.predict.traffic import fetched_in_vain, regnet_weights

Array = np.ndarray

REGNET_TERMS = (
    "block",  # one per block and image
    "section",  # parallel sections
    "a_macs",
    "c_macs",
    "projection_macs",
    "b_macs",  # of conv b, where the map is gone through as a whole
    "b_narrow_macs",  # the same of groups with few kept channels, which half vectors hold
    "b_pixels",  # pixels times convolution groups
    "b_listed_macs",  # the same where kept pixels are listed, or a group is too wide for the kernel of whole maps
    "b_listed_pixels",
    *PRODUCT_TERMS,
    "rows_written",
    "outputs",  # floats of block output read and written
    "packed",  # floats of conv a's weights brought into panels
    "compacted",  # floats of conv b's weights of groups that are kept in part
    "copied",  # floats of conv c's weights moved together
    "packed_far",  # floats of weights moved or brought into panels that come from memory
    "pieces",  # stretches of neighbouring weights that these are brought together from
    "crossed",  # floats of maps that a thread reads from another's cache
    "summed",  # floats added up for squeeze-excitation
    "scaled",  # floats multiplied by it
    "excited",  # floats of its weights
    "spilled",  # floats of maps that a core's second-level cache cannot hold
    "listed",  # pixels gone through for row lists
    "entries",  # list entries written
    "masked",  # floats read by the spatial masker
    "averaged",  # floats read by the channel masker
    "decided",  # floats of channel masker weights
)
# The widest group of the kernel that goes through whole maps (plugins/cpu/grid_conv_*.cpp); 0: there is none.
_WIDEST_ON_GRID: Mapping[str, int] = MappingProxyType({"avx512": 32, "avx2": 24, "neon": 0, "portable": 0})
# Output pixels of its tiles by stride, and so many as keep the arithmetic busy.
_TILE_PIXELS = {1: 14, 2: 10}
_BUSY_PIXELS = 8
_TAPS = 9
_BAND_FLOATS = 128 * 1024


def regnet_block_terms(record: RegNetRecord, counts: RegNetCounts, machine: Machine, place: Place) -> Array:
    """(images, terms) of one block, every image by itself; arguments as of `laudc.predict.cpu.terms.block_terms`."""
    work = Amounts(REGNET_TERMS, len(counts), machine, place)
    work.add("block", 1.0)
    add_maskers(work, record, place, 1, "a")
    _lists(work, record, counts)
    _spills(work, record, counts)
    weights = regnet_weights(record, counts)
    if record.projection:
        pixels = np.full(len(counts), float(record.hout * record.wout))
        share = work.gemm("projection", pixels, record.cin, record.cout)
        work.weights(weights["projection"], pixels, share.weights)
        work.add("outputs", pixels * record.cout / work.threads)
    on = counts.b * (counts.channels > 0)
    # Weights of conv a and c lie ready for all channels together; some are brought together first.
    some = counts.channels < record.width
    panel = np.where(some, working_panel(record, counts.channels, shares_of(record, work.threads)), PANEL)
    share_a = work.gemm("a", counts.a, record.cin, counts.channels, panel=panel)
    work.add("rows_written", (counts.a + on) * counts.channels / work.threads)
    crossed(work, counts.a * record.cin, share_a.weights)
    work.weights(weights["a"] * ~some, counts.a, share_a.weights)
    work.own_packed_weights("packed", weights["a"] * some, counts.a, share_a)
    work.stream(fetched_in_vain(record, counts) / work.threads, counts.a)
    _grouped(work, record, counts)
    _excitation(work, record, counts, on, weights["se"])
    share_c = work.gemm("c", counts.c, counts.channels, record.cout)
    work.add("outputs", counts.c * record.cout / work.threads)
    crossed(work, counts.c * counts.channels, share_c.weights)
    work.weights(weights["c"], counts.c * ~some, share_c.weights)
    work.own_packed_weights("copied", weights["c"] * some, counts.c, share_c)
    _gathered(work, record, counts, weights, {"a": share_a, "c": share_c})
    return work.values


def _lists(work: Amounts, record: RegNetRecord, counts: RegNetCounts) -> None:
    """Without a spatial mask the lists of the call before are still right; conv a's and b's are unless they follow the
    mask."""
    if not record.mask_groups:
        return
    out = record.hout * record.wout
    work.add("listed", out * (1 + record.mask_groups + record.projection))
    work.add("entries", counts.c * 2 * record.mask_groups + 2.0 * out * record.projection)
    if record.se_pool:
        work.add("listed", 2.0 * record.hin * record.win + out)
        work.add("entries", counts.a * 2 + counts.b * 2)


def _spills(work: Amounts, record: RegNetRecord, counts: RegNetCounts) -> None:
    inner, outer = record.hin * record.win * record.cin, record.hout * record.wout * record.cout
    middle = record.hin * record.win * record.width
    passes = counts.a * (record.cin + counts.channels) + counts.c * record.cout + inner * (record.mask_groups > 0)
    work.spill(max(inner, outer, middle), passes)


def _gathered(
    work: Amounts,
    record: RegNetRecord,
    counts: RegNetCounts,
    weights: Mapping[str, Array],
    shares: Mapping[str, Share],
) -> None:
    """Kept weights of conv a and c lie in stretches: the hardware fetches on within one, but not from one to the next,
    and packing waits for what comes from memory where nothing was fetched ahead.

    Kept channel groups lie at random, so that each but the last of a stretch has a dropped one behind it.
    """
    if not record.channel_groups:
        return
    kept = counts.channels / record.width
    groups = float(record.channel_groups)
    stretches = (kept < 1) * groups * kept * (1 - kept + 1 / groups)
    for rows, part, panels in ((counts.a, "a", 1), (counts.c, "c", -(-record.cout // PANEL))):
        mine = (rows > 0) * shares[part].packed
        work.add("packed_far", weights[part] * (kept < 1) * mine * work.far)
        work.add("pieces", stretches * panels * mine)


def _grouped(work: Amounts, record: RegNetRecord, counts: RegNetCounts) -> None:
    threads, width = work.threads, record.width // record.group
    parts = np.maximum(counts.parts, 1)
    alone = counts.b * _TAPS * counts.parts * width * width < MIN_MACS_TO_SHARE
    by_rows = counts.b >= PIXELS.rows_per_task * threads
    tasks = np.where(alone, 1.0, np.where(by_rows, threads, np.minimum(threads, parts)))
    mine = np.where(by_rows, np.ceil(counts.b / tasks), counts.b)
    share = np.where(by_rows, 1.0, np.ceil(parts / tasks) / parts)
    bands = _bands(record, threads)
    listed = bool(record.se_pool) | (counts.channels / parts > _WIDEST_ON_GRID[work.machine.isa])
    # Lines are cut into tiles; one of few pixels takes as long as one of some more.
    tiles = np.ceil(record.wout / _TILE_PIXELS[record.stride])
    stretched = np.maximum(record.wout / tiles, _BUSY_PIXELS) * tiles / record.wout
    work.add("b_macs", mine * _TAPS * counts.padded * share * ~listed * stretched)
    # Half vectors hold two lines at a time.
    lines = np.maximum(np.ceil(mine / record.wout), 1)
    even = np.ceil(lines / 2) * 2 / lines
    work.add("b_narrow_macs", mine * _TAPS * counts.narrow * share * ~listed * stretched * even)
    work.add("b_pixels", mine * counts.parts * share * ~listed)
    work.add("b_listed_macs", mine * _TAPS * counts.listed * share * listed)
    work.add("b_listed_pixels", mine * counts.parts * share * listed)
    work.add("section", (tasks > 1) * (counts.b * counts.parts > 0) * (2 * bands - 1))
    crossed(work, counts.b * counts.channels, share)
    work.weights(_TAPS * counts.parts * width * width, counts.b, share)
    partly = counts.channels < counts.parts * width
    work.add("compacted", _TAPS * counts.listed * share * partly * (counts.b > 0) * bands)


def _bands(record: RegNetRecord, threads: int) -> float:
    """Conv a and b of wide maps take turns, so that what one writes is still in the cache when the other reads it."""
    if record.se_pool:
        return 1.0
    floats = record.hin * (record.win + 3) * round_up(record.width, ALIGN)
    return min(float(record.hout), np.ceil(floats / (_BAND_FLOATS * threads)))


def _excitation(work: Amounts, record: RegNetRecord, counts: RegNetCounts, rows: Array, weights: Array) -> None:
    def shared(pixels: Array) -> Array:
        return np.where(pixels >= PIXELS.rows_per_task * work.threads, 1.0 / work.threads, 1.0)

    padded = np.ceil(counts.channels / ALIGN) * ALIGN
    # By the tasks of conv b, which share out groups where there are few pixels, and by those of conv c.
    work.add("summed", rows * padded / work.threads)
    work.add("scaled", counts.read * counts.channels * shared(counts.c))
    # Two layers of a single row; their weights are equally many.
    one = np.ones(len(counts))
    for depth, columns in ((record.width, record.squeeze), (record.squeeze, record.width)):
        mine = work.share(one, depth, columns)
        work.add("section", mine.shared)
        work.add("excited", weights / 2 * mine.weights)
        work.weights(weights / 2, one, mine.weights)

"""Everything beside our kernels for RegNetY blocks. See `laudc.predict.cpu.outside`, which it has stem, head, call and
borders in common with."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from laudc.ops.packing import round_up
from laudc.ops.scheduled import RegNetRecord
from laudc.predict.cpu.outside import SHARED_OUTSIDE_TERMS, boundary_terms, closing_terms, frame_terms
from laudc.predict.cpu.sums import Sum

Array = np.ndarray

REGNET_OUTSIDE_TERMS = (
    *SHARED_OUTSIDE_TERMS,
    # "pointwise" holds the MACs of all convolutions: kernels of 1x1 and grouped ones multiply equally fast.
    "unfolded",  # floats that are unfolded for grouped convolutions by matrix products, and that change layout for them
    "weights",  # floats of weights from memory
    "weights_near",
    "elementwise",  # floats read and written by masks, squeeze-excitation, additions and ReLUs
    "masked",  # floats read by channel maskers
    "relaid",  # floats that leave the blocked layout for a channel mask and come back to it
    "patched",  # floats that spatial maskers read and spatial masks multiply, with a change of layout
)
# Operators that the body of a block becomes: convolutions, squeeze-excitation and additions with the changes of layout
# between them; a projection; and maskers with masks, most of them of shapes and lists: counted in optimized graphs.
_NODES, _PROJECTION_NODES, _CHANNEL_NODES, _SPATIAL_NODES = 20, 3, 20, 45
_TAPS = 9
# The runtime's blocked layout holds so many channels together; its kernels compute at most so many blocks at a time.
_VECTOR = 16
_BLOCKS_AT_A_TIME = 4

regnet_frame_terms = partial(frame_terms, names=REGNET_OUTSIDE_TERMS)
regnet_boundary_terms = partial(boundary_terms, names=REGNET_OUTSIDE_TERMS)
regnet_closing_terms = partial(closing_terms, names=REGNET_OUTSIDE_TERMS)


def regnet_dense_terms(record: RegNetRecord, batch: int = 1, far: float = 1.0, threads: int = 1) -> Array:
    """One block as the runtime computes it with `threads` threads, whatever its masks keep. What the busiest thread
    does of a convolution counts `threads` times: the coefficients are of work that is shared out evenly."""
    total = Sum(REGNET_OUTSIDE_TERMS)
    inner, outer = record.hin * record.win * batch, record.hout * record.wout * batch
    weights = _stored_weights(record)
    total.add(
        "nodes",
        _NODES
        + _PROJECTION_NODES * record.projection
        + _CHANNEL_NODES * bool(record.channel_groups)
        + _SPATIAL_NODES * bool(record.mask_groups),
    )
    # Squeeze-excitation reads the map twice and writes it; the branch is added.
    maps = outer * (3.0 * record.width + 3.0 * record.cout)
    if record.mask_groups:
        total.add("patched", inner * record.cin + outer * record.cout)
    if record.channel_groups:
        maps += 2 * record.width * (inner + outer)
        total.add("relaid", record.width * (inner + outer))
        total.add("masked", inner * record.cin)
    pointwise = [
        (record.hin, record.win, record.cin, record.width),
        (record.hout, record.wout, record.width, record.cout),
    ]
    if record.projection:
        pointwise.append((record.hout, record.wout, record.cin, record.cout))
    for lines, columns, inputs, outputs in pointwise:
        macs = lines * columns * round_up(inputs, _VECTOR) * round_up(outputs, _VECTOR)
        total.add("pointwise", macs * batch * _unevenness(lines * batch, outputs, threads))
    _grouped(total, record, batch, threads)
    total.add("weights", weights * far)
    total.add("weights_near", weights * (1 - far))
    total.add("elementwise", maps)
    return total.values


def _stored_weights(record: RegNetRecord) -> int:
    """Floats of a block's weights."""
    grouped = record.width * (record.width // record.group) * _TAPS
    excitation = 2 * record.squeeze * record.width
    projection = record.projection * record.cin * record.cout
    return record.cin * record.width + grouped + record.width * record.cout + excitation + projection


def _grouped(total: Sum, record: RegNetRecord, batch: int, threads: int) -> None:
    """Groups that fill whole vectors stay in the blocked layout, where lines are shared out. Others are unfolded into
    matrix products, whole groups for each thread; one after the other where a group has more channels than pixels."""
    inner, outer = record.hin * record.win, record.hout * record.wout
    width = record.width // record.group
    macs = outer * record.width * width * _TAPS * batch
    if width % _VECTOR == 0:
        total.add("pointwise", macs)
        return
    groups = record.group * batch
    uneven = threads * math.ceil(groups / threads) / groups if width <= outer else float(threads)
    total.add("pointwise", macs * uneven)
    total.add("unfolded", ((_TAPS + 1) * outer * uneven + inner) * record.width * batch)


def _unevenness(lines: int, channels: int, threads: int) -> float:
    """The busiest thread's share of a convolution over an even one (measured with onnxruntime 1.32): output channels
    are cut into sets of blocks, as few and as equal as can be, larger ones first; lines of one set after the other are
    shared out, each counted alike."""
    blocks = math.ceil(channels / _VECTOR)
    sets = math.ceil(blocks / _BLOCKS_AT_A_TIME)
    begun = math.ceil(sets * lines / threads) / lines
    least, larger = divmod(blocks, sets)
    return threads * (begun * least + min(begun, larger)) / blocks

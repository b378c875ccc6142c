"""Everything beside our kernels for RegNetY blocks. See `laudc.predict.cpu.outside`, which it has stem, head, call and
borders in common with."""

from __future__ import annotations

from functools import partial

import numpy as np

from laudc.ops.scheduled import RegNetRecord
from laudc.predict.cpu.outside import SHARED_OUTSIDE_TERMS, boundary_terms, closing_terms, frame_terms
from laudc.predict.cpu.sums import Sum

Array = np.ndarray

REGNET_OUTSIDE_TERMS = (
    *SHARED_OUTSIDE_TERMS,
    "blocked",  # MACs of grouped convolutions whose groups fill whole vectors: in the runtime's blocked layout
    "plain",  # MACs of the others, which are computed group by group
    "plain_groups",  # calls of these
    "unfolded",  # floats that are unfolded for them, and that change layout before and after
    "weights",  # floats of weights from memory
    "weights_near",
    "elementwise",  # floats read and written by masks, squeeze-excitation, additions and ReLUs
    "masked",  # floats read by channel maskers
    "relaid",  # floats that leave the blocked layout for a channel mask and come back to it
    "patched",  # floats that spatial maskers read and spatial masks multiply, with a change of layout
)
# Operators that the body of a block becomes: convolutions, squeeze-excitation, masks, additions, and of the maskers.
_NODES, _MASKER_NODES = 12, 8
_TAPS = 9
_VECTOR = 16

regnet_frame_terms = partial(frame_terms, names=REGNET_OUTSIDE_TERMS)
regnet_boundary_terms = partial(boundary_terms, names=REGNET_OUTSIDE_TERMS)
regnet_closing_terms = partial(closing_terms, names=REGNET_OUTSIDE_TERMS)


def regnet_dense_terms(record: RegNetRecord, batch: int = 1, far: float = 1.0) -> Array:
    """One block as the runtime computes it, whatever its masks keep."""
    total = Sum(REGNET_OUTSIDE_TERMS)
    inner, outer = record.hin * record.win * batch, record.hout * record.wout * batch
    group_width = record.width // record.group
    grouped = record.width * group_width * _TAPS
    weights = record.cin * record.width + grouped + record.width * record.cout + 2 * record.squeeze * record.width
    pointwise = inner * record.cin * record.width + outer * record.width * record.cout
    if record.projection:
        pointwise += outer * record.cin * record.cout
        weights += record.cin * record.cout
    total.add("nodes", _NODES + _MASKER_NODES * (bool(record.mask_groups) + bool(record.channel_groups)))
    # Squeeze-excitation reads the map twice and writes it; the branch is added.
    maps = outer * (3.0 * record.width + 3.0 * record.cout)
    if record.mask_groups:
        total.add("patched", inner * record.cin + outer * record.cout)
    if record.channel_groups:
        maps += 2 * record.width * (inner + outer)
        total.add("relaid", record.width * (inner + outer))
        total.add("masked", inner * record.cin)
    total.add("pointwise", pointwise)
    if group_width % _VECTOR:
        total.add("plain", outer * grouped)
        total.add("plain_groups", record.group * batch)
        total.add("unfolded", (_TAPS + 1) * outer * record.width + inner * record.width)
    else:
        total.add("blocked", outer * grouped)
    total.add("weights", weights * far)
    total.add("weights_near", weights * (1 - far))
    total.add("elementwise", maps)
    return total.values

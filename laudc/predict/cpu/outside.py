"""Everything beside our block kernels: stem, head, the call itself, and blocks that are left to the runtime.

A block scheduled dense is computed by ONNX Runtime from its body: whole convolutions in the runtime's blocked layout,
then the masks multiplied in. Between a dense block and a run of ours the map changes its layout, and the runtime
reorders it once more for its own; both are terms of their own, so that the scheduler sees what breaking a run costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laudc.ops.packing import ALIGN, round_up
from laudc.ops.scheduled import BlockRecord
from laudc.predict.cpu.behind import BEHIND_TERMS, add_behind
from laudc.predict.cpu.sums import Sum
from laudc.predict.frame import Frame
from laudc.predict.interface import COLD, Place, Scheduled

Array = np.ndarray

# What every family of convolutional networks has.
SHARED_OUTSIDE_TERMS = (
    "call",  # one per call
    "call_far",  # one per call whose weights push what the runtime needs for itself out of the cache
    "own_stem",  # MACs of the fused stem, in whole vectors of channels
    "own_stem_floats",
    "runtime_stem",  # MACs of the stem in the runtime
    "runtime_stem_floats",
    "head_floats",
    "head_weights",  # floats of the classifier from memory
    "head_weights_near",
    "frame_far",  # floats of image and stem, where a call's weights push them out of the cache
    "runs",  # custom-op calls, with the copy of an identity block's input
    "copied",  # floats copied at the borders of runs
    "transposed",  # floats that change layout between a run and the runtime
    "boundaries",
    "nodes",  # operators of dense blocks
    "pointwise",  # MACs of 1x1 convolutions
)
OUTSIDE_TERMS = (
    *SHARED_OUTSIDE_TERMS,
    "spatial",  # MACs of 3x3 convolutions, stride 1
    "strided",  # MACs of 3x3 convolutions, stride 2
    "weights",  # floats of weights from memory
    "weights_near",
    "elementwise",  # floats read and written by masks, additions and ReLUs
    "masked",  # floats read by maskers
    *BEHIND_TERMS,
)
# Operators that the body of a block becomes: convolutions, masks, additions, ReLUs, and those of the maskers.
_NODES, _MASKER_NODES = 8, 8


def frame_terms(
    frame: Frame, *, own_stem: bool, batch: int = 1, place: Place = COLD, names: Sequence[str] = OUTSIDE_TERMS
) -> Array:
    """The call, the stem (fused into an operator of ours when the first block is ours) and the head; `place`: of the
    first block; `names`: of the family."""
    total = Sum(names)
    total.add("call", 1)
    total.add("call_far", place.cold)
    pixels = frame.height * frame.width * batch
    floats = pixels * 3 + pixels / 4 * frame.stem_channels
    padded = round_up(frame.stem_channels, ALIGN) / max(frame.stem_channels, 1)
    total.add("own_stem" if own_stem else "runtime_stem", frame.stem_macs * batch * (padded if own_stem else 1.0))
    total.add("own_stem_floats" if own_stem else "runtime_stem_floats", floats)
    total.add("head_floats", frame.head_inputs * frame.head_pixels * batch)
    total.add("frame_far", floats * place.cold)
    total.add("head_weights", frame.head_inputs * frame.classes * place.far)
    total.add("head_weights_near", frame.head_inputs * frame.classes * (1 - place.far))
    if frame.behind.nodes:
        add_behind(total, frame.behind, batch)
    return total.values


def boundary_terms(
    before: Scheduled | None, block: Scheduled, batch: int = 1, names: Sequence[str] = OUTSIDE_TERMS
) -> Array:
    """What the border between two blocks costs; nothing inside a run and nothing between dense blocks."""
    total = Sum(names)
    record = block.record
    assert isinstance(record, BlockRecord)
    floats = record.cin * record.hin * record.win * batch
    if block.sparse and (before is None or not before.sparse):
        total.add("runs", 1)
        if not record.projection:
            total.add("copied", floats)
    if before is not None and before.sparse != block.sparse:
        total.add("transposed", floats)
        total.add("boundaries", 1)
    if before is not None and before.sparse and not block.sparse:
        total.add("copied", floats)
    return total.values


def closing_terms(last: Scheduled | None, batch: int = 1, names: Sequence[str] = OUTSIDE_TERMS) -> Array:
    """The end of a last run: its result is copied into the runtime's memory."""
    total = Sum(names)
    if last is not None and last.sparse:
        record = last.record
        assert isinstance(record, BlockRecord)
        total.add("copied", record.cout * record.hout * record.wout * batch)
    return total.values


def dense_terms(record: BlockRecord, batch: int = 1, far: float = 1.0) -> Array:
    """One block as the runtime computes it, whatever its masks keep."""
    total = Sum(OUTSIDE_TERMS)
    inner, outer = record.hin * record.win, record.hout * record.wout
    weights = record.cin * record.width + 9 * record.width**2 + record.width * record.cout
    pointwise = inner * record.cin * record.width + outer * record.width * record.cout
    if record.projection:
        pointwise += outer * record.cin * record.cout
        weights += record.cin * record.cout
    maps = outer * record.cout * 3.0
    total.add("nodes", _NODES + _MASKER_NODES * (bool(record.mask_groups) + bool(record.channel_groups)))
    if record.mask_groups:
        maps += outer * record.cout * 2
        total.add("masked", inner * record.cin * batch)
    if record.channel_groups:
        maps += 4 * record.width * (inner + outer)
        total.add("masked", inner * record.cin * batch)
    total.add("pointwise", pointwise * batch)
    total.add("spatial" if record.stride == 1 else "strided", outer * 9 * record.width**2 * batch)
    total.add("weights", weights * far)
    total.add("weights_near", weights * (1 - far))
    total.add("elementwise", maps * batch)
    return total.values

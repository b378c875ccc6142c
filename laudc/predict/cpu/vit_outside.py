"""Everything beside our kernels for transformer blocks: the stem that makes the tokens, the head, the call, and blocks
that are left to the runtime. See `laudc.predict.cpu.outside`."""

from __future__ import annotations

import numpy as np

from laudc.ops.scheduled_vit import VitRecord
from laudc.predict.cpu.sums import Sum
from laudc.predict.frame import VitFrame
from laudc.predict.interface import COLD, Place, Scheduled

Array = np.ndarray

VIT_OUTSIDE_TERMS = (
    "call",  # one per call
    "call_far",  # one per call whose weights push what the runtime needs for itself out of the cache
    "stem_nodes",  # operators of the stem
    "stem_macs",
    "stem_floats",  # floats that they write
    "head_weights",  # floats of the classifier from memory
    "head_weights_near",
    "frame_far",  # floats of the stem, where a call's weights push them out of the cache
    "runs",  # custom-op calls
    "copied",  # floats copied at the borders of runs
    "nodes",  # operators of dense blocks
    "linear",  # MACs of projections and MLP
    "attention",  # MACs of scores and mix
    "scores",  # scores that are masked and go through the softmax
    "gelu",  # hidden values that go through it
    "elementwise",  # floats read and written by normalisation, masks and additions
    "weights",  # floats of weights from memory
    "weights_near",
)
# Operators that the body of a block becomes, and those of one policy.
_NODES, _POLICY_NODES = 40, 6


def vit_frame_terms(frame: VitFrame, *, own_stem: bool, batch: int = 1, place: Place = COLD) -> Array:
    """The call, the stem and the head, all of the runtime; `own_stem` makes no difference here."""
    total = Sum(VIT_OUTSIDE_TERMS)
    total.add("call", 1)
    total.add("call_far", place.cold)
    total.add("stem_nodes", frame.stem_nodes)
    total.add("stem_macs", frame.stem_macs * batch)
    total.add("stem_floats", frame.stem_floats * batch)
    total.add("frame_far", frame.stem_floats * batch * place.cold)
    total.add("head_weights", frame.head_inputs * frame.classes * place.far)
    total.add("head_weights_near", frame.head_inputs * frame.classes * (1 - place.far))
    return total.values


def vit_boundary_terms(before: Scheduled | None, block: Scheduled, batch: int = 1) -> Array:
    """What the border between two blocks costs: a run copies the tokens in, and out again when it ends."""
    total = Sum(VIT_OUTSIDE_TERMS)
    record = block.record
    assert isinstance(record, VitRecord)
    floats = record.tokens * record.dim * batch
    if block.sparse and (before is None or not before.sparse):
        total.add("runs", 1)
        total.add("copied", floats)
    if before is not None and before.sparse and not block.sparse:
        total.add("copied", floats)
    return total.values


def vit_closing_terms(last: Scheduled | None, batch: int = 1) -> Array:
    """The end of a last run; mostly of the class token alone."""
    total = Sum(VIT_OUTSIDE_TERMS)
    if last is not None and last.sparse:
        record = last.record
        assert isinstance(record, VitRecord)
        total.add("copied", (1 if record.first_only else record.tokens) * record.dim * batch)
    return total.values


def vit_dense_terms(record: VitRecord, batch: int = 1, far: float = 1.0) -> Array:
    """One block as the runtime computes it, whatever its policies keep."""
    total = Sum(VIT_OUTSIDE_TERMS)
    rows, dim, hidden = record.tokens * batch, record.dim, record.hidden
    weights = 4 * dim * dim + 2 * dim * hidden
    scores = record.heads * record.tokens * rows
    total.add("nodes", _NODES + _POLICY_NODES * len(record.decisions))
    total.add("linear", rows * weights)
    total.add("attention", 2 * scores * record.head_dim)
    total.add("scores", scores)
    total.add("gelu", rows * hidden)
    total.add("elementwise", rows * 16 * dim)
    total.add("weights", weights * far)
    total.add("weights_near", weights * (1 - far))
    return total.values

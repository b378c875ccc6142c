"""Which boxes a detector keeps of those that overlap, and whether another choice lies within rounding of it.

Non-maximum suppression goes through boxes by their scores and drops what overlaps a better one too much. Rounding may
turn a comparison whose sides are nearly the same, and everything after it is another computation. That a choice is
another one for this reason alone is shown by its margin: how far scores and overlaps would have to move for it to be
right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from laudc.verify.outcome import Array

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Choices:
    """What suppression kept in one image: `outputs` (values,) of the run, and in the order of the graph of each list of
    boxes how many took part and which of them stay, (k,) positions among these, best first.
    """

    outputs: Array
    lists: tuple[tuple[int, Array], ...]


@dataclass(frozen=True)
class Led:
    """What a reference finds when it keeps the boxes that a target chose: its outputs (values,), and the largest margin
    of the choices that are not its own, 0 where all are.
    """

    outputs: Array
    margin: float


@dataclass(frozen=True)
class Watched:
    """A NonMaxSuppression: names of its scores and of its result, and the score above which a box takes part."""

    scores: str
    chosen: str
    above: float

    def read(self, values: Mapping[str, Array]) -> tuple[int, Array] | None:
        """An entry of `Choices.lists`; None if it goes through several lists."""
        if values[self.scores].size != values[self.scores].shape[-1]:
            return None
        taking_part = np.flatnonzero(values[self.scores].ravel() > self.above)
        return len(taking_part), np.searchsorted(taking_part, values[self.chosen][:, 2])


def watched(model: onnx.ModelProto) -> tuple[Watched, ...]:
    """The suppressions of a graph in its order; none if it computes the least score of one of them."""
    from onnx import numpy_helper

    nodes = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
    small = {name for node in nodes for name in node.input[4:5]}
    above = {x.name: float(numpy_helper.to_array(x).ravel()[0]) for x in model.graph.initializer if x.name in small}
    found = []
    for node in nodes:
        threshold = node.input[4] if len(node.input) > 4 else ""
        if threshold and threshold not in above:
            return ()
        found.append(Watched(node.input[1], node.output[0], above.get(threshold, -np.inf)))
    return tuple(found)


def shown_names(suppressions: Sequence[Watched]) -> list[str]:
    """The further outputs of `shown_by`, in its order."""
    return [name for one in suppressions for name in (one.scores, one.chosen)]


def shown_by(model: onnx.ModelProto, suppressions: Sequence[Watched]) -> onnx.ModelProto:
    """The graph with what is watched as further outputs."""
    from onnx import TensorProto, helper

    shown = type(model)()
    shown.CopyFrom(model)
    for name, kind in zip(shown_names(suppressions), cycle((TensorProto.FLOAT, TensorProto.INT64))):
        shown.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    return shown


def margin(boxes: Array, scores: Array, kept: Array, overlap: float, most: int) -> float:
    """By how much scores and overlaps would have to move for `kept` to be what suppression finds; 0 if it is.

    Args:
        boxes: (n, 4) corners. scores: (n,). kept: (k,) positions, best first.
        overlap: what shares more of its area than this with a better one is dropped. most: so many stay.

    Returns:
        The least x such that with scores lowered or raised by up to x, and every overlap likewise, just `kept` stays in
        this order; infinite for a list that no scores lead to.
    """
    if len(kept) > most or len(set(kept.tolist())) < len(kept) or not len(kept):
        return 0.0 if not len(kept) and not len(scores) else np.inf
    exact = scores.astype(np.float64)
    ours = exact[kept]
    disorder = float((np.maximum.accumulate(ours[::-1])[::-1] - ours).max())
    among = _shared(boxes[kept], boxes[kept])
    np.fill_diagonal(among, 0)
    # What is left out was dropped by one of those kept, or comes after the last of a full list.
    after = np.maximum(exact - ours.min(), 0) if len(kept) == most else np.full(len(exact), np.inf)
    after[kept] = 0
    open_ones = np.flatnonzero(after > 0)
    short = np.maximum(overlap - _shared(boxes[open_ones], boxes[kept]), exact[open_ones, None] - ours)
    left_out = np.minimum(after[open_ones], np.maximum(short, 0).min(axis=1))
    return float(max(disorder, among.max() - overlap, left_out.max(initial=0)))


def _shared(some: Array, others: Array) -> Array:
    """(n, m) intersection over union of boxes (n, 4) and (m, 4); 0 where both are empty."""
    a, b = some.astype(np.float64)[:, None], others.astype(np.float64)[None]
    both = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(min=0).prod(axis=2)
    union = (a[..., 2:] - a[..., :2]).prod(axis=2) + (b[..., 2:] - b[..., :2]).prod(axis=2) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)

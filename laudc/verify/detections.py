"""Compares what two detectors found.

Which boxes survive and in which order hangs on comparisons of scores and overlaps, and rounding may turn one of a few
thousand. So the objects of an image are compared as a set: each of the reference's with the target's object of the same
class that covers it best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from laudc.detect.boxes import overlaps
from laudc.detect.second_stage import has_found
from laudc.verify.outcome import Array
from laudc.verify.report import DetectionSummary

# An object with less of it in common is another one.
_SAME = 0.5


@dataclass(frozen=True)
class FoundLayout:
    """How objects lie in a joined row of outputs: `count` of them, masks of `mask` cells; image (height, width)."""

    count: int
    mask: tuple[int, ...]
    image: tuple[int, int]

    def split(self, row: Array) -> tuple[Array, Array, Array]:
        """labels (n,), boxes (n, 4) in pixels, and what is compared (n, values), all from 0 to 1: box, score, mask."""
        n = self.count
        boxes, scores, labels = row[: 4 * n].reshape(n, 4), row[4 * n : 5 * n], row[5 * n : 6 * n]
        height, width = self.image
        values = [boxes / np.array([width, height] * 2), scores[:, None], row[6 * n :].reshape(n, -1)]
        found = scores > 0
        return labels[found], boxes[found].astype(np.float32), np.concatenate(values, axis=1)[found]


def layout_of(names: Sequence[str], shapes: Sequence[Sequence[object]], image: tuple[int, int]) -> FoundLayout | None:
    """The layout of outputs of these names and shapes; None for a network that does not select objects."""
    if not has_found(names):
        return None
    mask = tuple(int(side) for side in shapes[3][2:] if isinstance(side, int)) if len(names) == 4 else ()
    count = shapes[0][1]
    assert isinstance(count, int)
    return FoundLayout(count, mask, image)


def compare_found(
    target: Array, reference: Array, layout: FoundLayout, allowed: float
) -> tuple[Array, Array, DetectionSummary]:
    """Rows of both (images, values) with what agrees to `allowed`, zeros elsewhere, and how much does not.

    Objects weigh by their scores: what is least certain changes first and matters least.
    """
    rows = []
    found = changed = 0
    weight = changed_weight = 0.0
    for ours, theirs in zip(target, reference, strict=True):
        pairs, total, lost = _pairs(layout.split(ours), layout.split(theirs))
        agree = [pair for pair in pairs if float(np.abs(pair[0] - pair[1]).max()) <= allowed]
        apart = [max(pair[0][4], pair[1][4]) for pair in pairs if not any(pair is other for other in agree)]
        found += total
        changed += len(lost) + len(apart)
        changed_weight += float(sum(lost) + sum(apart))
        weight += float(sum(max(pair[0][4], pair[1][4]) for pair in pairs) + sum(lost))
        rows.append([_filled(layout, [pair[side] for pair in agree]) for side in (0, 1)])
    share = changed_weight / weight if weight else 0.0
    joined = np.array(rows).reshape(len(target), 2, -1)
    return joined[:, 0], joined[:, 1], DetectionSummary(found, changed, share)


def _filled(layout: FoundLayout, values: list[Array]) -> Array:
    width = 5 + int(np.prod(layout.mask)) if layout.mask else 5
    rows = np.zeros((layout.count, width))
    if values:
        rows[: len(values)] = values
    return rows.ravel()


def _pairs(
    ours: tuple[Array, Array, Array], theirs: tuple[Array, Array, Array]
) -> tuple[list[tuple[Array, Array]], int, list[float]]:
    """Values of objects that are the same, the number of the reference's, and the scores of those without a partner."""
    labels, boxes, values = ours
    free = np.ones(len(labels), bool)
    pairs, lost = [], []
    for label, box, wanted in zip(*theirs, strict=True):
        shared = np.where(free & (labels == label), overlaps(box, boxes), 0)
        best = int(shared.argmax()) if len(shared) else 0
        if not len(shared) or shared[best] < _SAME:
            lost.append(float(wanted[4]))
            continue
        free[best] = False
        pairs.append((values[best], wanted))
    return pairs, len(theirs[0]), [*lost, *(float(score) for score in values[free, 4])]

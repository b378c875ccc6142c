"""Outputs of detectors that answer queries (Mask2Former, Deformable DETR) to detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laudc.detect.boxes import Detection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

MASK_OUTPUTS = ("class_logits", "mask_logits")
BOX_OUTPUTS = ("query_logits", "query_boxes")
_MOST = 100


def answers_with_masks(outputs: Sequence[str]) -> bool:
    """Whether an engine with outputs of these names ends like Mask2Former."""
    return tuple(outputs) == MASK_OUTPUTS


def answers_with_boxes(outputs: Sequence[str]) -> bool:
    """Whether an engine with outputs of these names ends like Deformable DETR."""
    return tuple(outputs) == BOX_OUTPUTS


def detect_masks(logits: Floats, masks: Floats, size: tuple[int, int], threshold: float) -> list[Detection]:
    """Instances in one image, best first, boxes in pixels of the network's input.

    A score is that of the class times the mean probability inside the mask, as Mask2Former tests instances.

    Args:
        logits: (queries, classes + 1), the last for "nothing"; masks: logits (queries, h, w) over the whole input.
        size: (height, width) of the network's input. threshold: least score.
    """
    import numpy as np

    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = (shares / shares.sum(axis=1, keepdims=True))[:, :-1]
    found = []
    for at in np.argsort(-shares, axis=None, kind="stable")[:_MOST]:
        query, label = divmod(int(at), shares.shape[1])
        probabilities = 1 / (1 + np.exp(-masks[query].astype(np.float64)))
        inside = masks[query] > 0
        if not inside.any():
            continue
        score = float(shares[query, label] * probabilities[inside].mean())
        if score >= threshold:
            found.append(_instance(probabilities.astype(np.float32), inside, size, label, score))
    return sorted(found, key=lambda one: -one.score)


def _instance(
    probabilities: Floats, inside: NDArray[np.bool_], size: tuple[int, int], label: int, score: float
) -> Detection:
    """The part of a whole map that its mask covers."""
    import numpy as np

    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    down, across = size[0] / inside.shape[0], size[1] / inside.shape[1]
    box = (left * across, top * down, right * across, bottom * down)
    return Detection(box, label, score, probabilities[top:bottom, left:right])


def detect_boxes(logits: Floats, boxes: Floats, size: tuple[int, int], threshold: float) -> list[Detection]:
    """Objects in one image, best first, boxes in pixels of the network's input.

    Args:
        logits: (queries, classes); boxes: (queries, 4), middle and sides as shares of the input's sides.
        size: (height, width) of the network's input. threshold: least score.
    """
    import numpy as np

    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    corners = np.clip(corners, 0, 1) * np.array([size[1], size[0]] * 2)
    found = []
    for at in np.argsort(-scores, axis=None, kind="stable")[:_MOST]:
        query, label = divmod(int(at), scores.shape[1])
        if scores[query, label] >= threshold:
            x1, y1, x2, y2 = map(float, corners[query])
            found.append(Detection((x1, y1, x2, y2), label, float(scores[query, label])))
    return found

"""Outputs of engines that select what is found themselves (Faster R-CNN, Mask R-CNN, ...) to detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from laudc.detect.boxes import Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTPUTS = ("boxes", "scores", "labels")
MASKS = "masks"


def has_found(outputs: Sequence[str]) -> bool:
    """Whether an engine with outputs of these names says itself what is in an image."""
    return tuple(outputs) in (OUTPUTS, (*OUTPUTS, MASKS))


def detect(outputs: Sequence[NDArray[Any]], threshold: float) -> list[Detection]:
    """Objects in one image, best first, boxes in pixels of the network's input.

    Args:
        outputs: boxes (n, 4), scores (n,), labels (n,), and masks (n, m, m) where there are any.
        threshold: least score; what has score 0 only fills up.
    """
    boxes, scores, labels, *masks = outputs
    return [
        Detection(
            tuple(map(float, boxes[i])),  # type: ignore[arg-type]
            int(labels[i]),
            float(scores[i]),
            masks[0][i] if masks else None,
        )
        for i in range(len(scores))
        if scores[i] > 0 and scores[i] >= threshold
    ]

"""Boxes: records, overlap and suppression. A box is (x1, y1, x2, y2) in pixels, x2 and y2 excluded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Detection:
    """One object: its box in pixels of the picture, its class and a score from 0 to 1.

    mask: probabilities (m, n) of a grid stretched over the box, or (height, width) bool of the picture, or None.
    """

    box: tuple[float, float, float, float]
    label: int
    score: float
    mask: NDArray[Any] | None = None


def overlaps(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of one box with others (n, 4)."""
    import numpy as np

    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    union = np.prod(box[2:] - box[:2]) + areas - shared
    return np.asarray(shared / np.maximum(union, 1e-9), np.float32)


def suppress(boxes: NDArray[np.float32], scores: NDArray[np.float32], threshold: float) -> list[int]:
    """Greedy non-maximum suppression: indices that stay, best first. A box goes when it overlaps a better one by
    more than `threshold`.
    """
    import numpy as np

    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[overlaps(boxes[best], boxes[order]) <= threshold]
    return kept

"""RetinaNet's outputs to detections: anchors, decoding, suppression per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laudc.detect.boxes import Detection, suppress
from laudc.detect.rules import OneStageRules
from laudc.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

OUTPUTS = ("cls_logits", "box_deltas")
_LARGEST_LOG_RATIO = 4.135166556742356  # |log(16 / 1000)|


def is_retinanet(outputs: Sequence[str]) -> bool:
    """Whether an engine with outputs of these names ends with RetinaNet's head."""
    return tuple(outputs) == OUTPUTS


def anchors_of(size: tuple[int, int], rules: OneStageRules = OneStageRules()) -> list[Floats]:  # noqa: B008
    """Anchors (n, 4) of every level for images of `size` (height, width): row by row, all of a position together."""
    import numpy as np

    levels = []
    ratios = np.sqrt(np.array(rules.ratios))
    for level, sizes in enumerate(rules.sizes):
        stride = rules.first_stride << level
        widths = (np.array(sizes) / ratios[:, None]).ravel()
        heights = (np.array(sizes) * ratios[:, None]).ravel()
        shapes = np.stack([-widths, -heights, widths, heights], axis=1) / 2
        shapes = np.round(shapes) if rules.rounded else shapes
        # Every stride-2 layer rounds up, which makes ceil(side / stride) in all.
        grid = [-(-side // stride) for side in size]
        steps = [side // cells if rules.measured_strides else stride for side, cells in zip(size, grid, strict=True)]
        rows, columns = (np.arange(cells) * step for cells, step in zip(grid, steps, strict=True))
        corners = np.stack([*np.meshgrid(columns, rows)] * 2, axis=-1).reshape(-1, 1, 4)
        levels.append((corners + shapes).reshape(-1, 4).astype(np.float32))
    return levels


def decode(anchors: Floats, deltas: Floats, size: tuple[int, int]) -> Floats:
    """Boxes (n, 4) inside an image of `size` (height, width) from anchors and (dx, dy, dw, dh)."""
    import numpy as np

    middles, sides = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    middles = middles + deltas[:, :2] * sides
    sides = sides * np.exp(np.clip(deltas[:, 2:], -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO))
    boxes = np.concatenate([middles - sides / 2, middles + sides / 2], axis=1)
    return np.asarray(np.clip(boxes, 0, np.array([size[1], size[0]] * 2)), np.float32)


def detect(
    logits: Floats,
    deltas: Floats,
    size: tuple[int, int],
    threshold: float,
    rules: OneStageRules = OneStageRules(),  # noqa: B008  (it is immutable)
) -> list[Detection]:
    """Objects in one image, best first, boxes in pixels of the network's input.

    Args:
        logits: (anchors, classes); deltas: (anchors, 4), anchors of all levels.
        size: (height, width) of the network's input.
        threshold: least score; never below the rules' own.
        rules: the detector's anchors and thresholds.

    Raises:
        UserError: the number of anchors is not that of the rules.
    """
    import numpy as np

    candidates = []
    start = 0
    least = max(threshold, rules.score)
    for anchors in anchors_of_total(len(logits), size, rules):
        rows = slice(start, start + len(anchors))
        start += len(anchors)
        scores = 1 / (1 + np.exp(-logits[rows].astype(np.float64)))
        places, labels = np.nonzero(scores > least)
        values = scores[places, labels]
        best = np.argsort(-values, kind="stable")[: rules.candidates]
        boxes = decode(anchors[places[best]], deltas[rows][places[best]], size)
        long = (boxes[:, 2:] - boxes[:, :2] > rules.min_side).all(axis=1)
        candidates.append((boxes[long], labels[best][long], values[best][long].astype(np.float32)))
    boxes, labels, values = (np.concatenate(parts) for parts in zip(*candidates, strict=True))
    # Boxes of different classes never meet: each class is moved to a place of its own.
    apart = np.asarray(boxes + labels[:, None] * (2.0 * max(size)), np.float32)
    kept = suppress(apart, np.asarray(values, np.float32), rules.overlap)[: rules.most]
    return [Detection(tuple(map(float, boxes[i])), int(labels[i]), float(values[i])) for i in kept]  # type: ignore[arg-type]


def anchors_of_total(count: int, size: tuple[int, int], rules: OneStageRules) -> list[Floats]:
    """`anchors_of`, after checking their number."""
    levels = anchors_of(size, rules)
    if sum(map(len, levels)) != count:
        raise UserError(
            f"the engine has {count} anchors",
            f"a RetinaNet with its configuration has {sum(map(len, levels))} at this size",
            "use its outputs from Python (laudc.load_engine), or export the neck only",
        )
    return levels

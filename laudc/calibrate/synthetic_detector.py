"""Neck, heads and second stage of made-up detectors. See `laudc.calibrate.synthetic`.

Where a real detector chooses boxes, these are given, so that how many there are and how large does not depend on the
weights; a zero that only the network knows is added to them, or the runtime would do the work while loading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from laudc.export.boxes import after_suppression
from laudc.ops.numeric import nearest_index

if TYPE_CHECKING:
    from laudc.export.builder import GraphBuilder, Value

Array = np.ndarray

BOX_CELLS, MASK_CELLS = 7, 14
GIVEN = ".given"  # how names of constants end that stand for what a detector finds
_SPACING, _SIDE = 10.0, 8.0  # of boxes that do not overlap, in pixels
_OVERLAP = 0.5


@dataclass(frozen=True)
class Tail:
    """What follows the blocks.

    channels, side: of the square map that everything is read from. convs: 3×3 convolutions over it. scores: values per
    position that the best are chosen from.
    regions, samples: for the box head, and samples per cell and side of each; width: of its layers. classes: of the
    objects.
    mask_regions, mask_convs: the same for the mask head.
    lists, boxes, kept: of suppression: lists of so many boxes, of which so many do not overlap.
    """

    channels: int
    side: int
    convs: int
    scores: int
    regions: int
    samples: int
    width: int
    classes: int
    mask_regions: int
    mask_convs: int
    lists: int
    boxes: int
    kept: int


def tail_outputs(graph: GraphBuilder, x: Value, tail: Tail, random: np.random.Generator) -> list[Value]:
    """Adds a tail behind the last block's map; like a detector's, every output begins with the image."""
    made = _Tail(graph, random)
    zero = made.zero(x)
    level = made.pyramid(x, tail)
    return [
        made.best(level, tail),
        made.of_image(made.boxes(level, zero, tail)),
        made.of_image(made.masks(level, zero, tail)),
        made.of_image(made.suppressed(zero, tail)),
    ]


class _Tail:
    def __init__(self, graph: GraphBuilder, random: np.random.Generator) -> None:
        self._graph, self._random = graph, random

    def zero(self, x: Value) -> Value:
        """A scalar that is zero whatever the image."""
        mean = self._graph.standard("ReduceMean", "zero.mean", [x], (), {"keepdims": 0})
        nothing = self._graph.constant("zero.factor", np.float32(0))
        return self._graph.standard("Mul", "zero", [mean, nothing], ())

    def of_image(self, x: Value) -> Value:
        """The same with an axis of length one before the others."""
        axis = self._graph.constant(f"{x.name}.axis", np.array([0], np.int64))
        return self._graph.standard("Unsqueeze", f"{x.name}.of_image", [x, axis], (1, *x.shape))

    def pyramid(self, x: Value, tail: Tail) -> Value:
        """A lateral 1×1 convolution, stretched, then 3×3 convolutions."""
        x = self._conv("neck.lateral", x, tail.channels, 1)
        for axis, name in ((2, "rows"), (3, "columns")):
            cells = x.shape[axis]
            assert cells is not None
            index = self._graph.constant(f"neck.{name}_index", nearest_index(cells, tail.side))
            shape = (*x.shape[:axis], tail.side, *x.shape[axis + 1 :])
            x = self._graph.standard("Gather", f"neck.{name}", [x, index], shape, {"axis": axis})
        for number in range(tail.convs):
            x = self._relu(self._conv(f"neck.conv{number}", x, tail.channels, 3))
        return x

    def best(self, x: Value, tail: Tail) -> Value:
        """The best of the scores of all positions."""
        y = self._conv("rpn.scores", x, tail.scores, 1)
        y = self._graph.standard("Sigmoid", "rpn.sigmoid", [y], y.shape)
        last = (y.shape[0], tail.side, tail.side, tail.scores)
        y = self._graph.standard("Transpose", "rpn.last", [y], last, {"perm": [0, 2, 3, 1]})
        total = tail.side**2 * tail.scores
        to = self._graph.constant("rpn.rows", np.array([0, -1], np.int64))
        y = self._graph.standard("Reshape", "rpn.flat", [y, to], (y.shape[0], total))
        return self._graph.largest("rpn.best", y, min(1000, total))[0]

    def boxes(self, x: Value, zero: Value, tail: Tail) -> Value:
        """Two shared layers, then classes and boxes."""
        y = self._features("box.roi", x, zero, tail.regions, BOX_CELLS, tail.samples)
        features = tail.channels * BOX_CELLS**2
        y = self._graph.standard("Flatten", "box.flatten", [y], (tail.regions, features))
        for number in range(2):
            y = self._relu(self._linear(f"box.fc{number}", y, tail.width))
        scores = self._linear("box.classes", y, tail.classes + 1)
        scores = self._graph.standard("Softmax", "box.softmax", [scores], scores.shape, {"axis": 1})
        deltas = self._linear("box.deltas", y, 4 * tail.classes)
        joined = (tail.regions, 5 * tail.classes + 1)
        return self._graph.standard("Concat", "box.found", [scores, deltas], joined, {"axis": 1})

    def masks(self, x: Value, zero: Value, tail: Tail) -> Value:
        """Convolutions, a transposed one, and a map per class."""
        y = self._features("mask.roi", x, zero, tail.mask_regions, MASK_CELLS, 1)
        for number in range(tail.mask_convs):
            y = self._relu(self._conv(f"mask.conv{number}", y, tail.channels, 3))
        weight = self._weight("mask.up.weight", (tail.channels, tail.channels, 2, 2), tail.channels)
        shape = (tail.mask_regions, tail.channels, 2 * MASK_CELLS, 2 * MASK_CELLS)
        y = self._graph.standard("ConvTranspose", "mask.up", [y, weight], shape, {"strides": [2, 2]})
        y = self._conv("mask.logits", self._relu(y), tail.classes, 1)
        return self._graph.standard("Sigmoid", "mask.sigmoid", [y], y.shape)

    def suppressed(self, zero: Value, tail: Tail) -> Value:
        """Lists of boxes of which only some stay."""
        at = np.arange(tail.boxes) % tail.kept * _SPACING
        box = np.stack([at, 0 * at, at + _SIDE, 0 * at + _SIDE], axis=1)
        boxes = self._given("nms.boxes", np.broadcast_to(box, (tail.lists, tail.boxes, 4)), zero)
        scores = self._given("nms.scores", self._random.random((tail.lists, tail.boxes)), zero)
        # One more than there are: suppression ends where it has as many as it may.
        most = min(tail.kept + 1, tail.boxes)
        return after_suppression(self._graph, "nms", boxes, scores, overlap=_OVERLAP, above=-0.5, most=most)

    def _features(self, name: str, x: Value, zero: Value, count: int, cells: int, samples: int) -> Value:
        """RoIAlign of regions at random places with so many samples per cell and side."""
        side = min(x.shape[2] or 1, samples * cells)
        corners = self._random.random((count, 2)) * ((x.shape[2] or 1) - side)
        regions = self._given(f"{name}.regions", np.concatenate([corners, corners + side], axis=1), zero)
        image = self._graph.constant(f"{name}.image", np.zeros(count, np.int64))
        attributes: dict[str, Any] = {
            "output_height": cells,
            "output_width": cells,
            "sampling_ratio": samples,
            "spatial_scale": 1.0,
            "mode": "avg",
            "coordinate_transformation_mode": "half_pixel",
        }
        shape = (count, x.shape[1], cells, cells)
        return self._graph.standard("RoiAlign", name, [x, regions, image], shape, attributes)

    def _given(self, name: str, values: Array, zero: Value) -> Value:
        constant = self._graph.constant(name + GIVEN, np.ascontiguousarray(values, np.float32))
        return self._graph.standard("Add", name, [constant, zero], values.shape)

    def _conv(self, name: str, x: Value, channels: int, kernel: int) -> Value:
        inputs = x.shape[1] or 1
        weight = self._weight(f"{name}.weight", (channels, inputs, kernel, kernel), inputs * kernel**2)
        bias = self._graph.constant(f"{name}.bias", np.zeros(channels, np.float32))
        window = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "strides": [1, 1], "dilations": [1, 1]}
        shape = (x.shape[0], channels, *x.shape[2:])
        return self._graph.standard("Conv", name, [x, weight, bias], shape, {**window, "group": 1})

    def _linear(self, name: str, x: Value, outputs: int) -> Value:
        rows, inputs = x.shape
        weight = self._weight(f"{name}.weight", (outputs, inputs or 1), inputs or 1)
        bias = self._graph.constant(f"{name}.bias", np.zeros(outputs, np.float32))
        return self._graph.standard("Gemm", name, [x, weight, bias], (rows, outputs), {"transB": 1})

    def _relu(self, x: Value) -> Value:
        return self._graph.standard("Relu", f"{x.name}.relu", [x], x.shape)

    def _weight(self, name: str, shape: Sequence[int], inputs: int) -> Value:
        values = self._random.standard_normal(tuple(shape), dtype=np.float32) * np.float32(inputs**-0.5)
        return self._graph.constant(name, values)

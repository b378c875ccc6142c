"""Box arithmetic as standard ONNX: deltas to boxes, suppression, RoIAlign over a pyramid. One image.

`models/laudnet/boxes.py` says the same in PyTorch. Only the lists of boxes that overlap nothing better and of the
regions of each level have lengths that depend on the data; everything that leaves these functions has a fixed shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from laudc.export.builder import GraphBuilder, Value

_LARGEST_LOG_RATIO = 4.135166556742356  # |log(16 / 1000)|
_NOT_FOUND = -1.0


def numbers(graph: GraphBuilder, name: str, *values: float) -> Value:
    """A constant vector of floats."""
    return graph.constant(name, np.array(values, np.float32))


def whole(graph: GraphBuilder, name: str, *values: int) -> Value:
    """A constant vector of int64."""
    return graph.constant(name, np.array(values, np.int64))


def corners(graph: GraphBuilder, path: str, boxes: Value) -> tuple[Value, Value]:
    """(x1, y1) and (x2, y2) of boxes (..., 4), or the halves of deltas."""
    shape = (*boxes.shape[:-1], 2)
    parts = []
    for name, first in (("first", 0), ("second", 2)):
        columns = whole(graph, f"{path}.{name}_columns", first, first + 1)
        parts.append(graph.standard("Gather", f"{path}.{name}", [boxes, columns], shape, {"axis": len(shape) - 1}))
    return parts[0], parts[1]


def sides_of(graph: GraphBuilder, path: str, boxes: Value) -> Value:
    """Widths and heights (..., 2) of boxes (..., 4)."""
    low, high = corners(graph, path, boxes)
    return graph.standard("Sub", f"{path}.sides", [high, low], low.shape)


def middles_and_sides(graph: GraphBuilder, path: str, boxes: Value) -> tuple[Value, Value]:
    """Middles and sides (..., 2) of boxes (..., 4)."""
    low, high = corners(graph, path, boxes)
    sides = graph.standard("Sub", f"{path}.sides", [high, low], low.shape)
    half = graph.standard("Mul", f"{path}.half", [sides, numbers(graph, f"{path}.a_half", 0.5)], low.shape)
    return graph.standard("Add", f"{path}.middles", [low, half], low.shape), sides


def decode(
    graph: GraphBuilder, path: str, middles: Value, sides: Value, deltas: Value, image: tuple[int, int]
) -> Value:
    """Boxes like `deltas` (..., 4), clipped to the image (height, width); middles and sides may be broadcast."""
    moves, ratios = corners(graph, f"{path}.deltas", deltas)
    shape = moves.shape
    moves = graph.standard("Mul", f"{path}.move", [moves, sides], shape)
    centre = graph.standard("Add", f"{path}.centre", [middles, moves], shape)
    low = graph.constant(f"{path}.least_ratio", np.float32(-_LARGEST_LOG_RATIO))
    high = graph.constant(f"{path}.largest_ratio", np.float32(_LARGEST_LOG_RATIO))
    ratios = graph.standard("Clip", f"{path}.clipped", [ratios, low, high], shape)
    grown = graph.standard("Exp", f"{path}.exp", [ratios], shape)
    grown = graph.standard("Mul", f"{path}.grown", [sides, grown], shape)
    half = graph.standard("Mul", f"{path}.half", [grown, numbers(graph, f"{path}.a_half", 0.5)], shape)
    first = graph.standard("Sub", f"{path}.low", [centre, half], shape)
    second = graph.standard("Add", f"{path}.high", [centre, half], shape)
    whole_box = (*shape[:-1], 4)
    boxes = graph.standard("Concat", f"{path}.boxes", [first, second], whole_box, {"axis": len(shape) - 1})
    limits = numbers(graph, f"{path}.limits", image[1], image[0], image[1], image[0])
    boxes = graph.standard("Max", f"{path}.from_zero", [boxes, numbers(graph, f"{path}.zero", 0)], whole_box)
    return graph.standard("Min", f"{path}.inside", [boxes, limits], whole_box)


def usable_scores(graph: GraphBuilder, path: str, boxes: Value, scores: Value, longer_than: float) -> Value:
    """`scores` (...), -1 where a side of the box (..., 4) is not longer than `longer_than` pixels."""
    if longer_than < 0:
        return scores
    sides = sides_of(graph, path, boxes)
    axes = whole(graph, f"{path}.last_axis", -1)
    shortest = graph.standard("ReduceMin", f"{path}.shortest", [sides, axes], scores.shape, {"keepdims": 0})
    least = graph.constant(f"{path}.longer_than", np.float32(longer_than))
    fine = graph.standard("Greater", f"{path}.is_longer", [shortest, least], scores.shape, dtype="bool")
    return keep_where(graph, path, fine, scores)


def keep_where(graph: GraphBuilder, path: str, fine: Value, scores: Value) -> Value:
    """`scores` where `fine`, else -1."""
    lost = graph.constant(f"{path}.not_found", np.float32(_NOT_FOUND))
    return graph.standard("Where", f"{path}.usable", [fine, scores, lost], scores.shape)


def after_suppression(
    graph: GraphBuilder, path: str, boxes: Value, scores: Value, *, overlap: float, above: float, most: int
) -> Value:
    """`scores` (lists, n) of the boxes (lists, n, 4) that stay in their list, -1 for all others.

    Those with scores above `above` compete; at most `most` stay per list.
    """
    lists, count = scores.shape
    assert lists is not None and count is not None
    middle = whole(graph, f"{path}.middle_axis", 1)
    ranked = graph.standard("Unsqueeze", f"{path}.as_class", [scores, middle], (lists, 1, count))
    options = [
        whole(graph, f"{path}.most", most),
        numbers(graph, f"{path}.overlap", overlap),
        numbers(graph, f"{path}.above", above),
    ]
    chosen = graph.sized_by_data("NonMaxSuppression", path, [boxes, ranked, *options], dtype="int64")
    columns = whole(graph, f"{path}.list_and_box", 0, 2)
    places = graph.sized_by_data("Gather", f"{path}.places", [chosen, columns], {"axis": 1}, dtype="int64")
    values = graph.sized_by_data("GatherND", f"{path}.values", [scores, places])
    lost = graph.constant(f"{path}.none", np.full((lists, count), _NOT_FOUND, np.float32))
    return graph.standard("ScatterND", f"{path}.marks", [lost, places, values], scores.shape)


@dataclass(frozen=True)
class Sorted:
    """What belongs to n regions, in the order of their levels; `order` (n,) says which region each row is."""

    features: Value
    order: Value

    def rows(self, graph: GraphBuilder, name: str, values: Value) -> Value:
        """`values` (n, ...) of the regions in this order."""
        return graph.standard("Gather", name, [values, self.order], values.shape, {"axis": 0}, dtype=values.dtype)

    def unsorted(self, graph: GraphBuilder, name: str, values: Value, output: str | None = None) -> Value:
        """Rows of this order back in the order of the regions."""
        count = self.order.shape[0] or 0
        start = graph.constant(f"{name}.start", np.zeros(count, np.int64))
        numbered = graph.constant(f"{name}.numbered", np.arange(count, dtype=np.int64))
        shape = self.order.shape
        back = graph.standard(
            "ScatterElements", f"{name}.inverse", [start, self.order, numbered], shape, {"axis": 0}, dtype="int64"
        )
        return graph.standard(
            "Gather", name, [values, back], values.shape, {"axis": 0}, output=output, dtype=values.dtype
        )


def region_features(
    graph: GraphBuilder, path: str, levels: Sequence[Value], strides: Sequence[int], boxes: Value, cells: int, rule: Any
) -> Sorted:
    """RoIAlign of regions (n, 4), each from the level that its size asks for; `rule`: a `laudnet` RegionRule."""
    count, channels = boxes.shape[0], levels[0].shape[1]
    level = _level_of(graph, f"{path}.level", boxes, len(levels), rule.finest)
    features, order = [], []
    flat = whole(graph, f"{path}.flat", -1)
    nothing = whole(graph, f"{path}.first_image", 0)
    for number, (x, stride) in enumerate(zip(levels, strides, strict=True)):
        at = f"{path}.level{number}"
        own = graph.constant(f"{at}.number", np.int64(number))
        member = graph.standard("Equal", f"{at}.member", [level, own], level.shape, dtype="bool")
        places = graph.sized_by_data("NonZero", f"{at}.places", [member], dtype="int64")
        places = graph.sized_by_data("Reshape", f"{at}.members", [places, flat], dtype="int64")
        regions = graph.sized_by_data("Gather", f"{at}.regions", [boxes, places], {"axis": 0})
        image = graph.sized_by_data("Mul", f"{at}.image", [places, nothing], dtype="int64")
        attributes = {
            "output_height": cells,
            "output_width": cells,
            "sampling_ratio": rule.sampling,
            "spatial_scale": 1.0 / stride,
            "mode": "avg",
            "coordinate_transformation_mode": "half_pixel" if rule.aligned else "output_half_pixel",
        }
        features.append(graph.sized_by_data("RoiAlign", at, [x, regions, image], attributes))
        order.append(places)
    shape = (count, channels, cells, cells)
    return Sorted(
        graph.standard("Concat", f"{path}.features", features, shape, {"axis": 0}),
        graph.standard("Concat", f"{path}.order", order, (count,), {"axis": 0}, dtype="int64"),
    )


def _level_of(graph: GraphBuilder, path: str, boxes: Value, levels: int, finest: float) -> Value:
    """Number (n,) of the level of each box: one more for every doubling of its size beyond `finest`."""
    count = boxes.shape[:1]
    last = whole(graph, f"{path}.last_axis", -1)
    sides = sides_of(graph, path, boxes)
    area = graph.standard("ReduceProd", f"{path}.area", [sides, last], count, {"keepdims": 0})
    size = graph.standard("Sqrt", f"{path}.sqrt", [area], count)
    size = graph.standard("Div", f"{path}.relative", [size, numbers(graph, f"{path}.finest", finest)], count)
    size = graph.standard("Add", f"{path}.size", [size, numbers(graph, f"{path}.rounding", 1e-6)], count)
    column = graph.standard("Unsqueeze", f"{path}.column", [size, last], (*count, 1))
    limits = numbers(graph, f"{path}.limits", *(2.0**i for i in range(1, levels)))
    shape = (*count, levels - 1)
    beyond = graph.standard("GreaterOrEqual", f"{path}.beyond", [column, limits], shape, dtype="bool")
    steps = graph.standard("Cast", f"{path}.steps", [beyond], shape, {"to": 7}, dtype="int64")
    return graph.standard("ReduceSum", path, [steps, last], count, {"keepdims": 0}, dtype="int64")

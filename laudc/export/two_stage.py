"""Faster and Mask R-CNN's heads: proposals, boxes, masks, all in the graph. One image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from laudc.export.boxes import (
    Sorted,
    after_suppression,
    decode,
    keep_where,
    middles_and_sides,
    numbers,
    region_features,
    usable_scores,
    whole,
)
from laudc.export.builder import GraphBuilder, Value
from laudc.export.emitters import conv_out, parameters, window
from laudc.export.fold import to_array

#: Outputs: boxes (1, n, 4) in pixels of the input, scores (1, n), classes (1, n); in Mask R-CNN masks (1, n, m, m).
FOUND_OUTPUTS = ("boxes", "scores", "labels", "masks")


def emit_two_stage(graph: GraphBuilder, model: Any, levels: Sequence[Value], image: tuple[int, int]) -> list[Value]:
    """Add the nodes of `rpn_head` and `roi_head` behind the neck's maps; returns `FOUND_OUTPUTS`."""
    regions, valid = _proposals(graph, model.rpn_head, levels, image)
    head = model.roi_head
    read = levels[: len(head.strides)]
    outputs, chosen, labels = _boxes(graph, head, read, regions, valid, image)
    if head.mask_head is not None:
        outputs.append(_masks(graph, head, read, chosen, labels))
    return outputs


def _proposals(graph: GraphBuilder, head: Any, levels: Sequence[Value], image: tuple[int, int]) -> tuple[Value, Value]:
    """Regions (n, 4), and which of them are proposals (n,)."""
    rule = head.rules.proposals
    weights = [
        (name, getattr(head, name), parameters(graph, getattr(head, name), f"rpn_head.{name}"))
        for name in ("rpn_conv", "rpn_cls", "rpn_reg")
    ]
    anchors = head.anchors([(x.shape[2], x.shape[3]) for x in levels], image)
    boxes, marks = [], []
    for number, (x, own) in enumerate(zip(levels, anchors, strict=True)):
        path = f"rpn_head.level{number}"
        scores, deltas = _rpn_maps(graph, path, weights, x)
        count = min(rule.candidates, len(own))
        best, at = graph.largest(f"{path}.candidates", scores, count)
        # Anchors are constants: their middles and sides are taken before the best are.
        low, high = to_array(own[:, :2]), to_array(own[:, 2:])
        parts = [("middles", low + (high - low) / 2), ("sides", high - low)]
        middles, sides = (
            graph.standard("Gather", f"{path}.{name}", [graph.constant(f"{path}.anchor_{name}", rows), at], (count, 2))
            for name, rows in parts
        )
        moves = graph.standard("Gather", f"{path}.moves", [deltas, at], (count, 4), {"axis": 0})
        found = decode(graph, path, middles, sides, moves, image)
        usable = usable_scores(graph, f"{path}.candidates", found, best, rule.min_side)
        first = whole(graph, f"{path}.first_axis", 0)
        as_list = graph.standard("Unsqueeze", f"{path}.scores_list", [usable, first], (1, count))
        as_boxes = graph.standard("Unsqueeze", f"{path}.boxes_list", [found, first], (1, count, 4))
        marks.append(
            after_suppression(
                graph, f"{path}.nms", as_boxes, as_list, overlap=rule.overlap, above=-0.5, most=min(rule.most, count)
            )
        )
        boxes.append(found)
    total = sum(value.shape[0] or 0 for value in boxes)
    every = graph.standard("Concat", "rpn_head.boxes", boxes, (total, 4), {"axis": 0})
    ranked = graph.standard("Concat", "rpn_head.scores", marks, (1, total), {"axis": 1})
    flat = graph.standard("Reshape", "rpn_head.ranked", [ranked, whole(graph, "rpn_head.flat", -1)], (total,))
    count = min(rule.most, total)
    best, at = graph.largest("rpn_head.proposals", flat, count)
    zero = graph.constant("rpn_head.zero", np.float32(0))
    valid = graph.standard("GreaterOrEqual", "rpn_head.valid", [best, zero], (count,), dtype="bool")
    return graph.standard("Gather", "rpn_head.regions", [every, at], (count, 4), {"axis": 0}), valid


def _rpn_maps(graph: GraphBuilder, path: str, weights: Sequence[Any], x: Value) -> tuple[Value, Value]:
    """Scores (n,) and deltas (n, 4) of one level."""
    (_, conv, pair), *branches = weights
    x = graph.standard("Conv", f"{path}.rpn_conv", [x, *pair], conv_out(x, conv, conv.out_channels), window(conv))
    x = graph.standard("Relu", f"{path}.rpn_conv.relu", [x], x.shape)
    results = []
    for name, layer, pair in branches:
        shape = conv_out(x, layer, layer.out_channels)
        y = graph.standard("Conv", f"{path}.{name}", [x, *pair], shape, window(layer))
        last = (shape[0], shape[2], shape[3], shape[1])
        y = graph.standard("Transpose", f"{path}.{name}.last", [y], last, {"perm": [0, 2, 3, 1]})
        values = int(np.prod([dim or 1 for dim in last]))
        rows, to = ((values // 4, 4), (-1, 4)) if name == "rpn_reg" else ((values,), (-1,))
        to_value = whole(graph, f"{path}.{name}.rows", *to)
        results.append(graph.standard("Reshape", f"{path}.{name}.reshaped", [y, to_value], rows))
    scores = graph.standard("Sigmoid", f"{path}.scores", [results[0]], results[0].shape)
    return scores, results[1]


def _boxes(
    graph: GraphBuilder, head: Any, levels: Sequence[Value], regions: Value, valid: Value, image: tuple[int, int]
) -> tuple[list[Value], Value, Value]:
    """The outputs boxes, scores and labels; the boxes (n, 4) and classes (n,) without their batch."""
    path, rule, box_head = "roi_head.bbox_head", head.rules.results, head.bbox_head
    cells = head.rules.regions.box_cells
    found = region_features(graph, f"{path}.roi", levels, head.strides, regions, cells, head.rules.regions)
    count, classes = regions.shape[0] or 0, box_head.classes
    scores, deltas = _scores_and_deltas(graph, path, box_head, found)
    start = found.rows(graph, f"{path}.regions", regions)
    middles, sides = (
        graph.standard("Unsqueeze", f"{path}.{name}", [value, whole(graph, f"{path}.{name}_axis", 0)], (1, count, 2))
        for name, value in zip(("middles", "sides"), middles_and_sides(graph, f"{path}.start", start), strict=True)
    )
    stds = numbers(graph, f"{path}.stds", *rule.stds)
    deltas = graph.standard("Mul", f"{path}.scaled", [deltas, stds], (classes, count, 4))
    boxes = decode(graph, path, middles, sides, deltas, image)
    usable = keep_where(graph, f"{path}.valid", found.rows(graph, f"{path}.is_region", valid), scores)
    usable = usable_scores(graph, f"{path}.long", boxes, usable, rule.min_side)
    total = classes * count
    most = min(rule.most, total)
    marks = after_suppression(
        graph, f"{path}.nms", boxes, usable, overlap=rule.overlap, above=rule.score, most=min(most, count)
    )
    flat = graph.standard("Reshape", f"{path}.ranked", [marks, whole(graph, f"{path}.flat", -1)], (total,))
    best, at = graph.largest(f"{path}.found", flat, most)
    rows = graph.standard("Reshape", f"{path}.rows", [boxes, whole(graph, f"{path}.by_row", -1, 4)], (total, 4))
    chosen = graph.standard("Gather", f"{path}.chosen", [rows, at], (most, 4), {"axis": 0})
    per_class = graph.constant(f"{path}.per_class", np.int64(count))
    labels = graph.standard("Div", f"{path}.labels", [at, per_class], (most,), dtype="int64")
    positive = graph.standard("Max", f"{path}.positive", [best, numbers(graph, f"{path}.least_score", 0)], (most,))
    outputs = [
        _with_batch(graph, value, name) for name, value in zip(FOUND_OUTPUTS, (chosen, positive, labels), strict=False)
    ]
    return outputs, chosen, labels


def _scores_and_deltas(graph: GraphBuilder, path: str, head: Any, found: Sorted) -> tuple[Value, Value]:
    """Probabilities (classes, n) and deltas (classes, n, 4) of the regions in their order there."""
    count, classes = found.order.shape[0] or 0, head.classes
    features = int(np.prod([dim or 1 for dim in found.features.shape[1:]]))
    y = graph.standard("Flatten", f"{path}.flatten", [found.features], (count, features))
    for i, layer in enumerate(head.shared_fcs):
        y = _linear(graph, layer, f"{path}.shared_fcs.{i}", y)
        y = graph.standard("Relu", f"{path}.shared_fcs.{i}.relu", [y], y.shape)
    scores = _linear(graph, head.fc_cls, f"{path}.fc_cls", y)
    scores = graph.standard("Softmax", f"{path}.softmax", [scores], scores.shape, {"axis": 1})
    real = whole(graph, f"{path}.classes", *range(classes))
    scores = graph.standard("Gather", f"{path}.objects", [scores, real], (count, classes), {"axis": 1})
    scores = graph.standard("Transpose", f"{path}.by_class", [scores], (classes, count), {"perm": [1, 0]})
    deltas = _linear(graph, head.fc_reg, f"{path}.fc_reg", y)
    to = whole(graph, f"{path}.fc_reg.rows", -1, classes, 4)
    deltas = graph.standard("Reshape", f"{path}.fc_reg.reshaped", [deltas, to], (count, classes, 4))
    return scores, graph.standard(
        "Transpose", f"{path}.fc_reg.by_class", [deltas], (classes, count, 4), {"perm": [1, 0, 2]}
    )


def _linear(graph: GraphBuilder, layer: Any, path: str, x: Value) -> Value:
    pair = parameters(graph, layer, path)
    return graph.standard("Gemm", path, [x, *pair], (x.shape[0], layer.out_features), {"transB": 1})


def _with_batch(graph: GraphBuilder, x: Value, name: str) -> Value:
    first = whole(graph, f"{name}.first_axis", 0)
    return graph.standard("Unsqueeze", f"{name}/Unsqueeze", [x, first], (1, *x.shape), output=name, dtype=x.dtype)


def _masks(graph: GraphBuilder, head: Any, levels: Sequence[Value], boxes: Value, labels: Value) -> Value:
    """The output masks: probabilities (1, n, m, m) of each box's own class."""
    path, mask_head = "roi_head.mask_head", head.mask_head
    cells = head.rules.regions.mask_cells
    found = region_features(graph, f"{path}.roi", levels, head.strides, boxes, cells, head.rules.regions)
    x = found.features
    for i, module in enumerate(mask_head.convs):
        at = f"{path}.convs.{i}.conv"
        shape = conv_out(x, module.conv, module.conv.out_channels)
        x = graph.standard("Conv", at, [x, *parameters(graph, module.conv, at)], shape, window(module.conv))
        x = graph.standard("Relu", f"{at}.relu", [x], x.shape)
    up = mask_head.upsample
    shape = (x.shape[0], up.out_channels, 2 * cells, 2 * cells)
    weights = parameters(graph, up, f"{path}.upsample")
    x = graph.standard("ConvTranspose", f"{path}.upsample", [x, *weights], shape, {"strides": [2, 2]})
    x = graph.standard("Relu", f"{path}.upsample.relu", [x], x.shape)
    last = mask_head.conv_logits
    weights = parameters(graph, last, f"{path}.conv_logits")
    x = graph.standard("Conv", f"{path}.conv_logits", [x, *weights], conv_out(x, last, last.out_channels), window(last))
    x = _own_class(graph, path, x, found.rows(graph, f"{path}.labels", labels))
    x = graph.standard("Sigmoid", f"{path}.sigmoid", [x], x.shape)
    return _with_batch(graph, found.unsorted(graph, f"{path}.in_order", x), FOUND_OUTPUTS[3])


def _own_class(graph: GraphBuilder, path: str, x: Value, labels: Value) -> Value:
    """(n, classes, m, m) → (n, m, m)."""
    count, classes, height, width = (dim or 0 for dim in x.shape)
    starts = graph.constant(f"{path}.starts", np.arange(count, dtype=np.int64) * classes)
    rows = graph.standard("Add", f"{path}.class_rows", [starts, labels], (count,), dtype="int64")
    to = whole(graph, f"{path}.one_map", -1, height, width)
    flat = graph.standard("Reshape", f"{path}.maps", [x, to], (count * classes, height, width))
    return graph.standard("Gather", f"{path}.own", [flat, rows], (count, height, width), {"axis": 0})

"""Choices of distinct boxes: how far they are from what suppression finds, and how they are read from a graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from laudc.detect.boxes import suppress
from laudc.verify.choices import margin, shown_by, shown_names, watched
from tests.ops.runtimes import run_onnxruntime

OVERLAP = 0.5


def some_boxes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.random((count, 2))
    return np.concatenate([corner, corner + 0.1 + 0.3 * rng.random((count, 2))], 1), rng.random(count)


def found(boxes: np.ndarray, scores: np.ndarray, most: int) -> np.ndarray:
    return np.array(suppress(boxes, scores, OVERLAP)[:most])


@pytest.mark.parametrize("most", [5, 60])
@pytest.mark.parametrize("seed", range(5))
def test_what_suppression_finds_has_no_margin(seed: int, most: int) -> None:
    boxes, scores = some_boxes(60, seed)
    kept = found(boxes, scores, most)
    assert len(kept) < 60 and margin(boxes, scores, kept, OVERLAP, most) == 0


@pytest.mark.parametrize("noise", [1e-3, 1e-2])
@pytest.mark.parametrize("most", [5, 60])
@pytest.mark.parametrize("seed", range(10))
def test_what_is_found_in_changed_boxes_is_as_far_as_these_changed(seed: int, most: int, noise: float) -> None:
    boxes, scores = some_boxes(60, seed)
    rng = np.random.default_rng(seed)
    # Sides of 0.1 or more: an overlap changes by less than 40 times what a corner does.
    other_boxes = boxes + noise / 40 * rng.uniform(-1, 1, boxes.shape)
    other = found(other_boxes, scores + noise / 2 * rng.uniform(-1, 1, 60), most)
    assert margin(boxes, scores, other, OVERLAP, most) <= noise


A, LIKE_A, B = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.5 + 1e-4), (2.0, 0.0, 3.0, 1.0)
BOXES = np.array([A, LIKE_A, B])


def test_margins_of_single_comparisons() -> None:
    scores = np.array([0.9, 0.8, 0.7])
    assert margin(BOXES, scores, np.array([0, 2]), OVERLAP, 3) == 0
    # The second overlaps the first by 1e-4 too much.
    assert margin(BOXES, scores, np.array([0, 1, 2]), OVERLAP, 3) == pytest.approx(1e-4)
    # The third comes before the first only if it scores as high.
    assert margin(BOXES, scores, np.array([2, 0]), OVERLAP, 3) == pytest.approx(0.2)
    # So does the second, in whose place the first is dropped.
    assert margin(BOXES, scores, np.array([1, 2]), OVERLAP, 3) == pytest.approx(0.1)
    # Nothing drops the third, except where just one stays.
    assert margin(BOXES, scores, np.array([0]), OVERLAP, 3) == pytest.approx(0.5)
    assert margin(BOXES, scores, np.array([0]), OVERLAP, 1) == 0
    assert margin(BOXES, scores, np.array([2]), OVERLAP, 1) == pytest.approx(0.2)


def test_lists_that_no_scores_lead_to() -> None:
    scores = np.array([0.9, 0.8, 0.7])
    for kept in ([0, 0], [0, 1, 2], []):
        assert margin(BOXES, scores, np.array(kept, int), OVERLAP, 2) == np.inf
    nothing = np.zeros(0)
    assert margin(np.zeros((0, 4)), nothing, nothing.astype(int), OVERLAP, 2) == 0


def suppressing(classes: int = 1, threshold: bool = True) -> onnx.ModelProto:
    """A graph that keeps distinct boxes of 60, their scores negated twice."""
    inputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, (1, 60, 4)),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, classes, 60)),
    ]
    limits = {"most": 20, "overlap": OVERLAP, "least": 0.3}
    names = list(limits) if threshold else list(limits)[:2]
    kinds = {"most": TensorProto.INT64}
    nodes = [
        helper.make_node("Neg", ["scores"], ["turned"]),
        helper.make_node("Neg", ["turned"], ["same"]),
        helper.make_node("NonMaxSuppression", ["boxes", "same", *names], ["chosen"]),
        helper.make_node("Cast", ["chosen"], ["result"], to=TensorProto.FLOAT),
    ]
    constants = [
        helper.make_tensor(name, kinds.get(name, TensorProto.FLOAT), [1], [value]) for name, value in limits.items()
    ]
    outputs = [helper.make_tensor_value_info("result", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "suppressing", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("threshold", [True, False])
def test_choices_are_read_from_a_graph(threshold: bool) -> None:
    model = suppressing(threshold=threshold)
    (one,) = watched(model)
    boxes, scores = (x.astype(np.float32) for x in some_boxes(60, 0))
    names = ["result", *shown_names([one])]
    values = run_onnxruntime(shown_by(model, [one]), {"boxes": boxes[None], "scores": scores[None, None]})
    count, kept = one.read(dict(zip(names, values, strict=True)))
    part = np.flatnonzero(scores > 0.3) if threshold else np.arange(60)
    assert count == len(part)
    np.testing.assert_array_equal(kept, found(boxes[part], scores[part], 20))
    assert margin(boxes[part], scores[part], kept, OVERLAP, 20) == 0


def test_choices_from_several_lists_are_not_read() -> None:
    model = suppressing(classes=2)
    (one,) = watched(model)
    assert one.read({"same": np.zeros((1, 2, 60)), "chosen": np.zeros((0, 3), np.int64)}) is None


def test_a_score_to_take_part_that_is_computed() -> None:
    model = suppressing()
    node = next(node for node in model.graph.node if node.op_type == "NonMaxSuppression")
    node.input[4] = "computed"
    assert watched(model) == ()

"""What surrounds the blocks, counted from the graph: necks and heads of detectors."""

from __future__ import annotations

import onnx
from onnx import helper

from laudc.predict.frame import Behind


def _shapes(**shapes: tuple[int | None, ...]) -> dict[str, tuple[int | None, ...]]:
    return shapes


def _conv(name: str, x: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, f"{name}_w"], [name])


def test_convolutions_of_neck_and_heads_count_by_kernel() -> None:
    nodes = [_conv("lateral", "c4"), helper.make_node("Relu", ["lateral"], ["up"]), _conv("smooth", "up")]
    shapes = _shapes(
        lateral=(None, 8, 5, 6),
        lateral_w=(8, 32, 1, 1),
        up=(None, 8, 5, 6),
        smooth=(None, 8, 5, 6),
        smooth_w=(8, 8, 3, 3),
    )
    found = Behind.of_nodes(nodes, shapes)
    assert found == Behind(
        nodes=2,
        pointwise=5 * 6 * 8 * 32,
        spatial=5 * 6 * 8 * 8 * 9,
        weights=8 * 32 + 8 * 8 * 9,
        written=2 * 8 * 5 * 6,
    )


def test_what_depends_on_what_was_found_is_left_out() -> None:
    nodes = [
        _conv("scores", "p3"),
        helper.make_node("TopK", ["scores", "count"], ["best", "indices"]),
        helper.make_node("RoiAlign", ["p3", "best", "indices"], ["regions"]),
        helper.make_node("Gemm", ["regions", "w"], ["hidden"]),
        _conv("mask", "hidden"),
    ]
    found = Behind.of_nodes(nodes, _shapes(scores=(None, 3, 4, 4), scores_w=(3, 8, 1, 1)))
    assert (found.nodes, found.pointwise, found.left_out) == (1, 4 * 4 * 3 * 8, 2)


def test_a_detector_costs_more_than_its_backbone() -> None:
    from laudc.predict.cpu.outside import OUTSIDE_TERMS, frame_terms
    from laudc.predict.frame import Frame

    alone = Frame(64, 64, 16, 1000, 0, 4, 0)
    whole = Frame(64, 64, 16, 1000, 0, 4, 0, Behind(nodes=3, pointwise=10, spatial=20, weights=30, written=40))
    more = dict(
        zip(
            OUTSIDE_TERMS,
            frame_terms(whole, own_stem=True, batch=2, far=0.5) - frame_terms(alone, own_stem=True, batch=2, far=0.5),
            strict=True,
        )
    )
    expected = {"nodes": 3, "pointwise": 20, "spatial": 40, "weights": 15, "weights_near": 15, "elementwise": 80}
    assert {name: value for name, value in more.items() if value} == expected

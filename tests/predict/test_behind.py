"""What surrounds the blocks of a detector, counted from the graph: neck, heads, second stage."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from laudc.predict.behind import Behind
from laudc.predict.cpu.behind import BEHIND_TERMS
from laudc.predict.cpu.outside import OUTSIDE_TERMS, frame_terms
from laudc.predict.frame import Frame, frame_of_model, selecting_of
from laudc.predict.interface import Place
from laudc.predict.network import PlannedBlock, predict_network
from laudc.predict.selection import DETECTIONS, PROPOSALS, most_found
from tests.predict.models import SMALL, cpu_model


def _shapes(**shapes: tuple[int | None, ...]) -> dict[str, tuple[int | None, ...]]:
    return shapes


def _conv(name: str, x: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, f"{name}_w"], [name], name=name)


def test_convolutions_count_by_kernel_and_relus_behind_them_are_fused() -> None:
    nodes = [
        _conv("lateral", "c4"),
        helper.make_node("Relu", ["lateral"], ["up"]),
        _conv("smooth", "up"),
        helper.make_node("Sigmoid", ["smooth"], ["scores"]),
        helper.make_node("Reshape", ["scores", "to"], ["rows"]),
    ]
    shapes = _shapes(
        lateral=(None, 8, 5, 6),
        lateral_w=(8, 32, 1, 1),
        up=(None, 8, 5, 6),
        smooth=(None, 8, 5, 6),
        smooth_w=(8, 8, 3, 3),
        scores=(None, 8, 5, 6),
        rows=(None, 240),
    )
    assert Behind.of_nodes(nodes, shapes) == Behind(
        nodes=4,
        pointwise=5 * 6 * 8 * 32,
        spatial=5 * 6 * 8 * 8 * 9,
        weights=8 * 32 + 8 * 8 * 9,
        written=3 * 8 * 5 * 6,
    )


def test_products_count_by_their_depth() -> None:
    nodes = [
        helper.make_node("Gemm", ["regions", "w", "b"], ["hidden"], transB=1),
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Einsum", ["masks", "pixels"], ["maps"], equation="bqc,bchw->bqhw"),
        helper.make_node("ConvTranspose", ["small", "up_w"], ["large"], strides=[2, 2]),
    ]
    shapes = _shapes(
        regions=(10, 100), w=(7, 100), hidden=(10, 7), q=(1, 3, 4, 5), k=(1, 3, 5, 6), scores=(1, 3, 4, 6),
        masks=(1, 9, 4), pixels=(1, 4, 5, 6), maps=(1, 9, 5, 6), small=(10, 3, 4, 4), up_w=(3, 2, 2, 2),
        large=(10, 2, 8, 8),
    )  # fmt: skip
    found = Behind.of_nodes(nodes, shapes, {"w": onnx.TensorProto()})
    assert found.products == 10 * 7 * 100 + 3 * 4 * 6 * 5 + 9 * 4 * 5 * 6
    assert found.spread == 10 * 4 * 4 * 3 * 2 * 2 * 2
    assert found.weights == 700 + 24


def test_pieces_and_ranked_values() -> None:
    nodes = [
        helper.make_node("Gather", ["map", "columns"], ["wide"], axis=3),
        helper.make_node("Gather", ["map", "rows"], ["high"], axis=2),
        helper.make_node("TopK", ["flat", "count"], ["best", "places"]),
    ]
    shapes = _shapes(map=(None, 2, 3, 4), wide=(None, 2, 3, 8), high=(None, 2, 6, 4), flat=(1, 50), best=(1, 5))
    found = Behind.of_nodes(nodes, shapes)
    assert (found.gathered, found.ranked, found.written) == (2 * 3 * 8 + 2 * 6, 50, 2 * 3 * 8 + 2 * 6 * 4 + 5)


def test_what_has_no_size_in_the_graph_is_named() -> None:
    nodes = [
        _conv("scores", "p3"),
        helper.make_node("NonZero", ["scores"], ["found"]),
        helper.make_node("Gather", ["p3", "found"], ["hidden"]),
        _conv("mask", "hidden"),
        helper.make_node("Loop", ["n", "go"], ["looped"], name="decoder"),
        helper.make_node("NonMaxSuppression", ["boxes", "of_unknown"], ["chosen"], name="nms"),
    ]
    shapes = _shapes(scores=(None, 3, 4, 4), scores_w=(3, 8, 1, 1), mask=(None, 3, 4, 4), mask_w=(3, 8, 1, 1))
    found = Behind.of_nodes(nodes, shapes)
    assert found.pointwise == 4 * 4 * 3 * 8
    assert found.left_out == ("Conv mask", "Loop decoder", "NonMaxSuppression nms")


def test_suppression_and_regions_have_their_limits() -> None:
    roi = {"output_height": 7, "output_width": 7, "sampling_ratio": 0}
    nodes = [
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "above"], ["chosen"], name="nms"),
        helper.make_node("RoiAlign", ["p2", "own2", "image"], ["level0"], spatial_scale=0.25, **roi),
        helper.make_node("RoiAlign", ["p3", "own3", "image"], ["level1"], spatial_scale=0.125, **roi),
        helper.make_node("Concat", ["level0", "level1"], ["features.output"], axis=0),
    ]
    shapes = _shapes(
        scores=(5, 1, 200), p2=(1, 16, 40, 60), p3=(1, 16, 20, 30), **{"features.output": (100, 16, 7, 7)}
    )
    constants = {"most": numpy_helper.from_array(np.array([50])), "above": numpy_helper.from_array(np.float32([0.5]))}
    suppression, reading = Behind.of_nodes(nodes, shapes, constants).selecting
    assert (suppression.lists, suppression.boxes, suppression.most, suppression.above) == (5, 200, 50, 0.5)
    assert (reading.name, reading.regions, reading.channels, reading.cells) == ("features", 100, 16, (7, 7))
    assert [(level.height, level.width, level.scale) for level in reading.levels] == [(40, 60, 0.25), (20, 30, 0.125)]


def test_a_detector_costs_more_than_its_backbone() -> None:
    alone = Frame(64, 64, 16, 1000, 0, 4, 0)
    behind = Behind(nodes=3, pointwise=10, spatial=20, products=25, weights=30, written=40)
    whole = Frame(64, 64, 16, 1000, 0, 4, 0, behind)
    with_it, without = (frame_terms(frame, own_stem=True, batch=2, place=Place(cold=0.5)) for frame in (whole, alone))
    more = dict(zip(OUTSIDE_TERMS, with_it - without, strict=True))
    assert (whole.weights, alone.weights) == (30, 0)
    assert {name.removeprefix("behind_"): value for name, value in more.items() if value} == {
        "nodes": 3, "pointwise": 20, "spatial": 40, "products": 50, "weights": 30, "written": 80,
    }  # fmt: skip


@pytest.mark.parametrize("head", ["faster_rcnn", "mask_rcnn", "retinanet"])
def test_of_exported_detectors_nothing_is_left_out(head: str) -> None:
    from laudc.export import export
    from tests.export.detector_files import two_stage_detector
    from tests.export.models import small_detector

    made = small_detector if head == "retinanet" else two_stage_detector
    model = made("channel", "fpn", head) if head == "retinanet" else made("channel", head)
    frame = frame_of_model(export(model, input_size=(96, 128)))
    assert isinstance(frame, Frame)
    behind = frame.behind
    assert behind.left_out == ()
    assert behind.spatial > 0 and (behind.products > 0) == (head != "retinanet")
    assert (behind.spread > 0) == (head == "mask_rcnn")
    found = most_found(selecting_of(frame))
    if head == "retinanet":
        assert found == {}
    else:
        # 96 x 128 pixels have 2211 anchors on the levels together, of which 1000 are proposed.
        assert found == {PROPOSALS: 1000, DETECTIONS: 100}
        config = model.config
        regions, width = 1000, config.box_width
        depth = config.neck_channels * 49
        assert behind.products == regions * width * (depth + width + 5 * config.num_classes + 1)


def test_images_that_find_more_take_longer() -> None:
    from laudc.export import export
    from laudc.predict.activation import activation_at_rate
    from tests.export.detector_files import two_stage_detector

    frame = frame_of_model(export(two_stage_detector("layer", "faster_rcnn"), input_size=(64, 64)))
    model = cpu_model(behind_sampled=2.0, behind_compared=3.0)
    blocks = [PlannedBlock(name, record) for name, record in SMALL.blocks()]
    unknown = activation_at_rate(SMALL.blocks(), 1.0, images=3)
    names = [name for one in selecting_of(frame) for name in one.counts]
    counts = {name: np.array([0, 10, 20]) for name in names}
    from dataclasses import replace

    known = replace(unknown, found=counts)
    latency = {at: predict_network(model, frame, blocks, one, status="") for at, one in enumerate((unknown, known))}
    assert np.ptp(latency[0].samples_us) == 0
    steps = np.diff(latency[1].samples_us)
    compared, sampled = (sum(name.endswith(kind) for name in names) for kind in (".compared", ".sampled"))
    assert steps == pytest.approx([10 * (3 * compared + 2 * sampled) / 1e3] * 2)
    assert latency[1].latency.worst_us == pytest.approx(latency[0].latency.worst_us)
    assert latency[1].latency.worst_us > latency[1].samples_us.max()


def test_forecasts_say_what_they_assume(tmp_path) -> None:
    """On a GPU, whose model is there without any measurement."""
    from laudc.cli.predict import forecast_text
    from laudc.engine.trace import trace_found
    from laudc.export import export
    from laudc.ops import names
    from laudc.predict.activation import activation_from_masks
    from laudc.schedule.forecast import forecast
    from tests.export.detector_files import two_stage_detector
    from tests.export.models import noise

    model = export(two_stage_detector("layer", "faster_rcnn"), input_size=(96, 128))
    assumed = forecast(model, device="nano", activation=1.0)
    assert assumed.found == {PROPOSALS: 1000, DETECTIONS: 100} and assumed.left_out == ()
    assert "1000 proposals and 100 detections" in forecast_text(assumed)
    masks = {
        node.output[0]: np.ones((1, 1, 1, 1))
        for node in model.graph.node
        if node.op_type == "SpatialMasker" and names.split_mask_value(node.output[0])
    }
    found = trace_found(model, [noise(1, 3, 96, 128).numpy()])
    known = forecast(model, device="nano", activation=activation_from_masks(masks, "one image", None, found))
    assert known.found == {} and "was not measured" not in forecast_text(known)
    assert known.plan.predicted is not None and assumed.plan.predicted is not None
    assert known.plan.predicted["latency"]["mean_us"] < assumed.plan.predicted["latency"]["mean_us"]


def test_terms_have_names_of_their_own() -> None:
    assert len(set(OUTSIDE_TERMS)) == len(OUTSIDE_TERMS)
    assert set(BEHIND_TERMS) < set(OUTSIDE_TERMS)

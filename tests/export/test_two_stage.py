"""Faster and Mask R-CNN from MMDetection's checkpoints to engines, images of odd sizes included."""

from __future__ import annotations

from pathlib import Path

import laudnet
import numpy as np
import onnx
import pytest
import torch

import laudc
from laudc.errors import UserError
from laudc.export import dense_twin, export
from tests.export.detector_files import CONFIGS, mmdetection_file, two_stage_detector
from tests.export.models import noise
from tests.ops.runtimes import run_onnxruntime

HEADS = ["faster_rcnn", "mask_rcnn"]
# Odd in every stage; more anchors than proposals; fewer proposals than asked for; one pixel more than the stride.
SIZES = [(101, 163), (160, 96), (64, 64), (33, 65)]
NAMES = ["boxes", "scores", "labels", "masks"]


def assert_same(ours: list[np.ndarray], theirs: list[torch.Tensor]) -> None:
    """Equal objects in equal order; filled-up places have score 0 in both."""
    assert [y.shape for y in ours] == [tuple(y.shape) for y in theirs]
    boxes, scores, labels, *masks = (y.numpy() for y in theirs)
    found = scores > 0
    np.testing.assert_array_equal(ours[1] > 0, found)
    np.testing.assert_allclose(ours[1], scores, atol=2e-5)
    np.testing.assert_array_equal(ours[2][found], labels[found])
    np.testing.assert_allclose(ours[0][found], boxes[found], atol=5e-3)
    for mine, other in zip(ours[3:], masks, strict=True):
        np.testing.assert_allclose(mine[found], other[found], atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("mode", ["channel", "layer"])
def test_portable_graph_finds_what_the_model_finds(mode: str, head: str, size: tuple[int, int]) -> None:
    model, x = two_stage_detector(mode, head), noise(1, 3, *size)
    graph = export(model, input_size=size)
    onnx.checker.check_model(graph, full_check=True)
    assert [output.name for output in graph.graph.output] == NAMES[: 3 + (head == "mask_rcnn")]
    assert all(dim.dim_value > 0 for output in graph.graph.output for dim in output.type.tensor_type.shape.dim)
    with torch.no_grad():
        wanted = model.outputs(x)
    assert (wanted[1] > 0).any()
    assert_same(run_onnxruntime(graph, {"input": x.numpy()}), wanted)


def test_dense_twin_finds_what_the_static_network_finds() -> None:
    model, x = two_stage_detector("layer", "mask_rcnn"), noise(1, 3, *SIZES[0])
    graph = export(model, input_size=SIZES[0])
    found = run_onnxruntime(dense_twin(graph), {"input": x.numpy()})
    with torch.no_grad():
        wanted = model.forward_dense(x).numpy()
    joined = np.concatenate([y.reshape(1, -1) for y in found], axis=1)
    np.testing.assert_allclose(joined, wanted, atol=5e-3)


def test_rules_decide_what_is_found() -> None:
    rules = {
        "anchors": {"sizes": [[16.0 * 2**level, 24.0 * 2**level] for level in range(5)], "ratios": [1.0]},
        "proposals": {"candidates": 50, "most": 40, "overlap": 0.6, "min_side": 4.0},
        "regions": {"box_cells": 5, "mask_cells": 6, "sampling": 2, "aligned": False, "finest": 32.0},
        "results": {"score": 0.2, "overlap": 0.3, "most": 12, "min_side": 2.0},
    }
    model, x = two_stage_detector("channel", "mask_rcnn", rules=rules), noise(1, 3, *SIZES[0])
    with torch.no_grad():
        wanted = model.outputs(x)
    assert wanted[3].shape == (1, 12, 12, 12) and float(wanted[1].max()) > 0.2
    assert float(wanted[1][wanted[1] > 0].min()) > 0.2
    assert_same(run_onnxruntime(export(model, input_size=SIZES[0]), {"input": x.numpy()}), wanted)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("mode", ["channel", "layer"])
def test_checkpoints_are_recognised(mode: str, head: str, tmp_path: Path) -> None:
    model = two_stage_detector(mode, head)
    loaded = laudnet.load_checkpoint(mmdetection_file(tmp_path / "detector.pth", model))
    found, wanted = loaded.config.to_dict(), model.config.to_dict()
    for name in ("layers", "dyn_mode", "neck", "extra_levels", "head", "rules", "anchors", "num_classes", "box_width"):
        assert found[name] == wanted[name], name
    assert loaded.config.image_size == (800, 1344)
    x = noise(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(loaded.model(x), model(x))


def test_keys_are_those_of_mmdetection() -> None:
    keys = two_stage_detector("channel", "mask_rcnn").state_dict()
    parts = {key.rsplit(".", 1)[0] for key in keys if not key.startswith(("backbone.", "neck."))}
    assert parts == {
        "rpn_head.rpn_conv",
        "rpn_head.rpn_cls",
        "rpn_head.rpn_reg",
        "roi_head.bbox_head.shared_fcs.0",
        "roi_head.bbox_head.shared_fcs.1",
        "roi_head.bbox_head.fc_cls",
        "roi_head.bbox_head.fc_reg",
        "roi_head.mask_head.convs.0.conv",
        "roi_head.mask_head.convs.1.conv",
        "roi_head.mask_head.upsample",
        "roi_head.mask_head.conv_logits",
    }


@pytest.mark.parametrize("key", ["rpn_head.rpn_reg.bias", "roi_head.bbox_head.fc_reg.weight", "backbone.bn1.weight"])
def test_what_is_missing_is_named(key: str, tmp_path: Path) -> None:
    model = two_stage_detector("layer", "faster_rcnn")
    broken = {name: value for name, value in model.state_dict().items() if name != key}
    torch.save({"meta": {"config": CONFIGS["faster_rcnn"]}, "state_dict": broken}, tmp_path / "broken.pth")
    with pytest.raises(UserError, match=rf"\({key}\) missing"):
        export(tmp_path / "broken.pth")


@pytest.mark.parametrize("head", ["retinanet", *HEADS])
def test_a_detector_without_its_configuration_is_refused(head: str, tmp_path: Path) -> None:
    options = {"stages": (1, 2, 3), "extra_levels": "on_input"} if head == "retinanet" else {}
    model = two_stage_detector("layer", head, **options)
    file = tmp_path / "bare.pth"
    torch.save(model.state_dict(), file)
    with pytest.raises(UserError, match="anchors, regions and thresholds cannot be read") as refusal:
        export(file)
    assert "--config" in str(refusal.value)
    # The configuration may lie beside it, spread over MMDetection's base files; a description of ours will do as well.
    (tmp_path / "base.py").write_text(CONFIGS[head])
    (tmp_path / "own.py").write_text("_base_ = './base.py'\nmodel = dict(test_cfg=dict(score_thr=0.1))\n")
    by_training = export(file, config=tmp_path / "own.py", input_size=(64, 96))
    described = export(file, config=model.config.to_dict(), input_size=(64, 96))
    assert by_training.graph == described.graph


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CONFIGS["retinanet"], "describes a 'RetinaNet'"),
        (CONFIGS["faster_rcnn"].replace("'RoIAlign'", "'DeformRoIPoolPack'"), "DeformRoIPoolPack"),
        (CONFIGS["faster_rcnn"].replace("iou_threshold=0.7", "iou_threshold=7"), "overlap"),
        (CONFIGS["faster_rcnn"].replace("scales=[8]", "scales=[8, 16]"), "anchors per position"),
        (CONFIGS["faster_rcnn"].replace("strides=[4, 8, 16, 32, 64]", "strides=[4, 8]"), "anchors of 2 levels"),
        (CONFIGS["faster_rcnn"].replace("scales=[8]", "scales=8"), "makes no sense"),
        (CONFIGS["faster_rcnn"].replace("scales=[8]", "scales=[8] * 1000"), "scales: expected at most 64"),
        (
            CONFIGS["faster_rcnn"].replace("scales=[8]", "octave_base_scale=4, scales_per_octave=1000000000"),
            "scales_per_octave: expected a number from 1 to 64",
        ),
        (CONFIGS["faster_rcnn"].replace("to_rgb=True", "to_rgb=False"), "blue first"),
        (CONFIGS["faster_rcnn"].replace("type='Shared", "reg_class_agnostic=True, type='Shared"), "all classes share"),
        ("model = dict(", "not Python"),
    ],
)
def test_configurations_that_do_not_fit(text: str, said: str, tmp_path: Path) -> None:
    model = two_stage_detector("layer", "faster_rcnn")
    torch.save({"meta": {"config": text}, "state_dict": model.state_dict()}, tmp_path / "detector.pth")
    with pytest.raises(UserError, match=said):
        export(tmp_path / "detector.pth")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("mode", ["channel", "layer"])
def test_engines(mode: str, head: str, tmp_path: Path, native: None) -> None:
    model, size = two_stage_detector(mode, head), SIZES[0]
    file = mmdetection_file(tmp_path / "detector.pth", model)
    laudc.build_engine(export(file, input_size=size), tmp_path / "detector.laudc")
    report = laudc.verify(tmp_path / "detector.laudc", file)
    assert report.passed, report.summary()
    assert report.runs[0].detections is not None and report.runs[0].detections.found > 0
    x = noise(1, 3, *size)
    with laudc.load_engine(tmp_path / "detector.laudc", threads=2) as engine, torch.no_grad():
        assert_same(list(engine(x.numpy())), model.outputs(x))


def test_our_own_files_keep_the_rules(tmp_path: Path) -> None:
    model = two_stage_detector("layer", "faster_rcnn", rules={"anchors": {"sizes": [[8.0 * 2**i] for i in range(5)]}})
    laudnet.save_checkpoint(tmp_path / "own.pth", model)
    assert laudnet.load_checkpoint(tmp_path / "own.pth").config == model.config

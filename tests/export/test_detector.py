"""Detectors from MMDetection's checkpoints to engines: any image size, all necks, RetinaNet's head."""

from __future__ import annotations

from pathlib import Path

import laudnet
import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F

import laudc
from laudc.errors import UserError
from laudc.export import dense_twin, export
from laudc.ops.scheduled import RUN_OP
from laudc.schedule import lower, make_plan
from tests.export.detector_files import mmdetection_file
from tests.export.models import noise, small_detector
from tests.ops.runtimes import run_onnxruntime

KINDS = {
    "backbone": ("none", "none", {"stages": (0, 1, 2, 3)}),
    "two_stage": ("fpn", "none", {"stages": (0, 1, 2, 3), "extra_levels": "pool"}),
    "retinanet": ("fpn", "retinanet", {}),
    "on_output": ("fpn", "none", {"extra_levels": "on_output"}),
    "ddq": ("channel_mapper", "none", {"neck_levels": 4}),
}
# Odd in every stage, so that borders of all kinds and uneven interpolation occur.
SIZE = (101, 163)


def detector(mode: str, kind: str) -> laudnet.LaudDetector:
    neck, head, options = KINDS[kind]
    return small_detector(mode, neck, head, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["channel", "layer"])
def test_portable_graph_computes_the_model(mode: str, kind: str) -> None:
    model, x = detector(mode, kind), noise(2, 3, *SIZE)
    graph = export(model, input_size=SIZE)
    onnx.checker.check_model(graph, full_check=True)
    found = run_onnxruntime(graph, {"input": x.numpy()})
    with torch.no_grad():
        wanted = [y.numpy() for y in model.outputs(x)]
    assert [list(y.shape) for y in found] == [list(y.shape) for y in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-5 * np.abs(theirs).max())
    twin = run_onnxruntime(dense_twin(graph), {"input": x.numpy()})
    with torch.no_grad():
        dense = model.forward_dense(x).numpy()
    joined = np.concatenate([y.reshape(2, -1) for y in twin], axis=1)
    np.testing.assert_allclose(joined, dense, rtol=0, atol=3e-5 * np.abs(dense).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["channel", "layer"])
def test_checkpoints_are_recognised(mode: str, kind: str, tmp_path: Path) -> None:
    """Nothing has to be told: keys and shapes say depth, mode, granularity, neck and head."""
    model = detector(mode, kind)
    loaded = laudnet.load_checkpoint(mmdetection_file(tmp_path / "detector.pth", model))
    found, wanted = loaded.config.to_dict(), model.config.to_dict()
    told = {"backbone": ("neck",), "ddq": ("neck", "neck_levels")}.get(kind, ("neck", "neck_levels", "extra_levels"))
    for name in ("layers", "dyn_mode", "stages", "head", "width_mult", *told):
        assert found[name] == wanted[name], name
    if mode == "channel":
        assert found["channel_dyn_granularity"] == [2] * 4
    x = noise(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(loaded.model(x), model(x))


def test_parts_that_nobody_computes_are_passed_over(tmp_path: Path) -> None:
    model = detector("layer", "ddq")
    file = mmdetection_file(tmp_path / "ddq.pth", model, **{"decoder.layers.0.weight": torch.zeros(3)})
    x = noise(1, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(laudnet.load_checkpoint(file).model(x), model(x))
    with pytest.raises(UserError, match="missing"):
        broken = {key: value for key, value in model.state_dict().items() if key != "neck.convs.0.gn.bias"}
        torch.save({"state_dict": broken}, file)
        export(file)


def test_static_detectors_are_refused(tmp_path: Path) -> None:
    model = detector("layer", "retinanet")
    static = {key: value for key, value in model.state_dict().items() if ".masker_" not in key}
    torch.save({"state_dict": static}, tmp_path / "static.pth")
    with pytest.raises(UserError, match="a detector"):
        export(tmp_path / "static.pth")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dyn_mode": ["spatial"] * 4}, "has no 'spatial' mode; it has channel, layer"),
        ({"head": "retinanet"}, "needs a neck"),
        ({"neck": "bifpn"}, "neck"),
        ({"stages": [0, 2]}, "stages"),
        ({"neck": "fpn", "neck_levels": 2}, "neck_levels"),
        ({"neck": "fpn", "neck_levels": 17}, "neck_levels: expected a number from 1 to 16, got 17"),
        ({"neck": "fpn", "head_depth": 1000}, "head_depth: expected a number from 1 to 64"),
        ({"test_size": [800]}, "test_size"),
    ],
)
def test_configurations_that_describe_no_detector(options: dict[str, object], said: str, tmp_path: Path) -> None:
    file = mmdetection_file(tmp_path / "detector.pth", detector("layer", "backbone"))
    with pytest.raises(UserError, match=said):
        export(file, config={"arch": "laud_detector", "layers": [1, 2, 2, 1], **options})


def test_fpn_against_its_definition() -> None:
    """MMDetection's order: laterals, top-down sums, output convolutions, extra levels."""
    model = detector("channel", "two_stage")
    channels = [lateral.conv.in_channels for lateral in model.neck.lateral_convs]
    maps = [noise(1, count, 26 >> i, 41 >> i, seed=i) for i, count in enumerate(channels)]
    with torch.no_grad():
        laterals = [c.conv(m) for c, m in zip(model.neck.lateral_convs, maps, strict=True)]
        for i in (3, 2, 1):
            laterals[i - 1] = laterals[i - 1] + F.interpolate(laterals[i], laterals[i - 1].shape[2:], mode="nearest")
        wanted = [c.conv(x) for c, x in zip(model.neck.fpn_convs, laterals, strict=True)]
        wanted.append(F.max_pool2d(wanted[-1], 1, stride=2))
        for ours, theirs in zip(model.neck(maps), wanted, strict=True):
            assert torch.equal(ours, theirs)


def test_runs_end_where_the_neck_reads() -> None:
    graph = export(detector("channel", "retinanet"), input_size=SIZE)
    lowered = lower(graph, make_plan(graph))
    labels = [node.name for node in lowered.graph.node if node.op_type == RUN_OP]
    assert labels == ["backbone.layer1.0-backbone.layer2.1", "backbone.layer3.0-backbone.layer3.1", "backbone.layer4.0"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["channel", "layer"])
def test_engines(mode: str, kind: str, tmp_path: Path, native: None) -> None:
    model = detector(mode, kind)
    file = mmdetection_file(tmp_path / "detector.pth", model)
    graph = export(file, input_size=SIZE)
    engine = tmp_path / "detector.laudc"
    laudc.build_engine(graph, engine)
    report = laudc.verify(engine, file)
    assert report.passed
    x = noise(2, 3, *SIZE)
    with laudc.load_engine(engine, threads=2) as loaded, torch.no_grad():
        for ours, theirs in zip(loaded(x.numpy()), model.outputs(x), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-5 * float(theirs.abs().max()))

"""Heads of other libraries behind our backbone."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import laudc
from laudc.cli import main
from laudc.errors import UserError
from laudc.export import dense_twin, export
from laudc.export.heads import Head, with_head
from laudc.export.transformers_heads import transformers_head
from tests.export.models import noise, small_detector
from tests.ops.runtimes import run_onnxruntime

SIZE = (101, 163)
CLASSES = 5


def transformers_model(kind: str) -> Any:
    """A small seeded model for the maps of a small backbone."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("onnxscript")
    stages = ["stage1", "stage2", "stage3", "stage4"] if kind == "mask2former" else ["stage2", "stage3", "stage4"]
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[32, 64, 128, 256], depths=[1] * 4, layer_type="bottleneck", out_features=stages
    )
    torch.manual_seed(0)
    common = {"backbone_config": backbone, "num_queries": 20, "num_labels": CLASSES, "encoder_layers": 2}
    if kind == "mask2former":
        config = transformers.Mask2FormerConfig(
            **common,
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            encoder_feedforward_dim=64,
            decoder_layers=3,
            num_attention_heads=4,
            dim_feedforward=64,
        )
        model = transformers.Mask2FormerForUniversalSegmentation(config)
    else:
        config = transformers.DeformableDetrConfig(
            **common,
            d_model=32,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
        )
        model = transformers.DeformableDetrForObjectDetection(config)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "class_predictor.weight" in name or "class_embed" in name:
                tensor.mul_(10)
    return model.eval()


@pytest.mark.parametrize("kind", ["mask2former", "deformable_detr"])
def test_a_transformers_head_behind_our_backbone(kind: str, tmp_path: Path, photos: Path, native: None) -> None:
    folder, file = tmp_path / "head", tmp_path / "backbone.pth"
    transformers_model(kind).save_pretrained(folder)
    backbone = small_detector("channel", "none", "none", stages=(0, 1, 2, 3))
    torch.save({"meta": {}, "state_dict": backbone.state_dict()}, file)
    graph = export(file, input_size=SIZE, head=folder)
    onnx.checker.check_model(graph, full_check=True)
    assert {node.domain for node in graph.graph.node} == {"", "ai.laudc"}

    x = noise(1, 3, *SIZE)
    head = transformers_head(folder, SIZE)
    with torch.no_grad():
        wanted = [y.numpy() for y in head.module(*backbone.outputs(x)[-len(head.channels) :])]
    engine = tmp_path / "detector.laudc"
    laudc.build_engine(graph, engine)
    with laudc.load_engine(engine) as loaded:
        results = [run_onnxruntime(graph, {"input": x.numpy()}), loaded(x.numpy())]
    for found in results:
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=5e-5 * max(1.0, float(np.abs(theirs).max())))
    assert len(run_onnxruntime(dense_twin(graph), {"input": x.numpy()})) == 2
    verify = ["verify", str(engine), "--reference", str(file)]
    assert main([*verify, "--head", str(folder)]) == 0
    assert main(verify) == 2
    assert main(["run", str(engine), str(photos), "--score", "0.01", "--draw", str(tmp_path / "found")]) == 0
    assert len(list((tmp_path / "found").iterdir())) == 3


def test_a_head_that_takes_other_maps_is_refused() -> None:
    model = transformers_model("mask2former")
    backbone = small_detector("layer", "none", "none", stages=(0, 1, 2, 3), width_mult=0.25)
    with pytest.raises(UserError, match="takes maps of 32, 64, 128, 256 channels"):
        export(backbone, input_size=SIZE, head=model)


def test_a_module_of_ones_own() -> None:
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    model, x = small_detector("layer", "none", "none", stages=(2, 3)), noise(1, 3, *SIZE)
    conv = torch.nn.Conv2d(256, 4, 1).eval()
    graph = export(model, input_size=SIZE, dynamic_batch=False)
    joined = with_head(graph, Head(conv, ("scores",), (256,)))
    with torch.no_grad():
        wanted = conv(model.outputs(x)[-1]).numpy()
    (found,) = run_onnxruntime(joined, {"input": x.numpy()})
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_without_the_library_the_backbone_is_exported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.split(".")[0] == "transformers":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    model = small_detector("layer", "none", "none", stages=(0, 1, 2, 3))
    assert len(export(model, input_size=SIZE).graph.output) == 4
    with pytest.raises(UserError, match="pip install transformers"):
        export(model, input_size=SIZE, head=tmp_path)

"""Export of LAUD-T2T-ViT: the portable graph computes what the model does, in plain runtimes, and says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import laudnet
import numpy as np
import onnx
import pytest
import torch

import laudc
from laudc.errors import UserError
from laudc.export import dense_twin, with_masks_as_outputs
from laudc.ops import check_contract, names
from tests.laudnet.vit_models import VARIANTS, images, vit_model
from tests.ops.runtimes import RUNNERS, run_onnxruntime


def relative(found: np.ndarray, wanted: torch.Tensor) -> float:
    return float(np.abs(found - wanted.numpy()).max() / wanted.abs().max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_masks(variant: str) -> None:
    model = vit_model(variant)
    portable = laudc.export(model)
    onnx.checker.check_model(portable, full_check=True)
    check_contract(portable)
    shown = with_masks_as_outputs(portable)
    for batch in (1, 3):
        x = images(model, batch, seed=batch)
        wanted = laudnet.trace(model, x)
        outputs = [output.name for output in shown.graph.output]
        found = dict(zip(outputs, run_onnxruntime(shown, {"input": x.numpy()}), strict=True))
        assert relative(found["logits"], wanted.logits) < 1e-5
        for block in wanted.blocks:
            for kind in ("token", "head", "layer"):
                keep = getattr(block, f"{kind}_keep")
                value = names.mask_value(block.name, kind)
                assert (keep is None) == (value not in found)
                if keep is not None:
                    np.testing.assert_array_equal(found[value] > 0, keep.numpy())


def test_reference_evaluator_and_all_opsets() -> None:
    model = vit_model(depth=2)
    x = images(model, 1)
    wanted = laudnet.trace(model, x).logits
    for opset in (18, 20, 23):
        portable = laudc.export(model, opset=opset)
        for run in RUNNERS.values():
            assert relative(run(portable, {"input": x.numpy()})[0], wanted) < 1e-5


@pytest.mark.parametrize("variant", ["all", "patches", "head_values"])
def test_dense_twin(variant: str) -> None:
    model = vit_model(variant)
    twin = dense_twin(laudc.export(model))
    onnx.checker.check_model(twin, full_check=True)
    assert not any(node.domain for node in twin.graph.node)
    assert not any("policy" in node.name for node in twin.graph.node)
    x = images(model, 2)
    with torch.no_grad():
        wanted = model.forward_dense(x)
    assert relative(run_onnxruntime(twin, {"input": x.numpy()})[0], wanted) < 1e-5


def test_names_follow_the_modules() -> None:
    portable = laudc.export(vit_model())
    nodes = {node.name: node.op_type for node in portable.graph.node}
    for name, op in {
        "blocks.1.attn": "DynamicAttention",
        "blocks.1.mlp": "DynamicMlp",
        "blocks.1.masker_token": "TokenMasker",
        "blocks.1.masker_head": "PolicyMasker",
        "blocks.1.masker_layer": "PolicyMasker",
        "blocks.1.norm1": "LayerNormalization",
    }.items():
        assert nodes[name] == op
    assert "blocks.0.masker_head" not in nodes
    weights = {tensor.name for tensor in portable.graph.initializer}
    assert {"blocks.1.attn.query.weight", "blocks.1.mlp.fc1.bias", "head.weight"} <= weights


def test_metadata_and_preprocessing() -> None:
    model = vit_model()
    known = {entry.key: json.loads(entry.value) for entry in laudc.export(model).metadata_props}
    assert laudnet.config_from_dict(known["laudc.config"]) == model.config
    assert known["laudc.preprocess"]["interpolation"] == "bicubic"
    assert known["laudc.preprocess"]["resize"] == 53 and known["laudc.preprocess"]["crop"] == [48, 48]


def test_fixed_batch_and_same_bytes() -> None:
    first, second = (laudc.export(vit_model(), dynamic_batch=False) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert first.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_nothing_dynamic() -> None:
    static = vit_model(ada_head=False, ada_layer=False, ada_token=False, ada_token_with_mlp=False)
    with pytest.raises(UserError, match="nothing in it is dynamic"):
        laudc.export(static)


def test_another_image_size() -> None:
    with pytest.raises(UserError, match="cannot take images of 64x64"):
        laudc.export(vit_model(), input_size=64)


def test_another_architecture(tmp_path: Path) -> None:
    model = vit_model()
    laudnet.save_checkpoint(tmp_path / "c.pth", model)
    with pytest.raises(UserError, match="not a checkpoint of uni_resnet50"):
        laudc.export(tmp_path / "c.pth", arch="uni_resnet50")
    with pytest.raises(UserError, match="unknown field dyn_mode; known are"):
        laudc.export(tmp_path / "c.pth", config={"arch": "laud_vit", "dyn_mode": ["both"] * 4})

"""The dense twin and the graph with masks as outputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from laudc.errors import UserError
from laudc.export import dense_twin, export, with_masks_as_outputs
from laudc.ops import strip_bodies
from tests.export.models import MODES, noise, small_model
from tests.ops.runtimes import RUNNERS


def _keep_everything(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, module in model.named_modules():
            if ".masker_" in name and getattr(module, "bias", None) is not None:
                half = len(module.bias) // 2
                module.weight.zero_()
                module.bias[:half], module.bias[half:] = 1.0, -1.0


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("mode", MODES)
def test_dense_twin_is_the_model_with_everything_kept(mode: str, runner: str) -> None:
    model = small_model(mode)
    _keep_everything(model)
    x = noise(2, 3, 64, 64)
    with torch.no_grad():
        wanted = model(x).numpy()
    (found,) = RUNNERS[runner](dense_twin(export(model)), {"input": x.numpy()})
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_dense_twin_is_plain_and_complete() -> None:
    graph = export(small_model("both"))
    before = graph.SerializeToString(deterministic=True)
    twin = dense_twin(graph)
    assert graph.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(twin, full_check=True)
    assert {node.domain for node in twin.graph.node} == {""}
    assert [entry.domain for entry in twin.opset_import] == [""]
    assert not twin.functions
    assert not any("masker" in tensor.name for tensor in twin.graph.initializer)
    assert {node.op_type for node in twin.graph.node} == {
        "Conv",
        "Relu",
        "Add",
        "MaxPool",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    }
    names = [node.name for node in twin.graph.node]
    assert len(set(names)) == len(names)
    assert "layer2.1.conv2" in names
    assert twin.graph.input == graph.graph.input
    assert twin.metadata_props == graph.metadata_props


def test_masks_as_outputs_changes_nothing_else() -> None:
    graph = export(small_model("mixed"))
    before = graph.SerializeToString(deterministic=True)
    shown = with_masks_as_outputs(graph)
    assert graph.SerializeToString(deterministic=True) == before
    outputs = [output.name for output in shown.graph.output]
    assert outputs[:4] == [
        "logits",
        "layer1.0.mask_channel",
        "layer1.0.mask_spatial",
        "layer2.0.mask_channel",
    ]
    assert with_masks_as_outputs(shown) == shown
    onnx.checker.check_model(shown, full_check=True)


@pytest.mark.parametrize("rewrite", [dense_twin, with_masks_as_outputs])
def test_only_portable_graphs_are_rewritten(rewrite) -> None:  # type: ignore[no-untyped-def]
    graph = export(small_model("both"))
    with pytest.raises(UserError, match="not a portable model"):
        rewrite(dense_twin(graph))
    with pytest.raises(UserError, match="body is missing"):
        rewrite(strip_bodies(export(small_model("both"))))

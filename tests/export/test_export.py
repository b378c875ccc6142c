"""Exported graphs compute what the model computes, are complete, named as promised and reproducible."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import laudnet
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import laudc
from laudc.export import export, with_masks_as_outputs
from laudc.ops import DOMAIN, MAX_OPSET, MIN_OPSET, check_contract
from laudc.ops.macs import masks_of_image, network_macs, network_shape
from tests.export.models import MODES, REGNET_MODES, noise, randomise, small_config, small_model, small_regnet
from tests.laudnet.vit_models import vit_model
from tests.ops.runtimes import RUNNERS, run_onnxruntime

ORACLE = Path(__file__).parents[1] / "data" / "oracle"


def _run(model: onnx.ModelProto, runner: str, images: np.ndarray) -> dict[str, np.ndarray]:
    shown = with_masks_as_outputs(model)
    names = [output.name for output in shown.graph.output]
    return dict(zip(names, RUNNERS[runner](shown, {"input": images}), strict=True))


def _check_against_torch(
    model: laudnet.LaudResNet, graph: onnx.ModelProto, runner: str, x: torch.Tensor
) -> float:
    """Compare logits and masks; returns the share of decisions kept."""
    wanted = laudnet.trace(model, x)
    found = _run(graph, runner, x.numpy())
    scale = float(wanted.logits.abs().max())
    np.testing.assert_allclose(found["logits"], wanted.logits.numpy(), rtol=0, atol=1e-4 * scale)
    kept = total = 0
    for block in wanted.blocks:
        for kind, keep in (("channel", block.channel_keep), ("spatial", block.spatial_keep)):
            if keep is not None:
                np.testing.assert_array_equal(found[f"{block.name}.mask_{kind}"], keep.float().numpy())
                kept, total = kept + int(keep.sum()), total + keep.numel()
    assert len(found) == 1 + sum(
        (block.channel_keep is not None) + (block.spatial_keep is not None) for block in wanted.blocks
    )
    return kept / total


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("mode", MODES)
def test_graph_computes_what_the_model_computes(mode: str, runner: str) -> None:
    model = small_model(mode)
    graph = export(model)
    rate = _check_against_torch(model, graph, runner, noise(3, 3, 64, 64))
    assert 0.05 < rate < 0.95
    _check_against_torch(model, graph, runner, noise(1, 3, 64, 64, seed=1))


@pytest.mark.parametrize("size", [(37, 65), (96, 32), (1, 1)])
def test_channel_models_take_any_size(size: tuple[int, int]) -> None:
    model = small_model("channel")
    graph = export(model, input_size=size)
    check_contract(graph)
    _check_against_torch(model, graph, "onnxruntime", noise(2, 3, *size))


@settings(max_examples=25, deadline=None)
@given(
    modes=st.tuples(*[st.sampled_from(["channel", "spatial", "layer", "both"])] * 4),
    granularity=st.tuples(*[st.integers(1, 4)] * 4).filter(lambda s: s[2] <= 4 and s[3] <= 2),
    shares=st.tuples(*[st.sampled_from([1, 2, 4])] * 4),
    groups=st.tuples(*[st.sampled_from([1, 2, 4, 16])] * 4),
    maskers=st.tuples(*[st.sampled_from(["MLP", "conv_linear"])] * 4),
    depth=st.tuples(*[st.integers(1, 2)] * 4),
    seed=st.integers(0, 99),
)
def test_any_configuration(modes, granularity, shares, groups, maskers, depth, seed) -> None:  # type: ignore[no-untyped-def]
    model = small_model(
        "both",
        seed,
        dyn_mode=modes,
        mask_spatial_granularity=granularity,
        spatial_mask_channel_group=shares,
        channel_dyn_granularity=groups,
        channel_masker=maskers,
        channel_masker_layers=depth,
    )
    graph = export(model)
    x = noise(2, 3, 64, 64, seed=seed)
    margins = [
        margin
        for block in laudnet.trace(model, x).blocks
        for margin in (block.channel_margin, block.spatial_margin)
        if margin is not None
    ]
    if min(float(margin.abs().min()) for margin in margins) > 1e-4:
        _check_against_torch(model, graph, "onnxruntime", x)


@pytest.mark.parametrize("path", sorted(ORACLE.glob("*.pth.tar")), ids=lambda path: path.name)
def test_oracle_checkpoints(path: Path, tmp_path: Path) -> None:
    """Checkpoints and results of the authors' own code."""
    expected = np.load(path.with_name(path.name.replace(".module", "").replace(".pth.tar", ".npz")))
    graph = export(path, tmp_path / "model.onnx")
    for runner in RUNNERS:
        found = _run(graph, runner, expected["input"])
        scale = np.abs(expected["logits"]).max()
        np.testing.assert_allclose(found["logits"], expected["logits"], rtol=0, atol=1e-4 * scale)
        masks = [name for name in expected.files if name.startswith("mask_")]
        assert len(masks) == len(found) - 1
        for name in masks:
            kind, block = name.split("/")
            np.testing.assert_array_equal(found[f"{block}.{kind}"], expected[name])


@pytest.mark.parametrize("mode", MODES)
def test_declared_shapes_are_true(mode: str) -> None:
    graph = export(small_model(mode))
    onnx.checker.check_model(graph, full_check=True)
    onnx.shape_inference.infer_shapes(graph, strict_mode=True, data_prop=True)
    declared = {info.name: info for info in graph.graph.value_info}
    produced = {name for node in graph.graph.node for name in node.output}
    assert produced == set(declared) | {"logits"}
    shown = onnx.ModelProto()
    shown.CopyFrom(graph)
    shown.graph.output.extend(declared.values())
    values = run_onnxruntime(shown, {"input": noise(2, 3, 64, 64).numpy()})
    for info, value in zip(shown.graph.output, values, strict=True):
        dims = info.type.tensor_type.shape.dim
        assert dims[0].dim_param == "N"
        assert tuple(dim.dim_value for dim in dims[1:]) == value.shape[1:]


def test_names() -> None:
    graph = export(small_model("both")).graph
    nodes = [node.name for node in graph.node]
    assert nodes[:7] == [
        "conv1",
        "relu",
        "maxpool",
        "layer1.0.masker_channel",
        "layer1.0.masker_spatial",
        "layer1.0.downsample.0",
        "layer1.0",
    ]
    assert nodes[-3:] == ["avgpool", "flatten", "fc"]
    assert len(set(nodes)) == len(nodes)
    initializers = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    assert initializers["layer2.0.conv2.weight"] == (32, 32, 3, 3)
    assert initializers["layer2.0.conv2.bias"] == (32,)
    assert initializers["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert initializers["layer1.0.masker_channel.conv.0.weight"] == (16, 16)
    assert initializers["layer1.0.masker_channel.conv.2.bias"] == (16,)
    assert initializers["layer2.0.masker_channel.conv.weight"] == (16, 64)
    assert initializers["layer1.0.masker_spatial.conv.weight"] == (2, 16, 1, 1)
    assert initializers["layer1.0.masker_spatial.pool_rows"] == (4, 16)
    assert initializers["layer1.0.masker_spatial.pool_cols"] == (16, 4)
    masks = {name for node in graph.node if "masker" in node.name for name in node.output}
    assert {"layer1.0.mask_channel", "layer1.0.mask_spatial"} <= masks
    assert [value.name for value in (*graph.input, *graph.output)] == ["input", "logits"]
    assert [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [
        "N",
        3,
        64,
        64,
    ]


def test_folded_weights() -> None:
    model = small_model("layer")
    initializers = {tensor.name: tensor for tensor in export(model).graph.initializer}
    block = model.layer2[0]
    scale = block.bn2.weight.double() / (block.bn2.running_var.double() + block.bn2.eps).sqrt()
    weight = block.conv2.weight.double() * scale[:, None, None, None]
    bias = block.bn2.bias.double() - block.bn2.running_mean.double() * scale
    for name, wanted in (("weight", weight), ("bias", bias)):
        found = numpy_helper.to_array(initializers[f"layer2.0.conv2.{name}"])
        np.testing.assert_array_equal(found, wanted.float().detach().numpy())


def test_metadata(tmp_path: Path) -> None:
    model = small_model("channel")
    path = tmp_path / "net.pth"
    recorded = {"preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}, "top1": 0.9}
    laudnet.save_checkpoint(path, model, recorded)
    graph = export(path)
    values = {item.key: json.loads(item.value) for item in graph.metadata_props}
    assert values["laudc.version"] == laudc.__version__
    assert values["laudc.arch"] == "laud_resnet"
    assert laudnet.LaudConfig.from_dict(values["laudc.config"]) == model.config
    assert values["laudc.checkpoint_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert values["laudc.preprocess"] == {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
        "resize": 73,
        "crop": [64, 64],
        "input_size": [64, 64],
        "interpolation": "bilinear",
    }
    assert (graph.producer_name, graph.producer_version, graph.ir_version) == ("laudc", laudc.__version__, 9)
    in_memory = {item.key: json.loads(item.value) for item in export(model).metadata_props}
    assert in_memory["laudc.checkpoint_sha256"] is None
    assert in_memory["laudc.preprocess"]["mean"] == [0.485, 0.456, 0.406]


def test_same_input_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    laudnet.save_checkpoint(path, small_model("both"))
    script = "import sys, laudc; laudc.export(sys.argv[1], sys.argv[2])"
    digests = set()
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.onnx"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", script, str(path), str(out)], check=True, env=environment)
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
    written = export(path).SerializeToString(deterministic=True)
    assert digests == {hashlib.sha256(written).hexdigest()}


@pytest.mark.parametrize("opset", range(MIN_OPSET, MAX_OPSET + 1))
def test_every_opset(opset: int) -> None:
    model = small_model("both")
    graph = export(model, opset=opset)
    onnx.checker.check_model(graph, full_check=True)
    assert {entry.version for entry in graph.opset_import if entry.domain == ""} == {opset}
    _check_against_torch(model, graph, "onnxruntime", noise(2, 3, 64, 64))


def test_static_batch() -> None:
    model = small_model("mixed")
    graph = export(model, dynamic_batch=False)
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    _check_against_torch(model, graph, "onnxruntime", noise(1, 3, 64, 64))


def test_all_ops_of_the_domain_are_used_somewhere() -> None:
    used = {
        node.op_type
        for model in (*map(small_model, MODES), *map(small_regnet, REGNET_MODES), vit_model())
        for node in export(model).graph.node
        if node.domain == DOMAIN
    }
    from laudc.ops import SEMANTIC

    assert used == set(SEMANTIC)


def test_the_model_is_left_as_it_was() -> None:
    model = laudnet.build_model(small_config("both")).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_macs_read_from_the_graph() -> None:
    """Dense MACs against a count by hooks on torch's layers; all of them active when everything is kept."""
    model = small_model("mixed")
    counted: dict[str, int] = {}

    def count(name: str, layer: torch.nn.Module) -> None:
        def hook(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
            counted[name] = (
                module.weight.numel() * output[0, 0].numel() if output.dim() == 4 else module.weight.numel()
            )

        layer.register_forward_hook(hook)

    for name, layer in model.named_modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            count(name, layer)
    x = noise(1, 3, 64, 64)
    model(x)
    graph = export(model)
    shape = network_shape(graph)
    full = network_macs(shape, {})
    assert full.dense == sum(macs for name, macs in counted.items() if "masker" not in name)
    maskers = sum(block.masker for block in full.blocks)
    assert full.active == full.dense + maskers
    pooled = maskers - sum(macs for name, macs in counted.items() if "masker" in name)
    # What is left are the additions of the maskers' poolings: at most each block's input once.
    assert 0 < pooled <= sum(b.in_channels * b.in_size[0] * b.in_size[1] * 2 for b in shape.blocks)
    masks = masks_of_image(_run(graph, "onnxruntime", x.numpy()), 0)
    assert set(masks) == {block.name for block in shape.blocks}
    assert full.active > network_macs(shape, masks).active


def test_randomise_reaches_every_batch_norm() -> None:
    model = randomise(laudnet.build_model(small_config("channel_conv")))
    assert all(
        not torch.equal(module.running_mean, torch.zeros_like(module.running_mean))
        for module in model.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    )

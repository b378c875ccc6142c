"""Graphs for TensorRT and for ONNX Runtime with CUDA: names and types as the plugins want them, dense blocks exact."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from laudc.errors import UserError
from laudc.ops import node_attributes
from laudc.ops.scheduled import DOMAIN, REGNET_RUN_OP, RUN_OP, Conv2Algorithm, RegNetRecord, decode_blocks
from laudc.ops.scheduled_vit import VIT_RUN_OP, encode_vit_blocks
from laudc.schedule import make_plan
from laudc.schedule.lower_gpu import Precision, for_gpu, lower_onnxruntime_cuda, lower_tensorrt, run_nodes


@pytest.fixture(scope="module")
def portable(tiny_onnx):
    return onnx.load(tiny_onnx)


def _lowered(portable, precision="fp16", tensorrt="8.2", choice="auto"):
    return lower_tensorrt(portable, make_plan(portable, choice=choice), precision, tensorrt=tensorrt)


@pytest.mark.parametrize("tensorrt", ["8.2", "8.6.1", "10.3.0", "11.1"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_every_run_is_a_plugin_node_and_no_body_is_left(portable, tensorrt, precision):
    model = _lowered(portable, precision, tensorrt)
    assert not model.functions
    (node,) = run_nodes(model)
    attributes = node_attributes(node)
    assert (node.op_type, node.domain) == (RUN_OP, DOMAIN)
    texts = {attribute.name: attribute.s for attribute in node.attribute if attribute.s}
    assert texts == {"plugin_namespace": b"laudc", "plugin_version": b"1"}
    assert attributes["precision"] == Precision.named(precision)
    assert len(node.output) == 3
    records = decode_blocks(attributes["blocks"])
    assert {record.conv2_algorithm for record in records} == {Conv2Algorithm.DIRECT}
    assert all(node.domain in ("", DOMAIN) for node in model.graph.node)


def test_tensorrt_8_gets_an_old_opset_and_no_empty_tensors(portable):
    model = _lowered(portable)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 13
    margins = next(value for value in model.graph.output if value.name == "laudc.margins.0")
    assert margins.type.tensor_type.shape.dim[1].dim_value >= 1


@pytest.mark.parametrize("tensorrt", ["8.2", "10.3", "11.1"])
def test_dense_blocks_give_the_reference(portable, tensorrt):
    ort = pytest.importorskip("onnxruntime")
    model = _lowered(portable, "fp32", tensorrt, "dense")
    assert all(not node.domain for node in model.graph.node)
    images = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    wanted = ort.InferenceSession(portable.SerializeToString()).run(None, {"input": images})[0]
    found = ort.InferenceSession(model.SerializeToString()).run(None, {"input": images})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_typed_graphs_are_half_inside_and_decide_in_fp32(portable):
    ort = pytest.importorskip("onnxruntime")
    model = _lowered(portable, "fp16", "10.3", "dense")
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for name, kind in kinds.items():
        if ".conv" in name and name.endswith((".weight", ".weight.half")):
            assert (kind == onnx.TensorProto.FLOAT16) == name.endswith(".half")
        if ".masker" in name:
            assert kind == onnx.TensorProto.FLOAT
    assert any(name.endswith(".half") for name in kinds)
    assert {value.type.tensor_type.elem_type for value in model.graph.output} == {onnx.TensorProto.FLOAT}
    images = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    wanted = ort.InferenceSession(portable.SerializeToString()).run(None, {"input": images})[0]
    found = ort.InferenceSession(model.SerializeToString()).run(None, {"input": images})[0]
    np.testing.assert_allclose(found, wanted, atol=3e-3 * np.abs(wanted).max())


def test_a_typed_run_reads_half_and_passes_it_on(portable):
    model = _lowered(portable, "fp16", "11.1")
    (node,) = run_nodes(model)
    producers = {output: made for made in model.graph.node for output in made.output}
    made = producers[node.input[0]]
    while made.op_type in ("Transpose", "MaxPool", "Relu"):
        made = producers[made.input[0]]
    assert made.op_type == "Conv" and all(name.endswith(".half") for name in made.input)
    assert all(t.data_type == onnx.TensorProto.FLOAT for t in model.graph.initializer if "packed" in t.name)
    last = producers["logits"]
    assert last.op_type == "Cast" and node_attributes(last)["to"] == onnx.TensorProto.FLOAT


def test_onnxruntime_cuda_keeps_bodies_and_has_no_clock(portable):
    plan = make_plan(portable)
    model = lower_onnxruntime_cuda(portable, plan, "tf32")
    (node,) = run_nodes(model)
    assert node_attributes(node)["precision"] == Precision.TF32
    assert "plugin_namespace" not in node_attributes(node)
    assert [value.name for value in model.graph.output] == ["logits", "laudc.counts.0", "laudc.margins.0"]
    with pytest.raises(UserError, match="does not run fp16"):
        lower_onnxruntime_cuda(portable, plan, "fp16")


@pytest.mark.parametrize(("precision", "tensorrt", "told"), [("int8", "8.2", "int8"), ("fp16", "9.1", "9.1")])
def test_what_the_plugins_do_not_have_is_refused(portable, precision, tensorrt, told):
    with pytest.raises(UserError, match=told):
        _lowered(portable, precision, tensorrt)


@pytest.fixture(scope="module", params=["regnet_channel", "regnet_spatial", "regnet_both"])
def regnet(request):
    pytest.importorskip("torch")
    import laudc
    from tests.export.models import small_regnet

    return laudc.export(small_regnet(request.param))


@pytest.mark.parametrize(
    ("precision", "tensorrt"), [("fp16", "8.2"), ("fp32", "8.6"), ("fp16", "10.3"), ("tf32", "11.1")]
)
def test_regnet_blocks_become_runs(regnet, precision, tensorrt):
    plan = make_plan(regnet)
    lowered = _lowered(regnet, precision, tensorrt)
    assert not lowered.functions
    nodes = run_nodes(lowered)
    assert {node.op_type for node in nodes} == {REGNET_RUN_OP}
    records = [r for node in nodes for r in decode_blocks(node_attributes(node)["blocks"], RegNetRecord)]
    assert records == [block.record for block in plan.blocks]
    for node in nodes:
        assert node_attributes(node)["precision"] == Precision.named(precision) and len(node.output) == 3
    for ours, theirs in zip(for_gpu(plan).blocks, plan.blocks, strict=True):
        assert (ours.execution, ours.reason) == ("sparse", theirs.reason)
        assert "squeeze-excitation" in ours.reason


@pytest.fixture(scope="module")
def vit():
    pytest.importorskip("torch")
    import laudc
    from tests.laudnet.vit_models import vit_model

    return laudc.export(vit_model())


@pytest.mark.parametrize("tensorrt", ["8.2", "8.6.1", "10.3.0", "11.1"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_transformer_blocks_become_runs(vit, precision, tensorrt):
    plan = make_plan(vit)
    lowered = _lowered(vit, precision, tensorrt)
    assert not lowered.functions
    (node,) = run_nodes(lowered)
    attributes = node_attributes(node)
    assert node.op_type == VIT_RUN_OP and attributes["precision"] == Precision.named(precision)
    assert list(attributes["blocks"]) == encode_vit_blocks([block.record for block in plan.blocks])
    assert {block.execution for block in for_gpu(plan).blocks} == {"sparse"}
    texts = {attribute.name: attribute.s for attribute in node.attribute if attribute.s}
    assert texts == {"plugin_namespace": b"laudc", "plugin_version": b"1"}


@pytest.mark.parametrize("tensorrt", ["8.2", "10.3"])
def test_dense_transformer_blocks_give_the_reference(vit, tensorrt):
    """In opset 13, too, which has no LayerNormalization."""
    ort = pytest.importorskip("onnxruntime")
    model = _lowered(vit, "fp32", tensorrt, "dense")
    assert all(not node.domain for node in model.graph.node)
    size = [dim.dim_value for dim in vit.graph.input[0].type.tensor_type.shape.dim][1:]
    images = np.random.default_rng(0).standard_normal((2, *size)).astype(np.float32)
    wanted = ort.InferenceSession(vit.SerializeToString()).run(None, {"input": images})[0]
    found = ort.InferenceSession(model.SerializeToString()).run(None, {"input": images})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_wide_heads_stay_dense_with_a_reason():
    pytest.importorskip("torch")
    import laudc
    from tests.laudnet.vit_models import vit_model

    portable = laudc.export(vit_model(embed_dim=192, num_heads=1, depth=2))
    plan = for_gpu(make_plan(portable))
    assert {block.execution for block in plan.blocks} == {"dense"}
    assert all("heads of at most 128 features, these have 192" in block.reason for block in plan.blocks)
    assert not run_nodes(_lowered(portable))


def test_onnxruntime_cuda_runs_every_family(regnet, vit):
    for portable, op in ((regnet, REGNET_RUN_OP), (vit, VIT_RUN_OP)):
        model = lower_onnxruntime_cuda(portable, make_plan(portable), "fp32")
        nodes = run_nodes(model)
        assert {node.op_type for node in nodes} == {op}
        assert not any(value.name.startswith("laudc.block_ns") for value in model.graph.output)

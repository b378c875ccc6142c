"""Which blocks go to the kernels, why, and the graph that comes out."""

from __future__ import annotations

import functools
import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import laudc
from laudc.errors import UserError
from laudc.ops.scheduled import ABI_VERSION, ChannelMasker, Conv2Algorithm, decode_blocks
from laudc.schedule import Plan, lower, make_plan
from tests.export.models import noise, small_model
from tests.ops.runtimes import run_onnxruntime

NAMES = ["layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.0"]


@functools.cache
def portable(mode: str) -> onnx.ModelProto:
    return laudc.export(small_model(mode))


def lowered(mode: str, **options: object) -> onnx.ModelProto:
    return lower(portable(mode), make_plan(portable(mode), **options))


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def runs(model: onnx.ModelProto) -> list[dict]:
    return json.loads({prop.key: prop.value for prop in model.metadata_props}["laudc.runs"])


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def test_auto_gives_every_covered_block_to_the_kernels() -> None:
    for choice in ("auto", "sparse"):
        plan = make_plan(portable("mixed"), choice=choice)
        assert [block.name for block in plan.blocks] == NAMES
        assert {block.execution for block in plan.blocks} == {"sparse"}
        assert all(block.record is not None and block.record.panel == 64 for block in plan.blocks)


def test_reasons() -> None:
    reasons = {block.name: block.reason for block in make_plan(portable("mixed")).blocks}
    assert "kept patches" in reasons["layer1.0"] and "kept channels" in reasons["layer1.0"]
    assert "kept channels" in reasons["layer2.0"] and "patches" not in reasons["layer2.0"]
    assert "kept patches" in reasons["layer3.0"] and "channels" not in reasons["layer3.0"]
    assert "skips the block" in reasons["layer4.0"]


def test_dense_is_dense_because_it_was_asked_for() -> None:
    plan = make_plan(portable("both"), choice="dense")
    assert all(b.execution == "dense" and b.record is None and "--schedule dense" in b.reason for b in plan.blocks)


@pytest.mark.parametrize(("mode", "why"), [("grouped", "2 groups"), ("dilated", "dilated by 2")])
def test_blocks_that_the_kernels_do_not_cover(mode: str, why: str) -> None:
    plan = make_plan(portable(mode))
    dense = [block for block in plan.blocks if block.execution == "dense"]
    assert dense and all("not covered" in block.reason for block in dense)
    assert any(why in block.reason for block in dense)
    with pytest.raises(UserError, match="cannot be scheduled sparse") as caught:
        make_plan(portable(mode), choice="sparse")
    assert "--schedule auto" in str(caught.value)


def test_unknown_choice() -> None:
    with pytest.raises(UserError, match="nknown schedule 'fast'"):
        make_plan(portable("both"), choice="fast")


def test_records_say_what_the_network_says() -> None:
    first, second, third, fourth, _, last = (block.record for block in make_plan(portable("both"), panel=16).blocks)
    assert (first.cin, first.width, first.cout, first.stride, first.hin, first.win) == (16, 16, 64, 1, 16, 16)
    assert (first.projection, first.mask_groups, first.mask_h, first.mask_w) == (1, 1, 4, 4)
    assert (first.channel_groups, first.channel_masker, first.masker_hidden) == (8, ChannelMasker.MLP, 16)
    assert (second.stride, second.hin, second.projection, second.channel_masker) == (2, 16, 1, ChannelMasker.LINEAR)
    assert (third.stride, third.hin, third.projection, third.channel_groups) == (1, 8, 0, 8)
    assert fourth.mask_h == 2 and last.mask_h == 2 and last.panel == 16
    conv = make_plan(portable("channel_conv")).blocks[0].record
    assert conv.channel_masker == ChannelMasker.CONV and conv.masker_hidden == 4 and conv.mask_groups == 0


def test_winograd_only_where_it_pays() -> None:
    for mode in ("spatial", "layer", "channel", "both", "uneven"):
        for block in make_plan(portable(mode)).blocks:
            record = block.record
            if record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2:
                assert record.stride == 1 and record.hout * record.wout >= 128
                assert record.hout >= 2 * record.mask_h and record.wout >= 2 * record.mask_w
            assert ("Winograd" in block.reason) == (record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2)
    spatial = make_plan(portable("spatial")).blocks
    assert spatial[0].record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2
    assert spatial[-1].record.conv2_algorithm == Conv2Algorithm.DIRECT


def test_plans_are_plain_data() -> None:
    plan = make_plan(portable("both"))
    data = json.loads(json.dumps(plan.to_dict()))
    assert (data["choice"], data["panel"]) == ("auto", 64)
    assert [block["name"] for block in data["blocks"]] == NAMES
    assert data["blocks"][0]["record"]["cin"] == 16
    assert isinstance(plan, Plan)


def test_one_run_from_stem_to_head() -> None:
    model = lowered("both", panel=32)
    assert [op for op in ops(model) if op != "Transpose"] == [
        "StemConvPool",
        "BottleneckRun",
        "ReduceMean",
        "Flatten",
        "Gemm",
    ]
    stem, run = model.graph.node[0], model.graph.node[1]
    assert attributes(stem) == {"abi": ABI_VERSION, "channels": 16, "panel": 32}
    assert run.name == "layer1.0-layer4.0"
    assert list(run.input) == [stem.output[0], *(f"{name}.packed" for name in NAMES)]
    assert attributes(run)["abi"] == ABI_VERSION
    plan = make_plan(portable("both"), panel=32)
    assert decode_blocks(attributes(run)["blocks"]) == [block.record for block in plan.blocks]
    assert {node.domain for node in (stem, run)} == {"ai.laudc"}


def test_outputs_and_metadata() -> None:
    model = lowered("both")
    assert [output.name for output in model.graph.output] == [
        "logits",
        "laudc.counts.0",
        "laudc.margins.0",
        "laudc.block_ns.0",
    ]
    (run,) = runs(model)
    assert (run["counts"], run["margins"], run["block_ns"]) == tuple(o.name for o in model.graph.output[1:])
    assert [block["name"] for block in run["blocks"]] == NAMES
    kept = {prop.key: prop.value for prop in portable("both").metadata_props}
    assert kept.items() <= {prop.key: prop.value for prop in model.metadata_props}.items()


def test_nothing_of_the_portable_form_is_left() -> None:
    model = lowered("mixed")
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    assert not model.functions
    assert not [t.name for t in model.graph.initializer if "conv1.weight" in t.name]


def test_lowering_leaves_the_portable_graph_as_it_was() -> None:
    before = portable("both").SerializeToString(deterministic=True)
    first, second = lowered("both"), lowered("both")
    assert portable("both").SerializeToString(deterministic=True) == before
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def _changed_pool(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    (pool,) = (node for node in changed.graph.node if node.op_type == "MaxPool")
    for attribute in pool.attribute:
        if attribute.name == "ceil_mode":
            pool.attribute.remove(attribute)
    pool.attribute.append(helper.make_attribute("ceil_mode", 1))
    return changed


def test_another_stem_is_left_to_the_runtime() -> None:
    model = _changed_pool(portable("channel"))
    found = ops(lower(model, make_plan(model)))
    assert "StemConvPool" not in found
    assert found[: found.index("BottleneckRun") + 1] == ["Conv", "Relu", "MaxPool", "Transpose", "BottleneckRun"]


def test_a_stem_that_others_read_is_not_fused() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(portable("both"))
    (pool,) = (node for node in model.graph.node if node.op_type == "MaxPool")
    model.graph.node.append(helper.make_node("Identity", [pool.input[0]], ["seen"]))
    model.graph.output.append(helper.make_tensor_value_info("seen", onnx.TensorProto.FLOAT, None))
    assert "StemConvPool" not in ops(lower(model, make_plan(model)))


def test_dense_networks_keep_their_bodies_and_show_their_masks() -> None:
    model = lowered("both", choice="dense")
    assert not {"BottleneckRun", "StemConvPool"} & set(ops(model))
    assert {function.name for function in model.functions} >= {"DynamicBottleneck", "SpatialMasker"}
    assert [entry["dense"]["name"] for entry in runs(model)] == NAMES
    described = [entry["dense"][key] for entry in runs(model) for key in ("spatial_mask", "channel_mask")]
    assert [output.name for output in model.graph.output] == ["logits", *described]
    images = noise(2, 3, 64, 64).numpy()
    (wanted,) = run_onnxruntime(portable("both"), {"input": images})
    np.testing.assert_allclose(run_onnxruntime(model, {"input": images})[0], wanted, rtol=0, atol=1e-5)


def test_uncovered_blocks_split_the_run() -> None:
    model = lowered("dilated")
    plan = make_plan(portable("dilated"))
    sparse = [block.name for block in plan.blocks if block.execution == "sparse"]
    dense = [block.name for block in plan.blocks if block.execution == "dense"]
    assert sparse and dense
    entries = runs(model)
    assert [block["name"] for entry in entries for block in entry.get("blocks", [])] == sparse
    assert sorted(entry["dense"]["name"] for entry in entries if "dense" in entry) == sorted(dense)
    onnx.checker.check_model(_without_our_ops(model))


def _without_our_ops(model: onnx.ModelProto) -> onnx.ModelProto:
    """The checker knows schemas of standard operators only; scheduled ones have none."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if node.op_type in ("BottleneckRun", "StemConvPool"):
            node.domain = "somebody.else"
    plain.opset_import.append(helper.make_opsetid("somebody.else", 1))
    return plain


def test_packed_weights_are_flat_floats() -> None:
    for tensor in lowered("both").graph.initializer:
        if tensor.name.endswith(".packed"):
            array = numpy_helper.to_array(tensor)
            assert array.dtype == np.float32 and array.ndim == 1 and np.isfinite(array).all()

"""Transformer blocks: records and plans, packed weights, and what keeps a block from our kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import laudc
from laudc.errors import UserError
from laudc.ops.packing import ALIGN, TAIL, round_up
from laudc.ops.packing_vit import VitWeights, pack_vit_block
from laudc.ops.scheduled import ABI_VERSION, DOMAIN, RUNS_KEY
from laudc.ops.scheduled_vit import VIT_FIELDS, VIT_RUN_OP, VitRecord, encode_vit_blocks
from laudc.schedule import lower, make_plan
from laudc.schedule.blocks import Graph
from laudc.schedule.vit_blocks import vit_blocks, vit_weights
from tests.laudnet.vit_models import vit_model

Array = np.ndarray
PROPERTY = settings(deadline=None, derandomize=True, database=None, max_examples=60)


def records_of(variant: str, panel: int = 64, **options: object) -> list[VitRecord]:
    plan = make_plan(laudc.export(vit_model(variant, **options)), panel=panel)
    assert all(block.execution == "sparse" for block in plan.blocks)
    return [block.record for block in plan.blocks if isinstance(block.record, VitRecord)]


def test_records() -> None:
    first, second, third = records_of("all")
    common = {"tokens": 10, "dim": 48, "heads": 3, "hidden": 144, "token_policy": 1, "tokens_in_mlp": 1, "panel": 16}
    assert first == VitRecord(**common)
    assert second == VitRecord(**common, head_policy=1, layer_policy=1, head_width=1)
    assert third == replace(second, first_only=1)
    assert first.decisions == {"token": 9} and second.decisions == {"token": 9, "head": 3, "layer": 2}
    assert second.margins == 14


def test_records_of_variants() -> None:
    assert records_of("head_values")[1].dropped_heads == 1 and records_of("head_values")[1].head_width == 0
    assert records_of("head_outputs")[1].head_width == 2
    assert records_of("token_attention_only")[1].tokens_in_mlp == 0
    late = records_of("late")
    assert [record.token_policy for record in late] == [0, 1, 1]
    assert [record.norm_policy for record in late] == [0, 0, 1]
    assert records_of("wide")[0].panel == 64 and records_of("wide", panel=32)[0].panel == 32


def test_plan_says_why() -> None:
    reasons = [block.reason for block in make_plan(laudc.export(vit_model())).blocks]
    assert reasons == [
        "computes kept tokens only",
        "computes kept tokens, heads and sublayers only",
        "computes kept tokens, heads and sublayers only; only the class token is read after it",
    ]


def test_lowered_graph() -> None:
    portable = laudc.export(vit_model())
    lowered = lower(portable, make_plan(portable))
    (run,) = [node for node in lowered.graph.node if node.domain == DOMAIN]
    assert (run.op_type, run.name) == (VIT_RUN_OP, "blocks.0-blocks.2")
    assert list(run.input[1:]) == [f"blocks.{i}.packed" for i in range(3)]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in run.attribute}
    assert attributes["abi"] == ABI_VERSION and len(attributes["blocks"]) == 3 * len(VIT_FIELDS)
    assert not lowered.functions
    assert not any(tensor.name.startswith("blocks.0.attn") for tensor in lowered.graph.initializer)
    outputs = [output.name for output in lowered.graph.output]
    assert outputs == ["logits", "laudc.counts.0", "laudc.margins.0", "laudc.block_ns.0"]
    assert any(entry.key == RUNS_KEY for entry in lowered.metadata_props)


def test_dense_schedule_keeps_bodies_and_shows_masks() -> None:
    portable = laudc.export(vit_model())
    lowered = lower(portable, make_plan(portable, choice="dense"))
    assert {function.name for function in lowered.functions} >= {"DynamicAttention", "DynamicMlp", "TokenMasker"}
    outputs = {output.name for output in lowered.graph.output}
    assert {"blocks.0.mask_token", "blocks.1.mask_head", "blocks.2.mask_layer"} <= outputs


Change = Callable[[onnx.ModelProto], None]


def _node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def _own_token_mask(model: onnx.ModelProto) -> None:
    mask = numpy_helper.from_array(np.array([[1, 0] * 4 + [1]], np.float32), "mine")
    model.graph.initializer.append(mask)
    _node(model, "blocks.1.mlp").input[2] = "mine"


def _other_heads(model: onnx.ModelProto) -> None:
    _node(model, "blocks.2.mlp").input[3] = "blocks.1.mask_head"


def _other_epsilon(model: onnx.ModelProto) -> None:
    next(a for a in _node(model, "blocks.1.norm2").attribute if a.name == "epsilon").f = 1e-3


def _raw_tokens(model: onnx.ModelProto) -> None:
    attention = _node(model, "blocks.1.attn")
    attention.input[1] = attention.input[0]


def _policy_of_another_block(model: onnx.ModelProto) -> None:
    _node(model, "blocks.2.masker_layer").input[0] = "blocks.1.policy_token.output"


@pytest.mark.parametrize(
    ("change", "block", "why"),
    [
        (_own_token_mask, "blocks.1", "different masks of tokens"),
        (_other_heads, "blocks.2", "different masks of heads"),
        (_other_epsilon, "blocks.1", "different epsilons"),
        (_raw_tokens, "blocks.1", "does not read its normalised input"),
        (_policy_of_another_block, "blocks.2", "its masks come from elsewhere"),
    ],
)
def test_blocks_left_to_the_runtime(change: Change, block: str, why: str) -> None:
    model = laudc.export(vit_model())
    change(model)
    plan = {entry.name: entry for entry in make_plan(model).blocks}
    assert plan[block].execution == "dense" and why in plan[block].reason
    with pytest.raises(UserError, match=r"Block blocks\.\d cannot be scheduled sparse"):
        make_plan(model, choice="sparse")
    lowered = lower(model, make_plan(model))
    onnx.checker.check_model(lowered)
    assert any(node.op_type == "DynamicAttention" and node.name == f"{block}.attn" for node in lowered.graph.node)


@st.composite
def records(draw: st.DrawFn) -> VitRecord:
    """Consistent records of small blocks."""
    heads, width = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    tokens, head = draw(st.booleans()), draw(st.booleans())
    layer = draw(st.booleans())
    return VitRecord(
        tokens=draw(st.integers(2, 9)),
        dim=heads * width,
        heads=heads,
        hidden=heads * draw(st.integers(1, 70)),
        token_policy=int(tokens),
        tokens_in_mlp=int(tokens and draw(st.booleans())),
        head_policy=int(head),
        layer_policy=int(layer),
        norm_policy=int((head or layer) and draw(st.booleans())),
        head_width=draw(st.integers(0, 2)) if head else 0,
        panel=draw(st.sampled_from([16, 32, 48, 64])),
    )


def random_weights(record: VitRecord, seed: int = 0) -> VitWeights:
    """Seeded weights of the record's shapes."""
    rng = np.random.default_rng(seed)

    def layer(outputs: int, inputs: int | None = None) -> tuple[Array, Array]:
        shape = (outputs,) if inputs is None else (outputs, inputs)
        return rng.standard_normal(shape).astype(np.float32), rng.standard_normal(outputs).astype(np.float32)

    dim = record.dim
    return VitWeights(
        epsilon=1e-5,
        norm1=layer(dim),
        norm2=layer(dim),
        query=layer(dim, dim),
        key=layer(dim, dim),
        value=layer(dim, dim),
        proj=layer(dim, dim),
        fc1=layer(record.hidden, dim),
        fc2=layer(dim, record.hidden),
        token_policy=layer(1, dim) if record.token_policy else None,
        head_policy=layer(record.heads, dim) if record.head_policy else None,
        layer_policy=layer(2, dim) if record.layer_policy else None,
        norm_policy=layer(dim) if record.norm_policy else None,
    )


def _panels(rows: int, columns: int, panel: int) -> int:
    return -(-columns // panel) * rows * panel


@PROPERTY
@given(records())
def test_packed_size_follows_from_the_record(record: VitRecord) -> None:
    dim, hidden, heads, panel = record.dim, record.hidden, record.heads, record.panel
    parts = heads if record.head_width == 2 else 1
    sections = [1, dim, dim, dim, dim]
    sections += [dim, dim] * record.norm_policy + [dim, 1] * record.token_policy
    sections += [heads * dim, heads] * record.head_policy + [2 * dim, 2] * record.layer_policy
    sections += [3 * heads * _panels(dim, dim // heads, panel), 3 * dim, _panels(dim, dim, panel), dim]
    sections += [parts * _panels(dim, hidden // parts, panel), hidden, _panels(hidden, dim, panel), dim]
    packed = pack_vit_block(record, random_weights(record))
    assert packed.dtype == np.float32
    assert packed.size == sum(round_up(size, ALIGN) for size in sections) + TAIL


def test_every_weight_is_packed_once() -> None:
    record = VitRecord(4, 8, 2, 12, token_policy=1, head_policy=1, layer_policy=1, norm_policy=1, panel=16)
    weights = random_weights(record)
    packed = pack_vit_block(record, weights)
    layers = [v for v in vars(weights).values() if isinstance(v, tuple)]
    wanted = np.sort(np.concatenate([values.ravel() for layer in layers for values in layer]))
    np.testing.assert_array_equal(np.sort(packed[(packed != 0) & (packed != np.float32(1e-5))]), wanted)


@pytest.mark.parametrize(
    ("field", "layer", "message"),
    [
        ("fc1", (np.zeros((11, 8), np.float32), np.zeros(12, np.float32)), "fc1 has shape"),
        ("fc2", (np.zeros((8, 12), np.float32), np.zeros(9, np.float32)), "the bias of fc2"),
        ("token_policy", None, "token_policy has shape None"),
        ("norm_policy", (np.zeros(8, np.float32), np.zeros(8, np.float32)), "the record says None"),
    ],
)
def test_weights_of_other_shapes(field: str, layer: object, message: str) -> None:
    record = VitRecord(4, 8, 2, 12, token_policy=1)
    with pytest.raises(ValueError, match=message):
        pack_vit_block(record, replace(random_weights(record), **{field: layer}))


def test_weights_read_from_the_graph() -> None:
    model = vit_model("uneven")
    graph = Graph(laudc.export(model))
    weights = vit_weights(graph, vit_blocks(graph)[1])
    attention = model.blocks[1].attn
    np.testing.assert_allclose(weights.query[0], attention.query.weight.detach().numpy() * 0.3, rtol=1e-6)
    np.testing.assert_array_equal(weights.value[0], attention.value.weight.detach().numpy())
    assert weights.norm_policy is None and weights.head_policy is not None


def test_encoding() -> None:
    record = VitRecord(4, 8, 2, 12, first_only=1)
    assert encode_vit_blocks([record, record])[: len(VIT_FIELDS)] == [4, 8, 2, 12, 0, 0, 0, 0, 0, 0, 0, 1, 64, 0]

"""LAUD-T2T-ViT in the native library: whole networks against torch and plain ONNX Runtime, op vectors, bad models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import laudnet
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import laudc
from laudc import backends
from laudc.ops import names
from laudc.ops.packing_vit import VitWeights, pack_vit_block
from laudc.ops.scheduled import ABI_VERSION, DOMAIN
from laudc.ops.scheduled_vit import VIT_RUN_OP, VitRecord, encode_vit_blocks
from laudc.ops.transformer import attention, mlp
from laudc.schedule import lower, make_plan
from tests.laudnet.vit_models import VARIANTS, images, vit_model
from tests.native.support import ISAS
from tests.ops.runtimes import run_onnxruntime
from tests.ops.transformer_vectors import mask
from tests.schedule.test_vit import random_weights

Array = np.ndarray
TOLERANCE = 5e-6  # relative to the largest value


def engine_of(portable: onnx.ModelProto, panel: int = 64, threads: int = 1) -> Any:
    backend = backends.get("onnxruntime")
    return backend.load(backend.compile(lower(portable, make_plan(portable, panel=panel))), threads=threads)


def assert_close(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(wanted).max())))


def check(model: laudnet.LaudVit, portable: onnx.ModelProto, engine: Any, x: torch.Tensor) -> None:
    """Logits, every margin and every count."""
    wanted = laudnet.trace(model, x)
    logits, margins = engine.trace(x.numpy())
    assert_close(logits, wanted.logits.numpy())
    assert_close(logits, run_onnxruntime(portable, {"input": x.numpy()})[0])
    np.testing.assert_array_equal(engine.run(x.numpy())[0], logits)
    assert list(margins) == [block.name for block in wanted.blocks] == engine.block_names
    for index, block in enumerate(wanted.blocks):
        kinds = {kind for kind in ("token", "head", "layer") if getattr(block, f"{kind}_keep") is not None}
        assert {key.removesuffix("_margin") for key in margins[block.name]} == kinds
        for kind in kinds:
            found = margins[block.name][f"{kind}_margin"]
            assert_close(found, getattr(block, f"{kind}_margin").numpy())
            np.testing.assert_array_equal(names.kept(kind, found), getattr(block, f"{kind}_keep").numpy())
        check_counts(model, block, engine.last_counts[:, index], last=index == len(wanted.blocks) - 1)
    assert (engine.block_times_ns > 0).all()


def check_counts(model: laudnet.LaudVit, block: Any, counts: Array, last: bool) -> None:
    config, batch = model.config, len(counts)
    tokens = np.full(batch, config.tokens)
    if block.token_keep is not None:
        tokens = 1 + block.token_keep.sum(1).numpy()
    heads = np.full(batch, config.num_heads) if block.head_keep is None else block.head_keep.sum(1).numpy()
    on = np.ones((batch, 2), int) if block.layer_keep is None else block.layer_keep.numpy().astype(int)
    in_mlp = tokens if config.ada_token_with_mlp else np.full(batch, config.tokens)
    attended, transformed = (np.ones(batch, int) if last else rows for rows in (tokens, in_mlp))
    np.testing.assert_array_equal(counts, np.stack([attended * on[:, 0], transformed * on[:, 1], tokens, heads], 1))


@pytest.mark.parametrize("panel", [16, 64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant: str, panel: int) -> None:
    model = vit_model(variant)
    portable = laudc.export(model)
    for threads in (1, 2):
        engine = engine_of(portable, panel, threads)
        for batch in (1, 11):
            check(model, portable, engine, images(model, batch, seed=batch))


@pytest.mark.parametrize("threads", [1, 3])
def test_many_tokens(threads: int) -> None:
    """Several panels of keys, several chunks of queries and rows, heads as wide as published ones."""
    model = vit_model(embed_dim=128, num_heads=2, input_size=224, depth=2, ada_head_v2=True)
    portable = laudc.export(model)
    check(model, portable, engine_of(portable, threads=threads), images(model, 2))


@pytest.mark.parametrize("keep", [-100.0, 100.0])
@pytest.mark.parametrize("kind", ["token_select", "head_select", "layer_select"])
@pytest.mark.parametrize("variant", ["all", "head_outputs", "head_values"])
def test_all_or_nothing(variant: str, kind: str, keep: float) -> None:
    """With no token but the class token, no head or no sublayer the network still answers, and exactly."""
    model = vit_model(variant)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f"{kind}.mlp_head.bias" in name:
                parameter.fill_(keep)
    portable = laudc.export(model)
    check(model, portable, engine_of(portable), images(model, 2))


def test_dense_schedule() -> None:
    model = vit_model()
    portable = laudc.export(model)
    backend = backends.get("onnxruntime")
    engine = backend.load(backend.compile(lower(portable, make_plan(portable, choice="dense"))), threads=1)
    x = images(model, 2)
    wanted = laudnet.trace(model, x)
    logits, margins = engine.trace(x.numpy())
    assert_close(logits, wanted.logits.numpy())
    for block in wanted.blocks:
        for key, found in margins[block.name].items():
            kind = key.removesuffix("_margin")
            np.testing.assert_array_equal(names.kept(kind, found), getattr(block, f"{kind}_keep").numpy())


def test_calls_at_the_same_time() -> None:
    model = vit_model()
    engine = engine_of(laudc.export(model))
    inputs = [images(model, 1 + i % 3, seed=i).numpy() for i in range(6)]
    wanted = [engine.session.run(["logits"], {"input": x})[0] for x in inputs]
    found: list[Array | None] = [None] * len(inputs)

    def call(i: int) -> None:
        for _ in range(5):
            found[i] = engine.session.run(["logits"], {"input": inputs[i]})[0]

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(found, wanted, strict=True):
        assert a is not None
        np.testing.assert_array_equal(a, b)


_CHILD = """
import json, sys
import numpy as np
from laudc import backends
from tests.native.test_vit import engine_of
from tests.laudnet.vit_models import images, vit_model
import laudc
found = {}
for variant in ("all", "head_outputs", "uneven", "wide"):
    model = vit_model(variant)
    engine = engine_of(laudc.export(model), backends.get("onnxruntime").native_abi()["panel"])
    found[variant] = engine.run(images(model, 2).numpy())[0].tolist()
print(json.dumps({"isa": backends.get("onnxruntime").native_abi()["active"], "logits": found}))
"""


@pytest.mark.parametrize("isa", ISAS)
def test_instruction_sets(isa: str) -> None:
    environment = {**os.environ, "LAUDC_ISA": isa, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    child = subprocess.run(
        [sys.executable, "-c", _CHILD], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    result = json.loads(child.stdout.splitlines()[-1])
    if result["isa"] != isa:
        pytest.skip(f"this CPU does not run {isa} kernels")
    for variant, logits in result["logits"].items():
        model = vit_model(variant)
        with torch.no_grad():
            assert_close(np.array(logits), model(images(model, 2)).numpy())


# ---- single blocks ----


def run_model(records: list[VitRecord], packed: list[Array], **changes: Any) -> onnx.ModelProto:
    """A model whose only node is a run; `changes` replace attributes, None removes one."""
    attributes = {"abi": ABI_VERSION, "blocks": encode_vit_blocks(records), **changes}
    inputs = [f"packed.{i}" for i in range(len(packed))]
    outputs = ("Y", "counts", "margins", "block_ns")
    node = helper.make_node(VIT_RUN_OP, ["X", *inputs], list(outputs), domain=DOMAIN, name="run")
    node.attribute.extend(
        helper.make_attribute(key, value, attr_type=onnx.AttributeProto.INTS if key == "blocks" else None)
        for key, value in attributes.items()
        if value is not None
    )
    types = (TensorProto.FLOAT, TensorProto.INT32, TensorProto.FLOAT, TensorProto.INT64)
    graph = helper.make_graph(
        [node],
        "single",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["batch", "tokens", "dim"])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(outputs, types, strict=True)],
        [numpy_helper.from_array(array, name) for name, array in zip(inputs, packed, strict=True)],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def session_of(model: onnx.ModelProto, threads: int = 1) -> Any:
    return backends.get("onnxruntime").load(model.SerializeToString(), threads=threads).session


def block_reference(record: VitRecord, w: VitWeights, x: Array, tokens: Array, heads: Array, on: Array) -> Array:
    """One block with given decisions, from the references of the semantic ops, in float64."""

    def norm(values: Array, layer: tuple[Array, Array]) -> Array:
        spread = np.sqrt(values.var(axis=-1, keepdims=True) + w.epsilon)
        return (values - values.mean(axis=-1, keepdims=True)) / spread * layer[0] + layer[1]

    x = x.astype(np.float64)
    projections = [v.astype(np.float64) for layer in (w.query, w.key, w.value, w.proj) for v in layer]
    y = attention(x, norm(x, w.norm1), tokens, heads, on, *projections, dropped_heads=record.dropped_heads)
    in_mlp = tokens if record.tokens_in_mlp else np.ones_like(tokens)
    layers = [v.astype(np.float64) for layer in (w.fc1, w.fc2) for v in layer]
    return mlp(y, norm(y, w.norm2), in_mlp, heads, on, *layers, head_width=record.head_width)


PATTERNS = ("empty", "full", "one", "last", "sparse", "dense")


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("dropped_heads", "head_width"), [(0, 0), (0, 1), (0, 2), (1, 0)])
def test_blocks_with_given_tokens_and_heads(pattern: str, dropped_heads: int, head_width: int) -> None:
    """Decisions are steered through features of the input that nothing else reads."""
    record = VitRecord(
        tokens=23,
        dim=72,
        heads=4,
        hidden=96,
        token_policy=1,
        tokens_in_mlp=1,
        head_policy=1,
        dropped_heads=dropped_heads,
        head_width=head_width,
        panel=32,
    )
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 23, 72)).astype(np.float32)
    tokens, heads = mask(pattern, 2, 22), mask("dense" if pattern == "empty" else pattern, 2, 4)
    x[:, 1:, 0] = np.where(tokens > 0, 4, -4)
    x[:, 0, 1:5] = np.where(heads > 0, 4, -4)
    weights = random_weights(record)
    scaled = {name: (getattr(weights, name)[0] * 0.1, getattr(weights, name)[1]) for name in ("query", "key")}
    choose = np.zeros((1, 72), np.float32)
    choose[0, 0] = 1
    which = np.eye(5, 72, dtype=np.float32)[1:]
    ones = (np.ones(72, np.float32), np.zeros(72, np.float32))
    zero = np.zeros(4, np.float32)
    weights = replace(
        weights, **scaled, norm1=ones, token_policy=(choose, zero[:1]), head_policy=(which, zero)
    )
    found = session_of(run_model([record], [pack_vit_block(record, weights)])).run(None, {"X": x})
    np.testing.assert_array_equal(found[2][:, :22] > 0, tokens > 0)
    np.testing.assert_array_equal(found[2][:, 22:] > 0, heads > 0)
    assert_close(found[0], block_reference(record, weights, x, tokens, heads, np.ones((2, 2))))
    untouched = np.concatenate([np.zeros((2, 1)), tokens == 0], axis=1) > 0
    np.testing.assert_array_equal(found[0][untouched], x[untouched])


RECORD = VitRecord(tokens=5, dim=8, heads=2, hidden=16)


def _packed(record: VitRecord = RECORD) -> Array:
    return pack_vit_block(record, random_weights(record))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"abi": ABI_VERSION + 1}, "run laudc build-engine again"),
        ({"abi": None}, "(?i)attribute"),
        ({"blocks": None}, "(?i)attribute"),
        ({"blocks": [1, 2, 3]}, "holds 3 values, not a positive multiple of 14"),
        ({"blocks": encode_vit_blocks([replace(RECORD, tokens=1)])}, "tokens is 1, outside 2"),
        ({"blocks": encode_vit_blocks([replace(RECORD, dim=-8)])}, "dim is -8"),
        ({"blocks": encode_vit_blocks([replace(RECORD, heads=3)])}, "heads does not divide dim"),
        ({"blocks": encode_vit_blocks([replace(RECORD, hidden=15)])}, "heads does not divide hidden"),
        ({"blocks": encode_vit_blocks([replace(RECORD, hidden=32)])}, "its record needs"),
        ({"blocks": encode_vit_blocks([replace(RECORD, tokens_in_mlp=1)])}, "tokens_in_mlp without token_policy"),
        ({"blocks": encode_vit_blocks([replace(RECORD, norm_policy=1)])}, "norm_policy without"),
        ({"blocks": encode_vit_blocks([replace(RECORD, head_width=1)])}, "without head_policy"),
        ({"blocks": encode_vit_blocks([replace(RECORD, head_width=3)])}, "head_width is 3"),
        ({"blocks": encode_vit_blocks([replace(RECORD, panel=24)])}, "panel is not a multiple of 16"),
        ({"blocks": encode_vit_blocks([replace(RECORD, reserved=1)])}, "reserved is 1"),
        ({"blocks": encode_vit_blocks([RECORD, RECORD])}, "2 blocks but 2 inputs"),
        ({"blocks": encode_vit_blocks([replace(RECORD, tokens=1 << 16, dim=1 << 14, heads=1)])}, "too many features"),
    ],
)
def test_runs_that_no_honest_scheduler_wrote(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        session_of(run_model([RECORD], [_packed()], **changes))


def test_runs_that_do_not_follow() -> None:
    for second, message in (
        (replace(RECORD, tokens=6), "its input is not the output"),
        (RECORD, "only the first token is computed"),
    ):
        first = replace(RECORD, first_only=int(second is RECORD))
        with pytest.raises(Exception, match=message):
            session_of(run_model([first, second], [_packed(first), _packed(second)]))


@pytest.mark.parametrize("shape", [(1, 4, 8), (1, 5, 9), (5, 8), (1, 1, 5, 8)])
def test_tokens_of_another_shape(shape: tuple[int, ...]) -> None:
    model = run_model([RECORD], [_packed()])
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(Exception, match=r"X must be \(batch, 5, 8\)"):
        session_of(model).run(None, {"X": np.zeros(shape, np.float32)})


def test_empty_batch() -> None:
    found = session_of(run_model([RECORD], [_packed()])).run(None, {"X": np.zeros((0, 5, 8), np.float32)})
    assert found[0].shape == (0, 5, 8) and found[1].shape == (0, 1, 4)

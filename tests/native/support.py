"""Scheduled models of one block, made directly from a record and weights, and sessions over them."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from laudc import backends
from laudc.ops.packing import BlockWeights, pack_block
from laudc.ops.scheduled import ABI_VERSION, DOMAIN, RUN_OP, BlockRecord, encode_blocks

Array = np.ndarray
OUTPUTS = ("Y", "counts", "margins", "block_ns")
# Least first; one that this machine lacks falls back to a lesser one.
ISAS = ("portable", "neon") if platform.machine() in ("aarch64", "arm64") else ("portable", "avx2", "avx512")


def run_model(
    records: Sequence[BlockRecord], packed: Sequence[Array], x_shape: Sequence[Any] | None = None, **changes: Any
) -> onnx.ModelProto:
    """A model whose only node is a run; `changes` replace attributes, None removes one."""
    attributes: dict[str, Any] = {"abi": ABI_VERSION, "blocks": encode_blocks(records), **changes}
    names = [f"packed.{i}" for i in range(len(packed))]
    node = helper.make_node(RUN_OP, ["X", *names], list(OUTPUTS), domain=DOMAIN, name="run")
    node.attribute.extend(
        helper.make_attribute(key, value, attr_type=onnx.AttributeProto.INTS if key == "blocks" else None)
        for key, value in attributes.items()
        if value is not None
    )
    head = records[0]
    types = (TensorProto.FLOAT, TensorProto.INT32, TensorProto.FLOAT, TensorProto.INT64)
    return _model(
        node,
        ("X", x_shape or ["batch", head.hin, head.win, head.cin]),
        list(zip(OUTPUTS, types, strict=True)),
        dict(zip(names, packed, strict=True)),
    )


def stem_model(packed: Array, x_shape: Sequence[Any] = ("batch", 3, "h", "w"), **attributes: Any) -> onnx.ModelProto:
    """A model whose only node is a stem."""
    node = helper.make_node("StemConvPool", ["X", "packed"], ["Y"], domain=DOMAIN, name="stem", **attributes)
    return _model(node, ("X", list(x_shape)), [("Y", TensorProto.FLOAT)], {"packed": packed})


def _model(
    node: onnx.NodeProto, x: tuple[str, Any], outputs: list[tuple[str, int]], arrays: dict[str, Array]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "single",
        [helper.make_tensor_value_info(x[0], TensorProto.FLOAT, x[1])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def session_of(model: onnx.ModelProto, threads: int = 1) -> Any:
    """A session with our operators."""
    return backends.get("onnxruntime").load(model.SerializeToString(), threads=threads).session


def run_block(record: BlockRecord, weights: BlockWeights, x: Array, threads: int = 1) -> dict[str, Array]:
    """Runs one block on x (B, C, H, W): Y (B, C, H, W), counts, margins, block_ns."""
    session = session_of(run_model([record], [pack_block(record, weights)]), threads)
    found = session.run(None, {"X": np.ascontiguousarray(x.transpose(0, 2, 3, 1))})
    results = dict(zip(OUTPUTS, found, strict=True))
    results["Y"] = results["Y"].transpose(0, 3, 1, 2)
    return results

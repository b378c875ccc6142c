"""The CUDA operator inside ONNX Runtime: on emulated kernels, where the build gave it to the CPU provider."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from laudc.ops.packing import pack_block
from laudc.ops.regnet_packing import pack_conv_block
from laudc.ops.scheduled import ABI_VERSION, DOMAIN, BlockRecord, encode_blocks
from tests.cuda.support import FP16, FP32, TF32
from tests.ops.carriers import COVERED, Carrier, RegNetCarrier
from tests.ops.regnet_vectors import REGNET_BLOCKS

Array = np.ndarray
LIBRARY = Path("build/native/plugins/tests/liblaudc_ort_cuda_emulation.so")


def require_library() -> None:
    """Skips, or fails where nothing may be skipped, without the library."""
    if LIBRARY.exists():
        return
    message = f"{LIBRARY} is not built: make native"
    if os.environ.get("LAUDC_REQUIRE_NATIVE") == "1" or os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(autouse=True, scope="session")
def _library() -> None:
    require_library()


def model_of(
    records: Sequence[BlockRecord], packed: Sequence[Array], precision: int, **changes: Any
) -> onnx.ModelProto:
    """A model whose only node is a run; `changes` replace attributes."""
    names = [f"packed.{i}" for i in range(len(packed))]
    attributes = {"abi": ABI_VERSION, "blocks": encode_blocks(records), "precision": precision, **changes}
    outputs = ["Y", "counts", "margins"]
    node = helper.make_node(records[0].RUN_OP, ["X", *names], outputs, domain=DOMAIN, name="run", **attributes)
    kind = TensorProto.FLOAT16 if precision == FP16 else TensorProto.FLOAT
    head = records[0]
    graph = helper.make_graph(
        [node],
        "single",
        [helper.make_tensor_value_info("X", kind, ["batch", head.hin, head.win, head.cin])],
        [
            helper.make_tensor_value_info(name, of, None)
            for name, of in zip(outputs, (kind, TensorProto.INT32, TensorProto.FLOAT), strict=True)
        ],
        [numpy_helper.from_array(array, name) for name, array in zip(names, packed, strict=True)],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(str(LIBRARY))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("precision", [FP32, TF32, FP16], ids=["fp32", "tf32", "fp16"])
def test_blocks(precision: int) -> None:
    element = np.float16 if precision == FP16 else np.float32
    carriers = [Carrier(case, identity=False) for case in COVERED[::17]]
    for carrier in (*carriers, *map(RegNetCarrier, REGNET_BLOCKS[::11])):
        case = carrier.case
        packed = pack_conv_block(carrier.record, carrier.weights)
        session = session_of(model_of([carrier.record], [packed], precision))
        x = np.ascontiguousarray(carrier.x.transpose(0, 2, 3, 1)).astype(element)
        y, counts, margins = session.run(None, {"X": x})
        assert y.dtype == element and counts.shape == (x.shape[0], 1, 4)
        assert margins.shape == (x.shape[0], carrier.record.margins)
        bound = (2e-6 if precision == FP32 else 6e-3) * max(1.0, float(np.abs(case.expected).max()))
        found = y.transpose(0, 3, 1, 2).astype(np.float32)
        np.testing.assert_allclose(found, case.expected, rtol=0, atol=bound, err_msg=case.name)
        # Once more, on warm memory; and one sample alone, whose tiles may be split differently.
        np.testing.assert_array_equal(session.run(["Y"], {"X": x})[0], y)
        alone = session.run(["Y"], {"X": x[:1]})[0].astype(np.float32)
        np.testing.assert_allclose(alone, y[:1].astype(np.float32), rtol=0, atol=bound)
        assert session.run(["Y"], {"X": x[:0]})[0].shape == (0, *y.shape[1:])


RECORD = BlockRecord(cin=8, width=4, cout=8, stride=1, hin=5, win=6, projection=0)


def _packed(size: int) -> Array:
    return np.zeros(size, np.float32)


def _size() -> int:
    zeros = np.zeros
    from laudc.ops.packing import BlockWeights

    weights = BlockWeights(
        conv1=(zeros((4, 8, 1, 1), np.float32), zeros(4, np.float32)),
        conv2=(zeros((4, 4, 3, 3), np.float32), zeros(4, np.float32)),
        conv3=(zeros((8, 4, 1, 1), np.float32), zeros(8, np.float32)),
    )
    return int(pack_block(RECORD, weights).size)


BAD_MODELS = {
    "future abi": (lambda: model_of([RECORD], [_packed(_size())], FP32, abi=ABI_VERSION + 1), "laudc ABI"),
    "bad precision": (lambda: model_of([RECORD], [_packed(_size())], 5), "precision is 5"),
    "winograd": (
        lambda: model_of([replace(RECORD, conv2_algorithm=1)], [_packed(_size())], FP32),
        "scheduled as Winograd",
    ),
    "weights too short": (lambda: model_of([RECORD], [_packed(_size() - 1)], FP32), "block 0: packed weights hold"),
    "weights missing": (lambda: model_of([RECORD, RECORD], [_packed(_size())], FP32), "2 blocks but 2 inputs"),
    "bad field": (lambda: model_of([replace(RECORD, stride=3)], [_packed(_size())], FP32), "block 0: stride is 3"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_models_are_refused(name: str) -> None:
    make, why = BAD_MODELS[name]
    with pytest.raises(Exception, match="laudc BottleneckRun: .*" + why):
        session_of(make())


def test_wrong_input_is_refused() -> None:
    model = model_of([RECORD], [_packed(_size())], FP32)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "h"
    session = session_of(model)
    with pytest.raises(Exception, match=r"X must be \(batch, 5, 6, 8\)"):
        session.run(None, {"X": np.zeros((1, 6, 6, 8), np.float32)})
    mixed = model_of([RECORD], [_packed(_size())], FP32)
    mixed.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    mixed.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(Exception, match="X must be float32"):
        session_of(mixed).run(None, {"X": np.zeros((1, 5, 6, 8), np.float16)})

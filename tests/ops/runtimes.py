"""Runs one semantic op, or any model, in plain ONNX Runtime and in the ONNX reference evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from laudc.ops import DEFAULT_OPSET, DOMAIN, SEMANTIC, VERSION, attach_bodies

Array = np.ndarray
Runner = Callable[[onnx.ModelProto, Mapping[str, Array]], list[Array]]


def single_op_model(
    op: str, inputs: Sequence[Array], attributes: Mapping[str, object], opset: int = DEFAULT_OPSET
) -> onnx.ModelProto:
    """A model of one node whose inputs are all graph inputs, with the batch of the first one dynamic."""
    spec = SEMANTIC[op]
    node = helper.make_node(op, spec.inputs, [spec.output], name="block", domain=DOMAIN, **attributes)
    infos = [
        helper.make_tensor_value_info(spec.inputs[0], TensorProto.FLOAT, ["batch", *inputs[0].shape[1:]])
    ]
    for name, array in zip(spec.inputs[1:], inputs[1:], strict=True):
        infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, _shape(name, array, len(inputs[0]))))
    made = spec.infer([array.shape for array in inputs], attributes)  # type: ignore[arg-type]
    output = helper.make_tensor_value_info(spec.output, TensorProto.FLOAT, ["batch", *made[1:]])
    graph = helper.make_graph([node], "single", infos, [output])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    return attach_bodies(model)


def _shape(name: str, array: Array, batch: int) -> list[object]:
    # A mask that stands for a missing policy has batch 1 whatever the batch is.
    dynamic = name in ("R", "C", "M") or (name in ("U", "V", "T", "H", "S") and len(array) == batch)
    return ["batch", *array.shape[1:]] if dynamic else list(array.shape)


def feed_of(op: str, inputs: Sequence[Array]) -> dict[str, Array]:
    """Inputs of `single_op_model` by name."""
    return dict(zip(SEMANTIC[op].inputs, inputs, strict=True))


def run_onnxruntime(model: onnx.ModelProto, feed: Mapping[str, Array]) -> list[Array]:
    """All outputs, from plain ONNX Runtime without any library of ours."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, dict(feed)))


def run_reference_evaluator(model: onnx.ModelProto, feed: Mapping[str, Array]) -> list[Array]:
    """All outputs, from onnx.reference."""
    from onnx.reference import ReferenceEvaluator

    return list(ReferenceEvaluator(model).run(None, dict(feed)))


RUNNERS: dict[str, Runner] = {"onnxruntime": run_onnxruntime, "reference": run_reference_evaluator}

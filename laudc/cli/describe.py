"""Facts about a model, for several verbs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

    from laudc.engine.manifest import Manifest


def runs_on(manifest: Manifest) -> str:
    """The processor and the runtime that an engine is compiled for, or what it is still to be compiled for."""
    runtime = f"{manifest.backend.name} {manifest.backend.version}"
    if not manifest.compiled:
        return f"not compiled yet, meant for {runtime}"
    if manifest.cpu is not None:
        return f"{manifest.cpu.arch}, {manifest.cpu.isa} kernels, {runtime}"
    assert manifest.gpu is not None
    return f"{manifest.gpu.name}, sm {manifest.gpu.sm}, driver for CUDA {manifest.gpu.driver}, {runtime}"


def onnx_facts(model: onnx.ModelProto) -> dict[str, Any]:
    """What an ONNX model is: origin, opsets, inputs, outputs, operators, weights, laudc's metadata."""
    from laudc.engine.build import metadata, tensor_record
    from laudc.ops import BLOCK_ENDS, DOMAIN

    operators = Counter(_operator(node) for node in model.graph.node)
    known = metadata(model)
    return {
        "arch": known.get("arch", "unknown"),
        "producer": f"{model.producer_name} {model.producer_version}".strip() or "unknown",
        "ir_version": model.ir_version,
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": [_tensor(tensor_record(info)) for info in model.graph.input],
        "outputs": [_tensor(tensor_record(info)) for info in model.graph.output],
        "operators": dict(sorted(operators.items())),
        "functions": sorted(f"{function.domain}.{function.name}" for function in model.functions),
        "dynamic_blocks": sum(node.domain == DOMAIN and node.op_type in BLOCK_ENDS for node in model.graph.node),
        "weights": _weight_count(model),
        "laudc": known,
    }


def _operator(node: onnx.NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type)


def _tensor(record: Any) -> dict[str, Any]:
    return {"name": record.name, "dtype": record.dtype, "shape": list(record.shape)}


def _weight_count(model: onnx.ModelProto) -> int:
    total = 0
    for tensor in model.graph.initializer:
        count = 1
        for size in tensor.dims:
            count *= size
        total += count
    return total


def prediction_line(predicted: Mapping[str, Any]) -> str:
    """A predicted latency in one sentence, with what it rests on."""
    latency = predicted["latency"]
    threads = predicted["threads"]
    shown = ", ".join(f"{key} {latency[f'{key}_us'] / 1e3:.2f} ms" for key in ("mean", "p95", "worst"))
    on = f", {threads} thread{'s' if threads != 1 else ''}" if threads else ""
    return f"Predicted ({predicted['status']}): {shown}; {predicted['activation']}, batch {predicted['batch']}{on}."

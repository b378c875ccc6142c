"""Portable graph + plan → the graphs that GPU runtimes run: TensorRT, and ONNX Runtime with CUDA.

The same records and packed weights as on the CPU (docs/architecture.md, "GPU ops"), without the CPU's stem and clock.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from laudc.devices.tensorrt import major
from laudc.errors import UserError
from laudc.ops import node_attributes
from laudc.ops.scheduled import DOMAIN, RECORDS, BlockRecord, Conv2Algorithm
from laudc.ops.scheduled_vit import VitRecord
from laudc.schedule.blocks import Graph
from laudc.schedule.half import to_half
from laudc.schedule.lower import Lowering
from laudc.schedule.plan import BlockPlan, Plan, describe

if TYPE_CHECKING:
    import onnx

PLUGIN_NAMESPACE = "laudc"
PLUGIN_VERSION = "1"
# The newest opset that the ONNX parser of TensorRT 8.2 was written for.
_TENSORRT8_OPSET = 13
_TENSORRT8_IR = 7
_FAR_END = 2**31 - 1


class Precision(enum.IntEnum):
    """Value of a run's attribute `precision`."""

    FP32 = 0
    TF32 = 1
    FP16 = 2

    @classmethod
    def named(cls, name: str) -> Precision:
        """From the manifest's word for it. Raises UserError for a precision that the GPU kernels do not have."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise UserError(
                f"the precision '{name}' is not available on GPUs",
                f"the kernels compute in {', '.join(member.name.lower() for member in cls)}",
                "use --precision fp16, or fp32 for exact comparisons",
            ) from None


def lower_onnxruntime_cuda(model: onnx.ModelProto, plan: Plan, precision: str = "fp32") -> onnx.ModelProto:
    """The scheduled model for ONNX Runtime's CUDA provider with our operators.

    Raises UserError for a precision that it does not have: graphs stay fp32 there, so fp16 is TensorRT's.
    """
    chosen = Precision.named(precision)
    if chosen is Precision.FP16:
        raise UserError(
            "the backend onnxruntime-cuda does not run fp16",
            "its graphs are fp32, with fp32 or tf32 arithmetic",
            "use --precision tf32, or --backend tensorrt for fp16",
        )
    return _GpuLowering(Graph(model), for_gpu(plan), chosen).model()


def lower_tensorrt(
    model: onnx.ModelProto, plan: Plan, precision: str = "fp16", *, tensorrt: str
) -> onnx.ModelProto:
    """The scheduled model for TensorRT's ONNX parser: every run a plugin node, no function bodies.

    Blocks scheduled dense become standard operators. For TensorRT 8 the graph is fp32 and the builder chooses (flags);
    from 10 on the graph itself says every type.

    Args:
        precision: "fp32", "tf32" or "fp16".
        tensorrt: version that will compile it, such as "8.2" or "10.3.0"; only the major counts.

    Raises:
        UserError: the precision is none of these, or the model cannot be written for this TensorRT.
    """
    chosen = Precision.named(precision)
    lowering = _TensorRt8Lowering if major(tensorrt) == 8 else _TypedTensorRtLowering
    return lowering(Graph(model), for_gpu(plan), chosen).model()


class _GpuLowering(Lowering):
    """What both GPU runtimes share."""

    def __init__(self, graph: Graph, plan: Plan, precision: Precision) -> None:
        super().__init__(graph, plan)
        self.precision = precision

    def _run_outputs(self, records: list[BlockRecord]) -> dict[str, tuple[int, list[int | str]]]:
        # Nothing may wait for the device to read a clock; times come from the runtime's profiler.
        outputs = super()._run_outputs(records)
        del outputs["block_ns"]
        return outputs

    def _run_attributes(self) -> dict[str, Any]:
        return {"precision": int(self.precision)}

    def _fuse_stem(self, value: str, result: str, channels: int) -> bool:
        return False


class _TensorRtLowering(_GpuLowering):
    def _run_attributes(self) -> dict[str, Any]:
        return {
            **super()._run_attributes(),
            "plugin_namespace": PLUGIN_NAMESPACE,
            "plugin_version": PLUGIN_VERSION,
        }

    def _fuse_heads(self) -> None:
        """Averaging over axes given as an input is too new for TensorRT 8; it moves Transposes well itself."""


class _TensorRt8Lowering(_TensorRtLowering):
    def _run_outputs(self, records: list[BlockRecord]) -> dict[str, tuple[int, list[int | str]]]:
        outputs = super()._run_outputs(records)
        # TensorRT 8 has no empty tensors.
        kind, (batch, total) = outputs["margins"]
        outputs["margins"] = (kind, [batch, max(1, int(total))])
        return outputs

    def _finished(self, lowered: onnx.ModelProto) -> onnx.ModelProto:
        return _in_old_opset(_without_bodies(lowered))


class _TypedTensorRtLowering(_TensorRtLowering):
    def _finished(self, lowered: onnx.ModelProto) -> onnx.ModelProto:
        if self.precision is not Precision.FP16:
            return _without_bodies(lowered)
        # Maskers are still whole at this point, so that none of their decisions is made in half precision.
        maskers = {function.name for function in lowered.functions if "Masker" in function.name}
        return _without_bodies(to_half(_without_bodies(lowered, keep=maskers), RECORDS))


def for_gpu(plan: Plan) -> Plan:
    """The plan as GPUs can run it: convolution blocks by our kernels, with the one conv2 algorithm that these have.

    Every other block is left to the runtime, dense.
    """
    return dataclasses.replace(plan, blocks=tuple(map(_block_for_gpu, plan.blocks)))


def _block_for_gpu(block: BlockPlan) -> BlockPlan:
    record = block.record
    if record is None:
        return block
    if isinstance(record, VitRecord):
        reason = "the GPU kernels do not cover transformer blocks"
        return dataclasses.replace(block, execution="dense", reason=reason, record=None)
    direct = dataclasses.replace(record, conv2_algorithm=Conv2Algorithm.DIRECT)
    return dataclasses.replace(block, record=direct, reason=describe(direct))


def _without_bodies(model: onnx.ModelProto, keep: set[str] | None = None) -> onnx.ModelProto:
    """Calls of our functions replaced by their bodies, but for those to `keep`; CastLike, which no parser needs to
    know, becomes the Cast that it stands for."""
    import onnx
    import onnx.inliner

    if model.functions:
        kept = [(function.domain, function.name) for function in model.functions if function.name in (keep or ())]
        # The inliner takes names, and `exclude` says that they are the ones to leave.
        model = onnx.inliner.inline_selected_functions(model, kept, exclude=True)
    for node in model.graph.node:
        if node.op_type == "CastLike" and node.domain == "":
            node.op_type = "Cast"
            del node.input[1:]
            node.attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.FLOAT))
    return model


def _in_old_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in the opset of TensorRT 8's parser. Raises UserError when some operator is too new for it."""
    import onnx

    nodes = [old for node in model.graph.node for old in _in_old_words(node, model.graph)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = _TENSORRT8_OPSET
    model.ir_version = _TENSORRT8_IR
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise UserError(
            "this network cannot be written for TensorRT 8",
            f"its parser knows opset {_TENSORRT8_OPSET} and the graph needs more: {str(error).splitlines()[0]}",
            "build for a device with TensorRT 10 or newer, or with --schedule sparse",
        ) from error
    return model


def _in_old_words(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """What newer opsets say in attributes, said as opset 13 says it. Constants that it takes are added to `graph`."""
    import onnx

    attributes = node_attributes(node)
    if node.op_type == "Split":  # equal parts need no number before opset 18
        kept = [attribute for attribute in node.attribute if attribute.name != "num_outputs"]
        del node.attribute[:]
        node.attribute.extend(kept)
    if node.op_type != "Shape" or not attributes:
        return [node]
    result, whole = node.output[0], f"{node.output[0]}.whole"
    bounds = {"starts": attributes.get("start", 0), "ends": attributes.get("end", _FAR_END)}
    for name, value in bounds.items():
        graph.initializer.append(
            onnx.helper.make_tensor(f"{result}.{name}", onnx.TensorProto.INT64, [1], [int(value)])  # type: ignore[arg-type]
        )
    return [
        onnx.helper.make_node("Shape", list(node.input), [whole], name=whole),
        onnx.helper.make_node("Slice", [whole, *(f"{result}.{name}" for name in bounds)], [result], name=result),
    ]


def run_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of a lowered model that must become plugin layers."""
    return [node for node in model.graph.node if node.domain == DOMAIN]


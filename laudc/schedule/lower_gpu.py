"""Portable graph + plan → the graphs that GPU runtimes run: TensorRT, and ONNX Runtime with CUDA.

The same records and packed weights as on the CPU (docs/architecture.md, "GPU ops"), without the CPU's stem and clock.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from laudc.devices.tensorrt import major
from laudc.errors import UserError
from laudc.ops.scheduled import DOMAIN, RECORDS, Conv2Algorithm
from laudc.ops.scheduled_vit import VIT_RUN_OP, WIDEST_GPU_HEAD, VitRecord
from laudc.schedule.blocks import Graph
from laudc.schedule.half import to_half
from laudc.schedule.lower import Lowering
from laudc.schedule.lower_vit import VitLowering, is_transformer
from laudc.schedule.lowering import Output, Records, RunLowering
from laudc.schedule.old_opset import in_old_opset
from laudc.schedule.plan import BlockPlan, Plan, describe

if TYPE_CHECKING:
    import onnx

PLUGIN_NAMESPACE = "laudc"
PLUGIN_VERSION = "1"


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
    graph = Graph(model)
    lowering = _CudaVit if is_transformer(graph) else _CudaConv
    return lowering(graph, for_gpu(plan), chosen).model()


def lower_tensorrt(model: onnx.ModelProto, plan: Plan, precision: str = "fp16", *, tensorrt: str) -> onnx.ModelProto:
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
    graph = Graph(model)
    old: type[_GpuRuns] = _TensorRt8Vit if is_transformer(graph) else _TensorRt8Conv
    typed: type[_GpuRuns] = _TypedVit if is_transformer(graph) else _TypedConv
    lowering = old if major(tensorrt) == 8 else typed
    return lowering(graph, for_gpu(plan), chosen).model()


class _GpuRuns(RunLowering):
    """What all GPU runtimes share, for blocks of every family."""

    def __init__(self, graph: Graph, plan: Plan, precision: Precision) -> None:
        super().__init__(graph, plan)
        self.precision = precision

    def _run_outputs(self, records: Records) -> dict[str, Output]:
        # Nothing may wait for the device to read a clock; times come from the runtime's profiler.
        outputs = super()._run_outputs(records)
        del outputs["block_ns"]
        return outputs

    def _run_attributes(self) -> dict[str, Any]:
        return {"precision": int(self.precision)}


class _TensorRt(_GpuRuns):
    def _run_attributes(self) -> dict[str, Any]:
        return {
            **super()._run_attributes(),
            "plugin_namespace": PLUGIN_NAMESPACE,
            "plugin_version": PLUGIN_VERSION,
        }


class _TensorRt8(_TensorRt):
    def _run_outputs(self, records: Records) -> dict[str, Output]:
        outputs = super()._run_outputs(records)
        # TensorRT 8 has no empty tensors.
        kind, (batch, total) = outputs["margins"]
        outputs["margins"] = (kind, [batch, max(1, int(total))])
        return outputs

    def _finished(self, lowered: onnx.ModelProto) -> onnx.ModelProto:
        return in_old_opset(_without_bodies(lowered))


class _TypedTensorRt(_TensorRt):
    def _finished(self, lowered: onnx.ModelProto) -> onnx.ModelProto:
        if self.precision is not Precision.FP16:
            return _without_bodies(lowered)
        # Maskers are still whole at this point, so that none of their decisions is made in half precision.
        maskers = {function.name for function in lowered.functions if "Masker" in function.name}
        return _without_bodies(to_half(_without_bodies(lowered, keep=maskers), {*RECORDS, VIT_RUN_OP}))


class _CudaConv(_GpuRuns, Lowering):
    def _fuse_stem(self, value: str, result: str, channels: int) -> bool:
        return False


class _TensorRtConv(_CudaConv):
    def _fuse_heads(self) -> None:
        """Averaging over axes given as an input is too new for TensorRT 8; it moves Transposes well itself."""


class _CudaVit(_GpuRuns, VitLowering):
    pass


class _TensorRt8Conv(_TensorRt8, _TensorRtConv):
    pass


class _TensorRt8Vit(_TensorRt8, _CudaVit):
    pass


class _TypedConv(_TypedTensorRt, _TensorRtConv):
    pass


class _TypedVit(_TypedTensorRt, _CudaVit):
    pass


def for_gpu(plan: Plan) -> Plan:
    """The plan as GPUs can run it: with the one conv2 algorithm that their kernels have.

    Blocks that these kernels do not cover are left to the runtime, dense.
    """
    return dataclasses.replace(plan, blocks=tuple(map(_block_for_gpu, plan.blocks)))


def _block_for_gpu(block: BlockPlan) -> BlockPlan:
    record = block.record
    if record is None:
        return block
    if isinstance(record, VitRecord):
        if record.head_dim <= WIDEST_GPU_HEAD:
            return block
        limit = f"the GPU kernels take attention heads of at most {WIDEST_GPU_HEAD} features"
        reason = f"{limit}, these have {record.head_dim}"
        return dataclasses.replace(block, execution="dense", reason=reason, record=None)
    if record.conv2_algorithm == Conv2Algorithm.DIRECT:
        return block
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


def run_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of a lowered model that must become plugin layers."""
    return [node for node in model.graph.node if node.domain == DOMAIN]

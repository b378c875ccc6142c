"""What every lowering shares, whatever the blocks and the runtime: assembling the model, the outputs of runs."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from laudc.export.rewrite import in_use
from laudc.ops.scheduled import COUNTS_PER_BLOCK, DOMAIN, RUNS_KEY, BlockRecord
from laudc.ops.scheduled_vit import VitRecord
from laudc.schedule.blocks import Graph
from laudc.schedule.plan import Plan

if TYPE_CHECKING:
    import onnx

Records = Sequence[BlockRecord] | Sequence[VitRecord]
Output = tuple[int, list[int | str]]


class RunLowering(ABC):
    """Portable graph + plan → scheduled model. As it stands it is for ONNX Runtime on CPUs; what another runtime wants
    differently it overrides.
    """

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.graph = graph
        self.records = {block.name: block.record for block in plan.blocks}
        self.nodes: list[onnx.NodeProto] = []
        self.new_initializers: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.results: list[onnx.ValueInfoProto] = []
        self.runs: list[dict[str, Any]] = []

    @abstractmethod
    def model(self) -> onnx.ModelProto:
        """The scheduled model."""

    def _run_outputs(self, records: Records) -> dict[str, Output]:
        """Type and shape of what a run reports beside its result."""
        import onnx

        types, blocks = onnx.TensorProto, len(records)
        return {
            "counts": (types.INT32, ["batch", blocks, COUNTS_PER_BLOCK]),
            "margins": (types.FLOAT, ["batch", sum(record.margins for record in records)]),
            "block_ns": (types.INT64, [blocks]),
        }

    def _run_attributes(self) -> dict[str, Any]:
        """Attributes of a run beside its records."""
        return {}

    def _finished(self, lowered: onnx.ModelProto) -> onnx.ModelProto:
        """What else a runtime needs done to the lowered model."""
        return lowered

    def _add_outputs(self, result: str, names: dict[str, str], outputs: dict[str, Output]) -> None:
        import onnx

        # Our operator for ONNX Runtime on GPUs takes maps of several types, so the graph has to say which.
        self.results.append(onnx.helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, None))
        self.outputs += [
            onnx.helper.make_tensor_value_info(names[key], kind, shape) for key, (kind, shape) in outputs.items()
        ]

    def _initializer(self, name: str, array: Any) -> str:
        from onnx import numpy_helper

        self.new_initializers.append(numpy_helper.from_array(array, name))
        return name

    def _assembled(self) -> onnx.ModelProto:
        """The model of the nodes that some output depends on."""
        import onnx

        source = self.graph.model
        outputs = [*source.graph.output, *self.outputs]
        nodes = in_use(self.nodes, outputs)
        used = {name for node in nodes for name in node.input}
        weights = [t for t in (*source.graph.initializer, *self.new_initializers) if t.name in used]
        lowered = onnx.helper.make_graph(
            nodes, source.graph.name, source.graph.input, outputs, weights, value_info=self.results
        )
        bodies = {node.op_type for node in nodes if node.domain == DOMAIN}
        out = onnx.helper.make_model(
            lowered,
            opset_imports=source.opset_import,
            ir_version=source.ir_version,
            producer_name="laudc",
            functions=[function for function in source.functions if function.name in bodies],
        )
        out.metadata_props.extend(source.metadata_props)
        out.metadata_props.add(key=RUNS_KEY, value=json.dumps(self.runs))
        return self._finished(out)

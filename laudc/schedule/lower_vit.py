"""Lowering of transformer blocks: portable graph + plan → the graph that ONNX Runtime runs with our library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from laudc.ops.packing_vit import pack_vit_block
from laudc.ops.scheduled import ABI_VERSION, DOMAIN, RUNS_KEY
from laudc.ops.scheduled_vit import VIT_RUN_OP, VitRecord, encode_vit_blocks
from laudc.schedule.blocks import Graph
from laudc.schedule.vit_blocks import VitBlock, vit_blocks, vit_weights

if TYPE_CHECKING:
    import onnx

    from laudc.schedule.plan import Plan

Run = list[tuple[VitBlock, VitRecord]]


def lower_vit(graph: Graph, plan: Plan) -> onnx.ModelProto:
    """The scheduled model of a transformer. Consecutive sparse blocks become one `VitRun`; dense ones keep their body.

    Extra outputs and metadata are as of `laudc.schedule.lower`.
    """
    return _Lowering(graph, plan).model()


class _Lowering:
    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.graph = graph
        self.blocks = vit_blocks(graph)
        self.records = {block.name: block.record for block in plan.blocks}
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.runs: list[dict[str, Any]] = []

    def model(self) -> onnx.ModelProto:
        import onnx

        from laudc.schedule.lower import in_use

        runs = list(self._runs())
        replaced = {id(node): run for run in runs for block, _ in run for node in block.nodes}
        emitted: set[int] = set()
        for node in self.graph.model.graph.node:
            run = replaced.get(id(node))
            if run is None:
                self.nodes.append(node)
            elif id(run) not in emitted:
                emitted.add(id(run))
                self._emit(run)
        self._expose_dense()
        source = self.graph.model
        outputs = [*source.graph.output, *self.outputs]
        nodes = in_use(self.nodes, [value.name for value in outputs])
        used = {name for node in nodes for name in node.input}
        weights = [tensor for tensor in (*source.graph.initializer, *self.weights) if tensor.name in used]
        lowered = onnx.helper.make_graph(nodes, source.graph.name, source.graph.input, outputs, weights)
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
        return out

    def _runs(self) -> Iterator[Run]:
        """Maximal chains of sparse blocks in which each reads only the one before."""
        run: Run = []
        for block in self.blocks:
            record = self.records[block.name]
            if run and (record is None or not self._continues(run[-1][0], block)):
                yield run
                run = []
            if isinstance(record, VitRecord):
                run.append((block, record))
        if run:
            yield run

    def _continues(self, previous: VitBlock, block: VitBlock) -> bool:
        inside = {id(node) for node in block.nodes}
        readers = self.graph.consumers.get(previous.output, [])
        return block.input == previous.output and all(id(node) in inside for node in readers)

    def _emit(self, run: Run) -> None:
        import onnx
        from onnx import numpy_helper

        first, last = run[0][0], run[-1][0]
        packed = []
        for block, record in run:
            name = f"{block.name}.packed"
            array = pack_vit_block(record, vit_weights(self.graph, block))
            self.weights.append(numpy_helper.from_array(array, name))
            packed.append(name)
        index = len(self.runs)
        keys = {key: f"laudc.{key}.{index}" for key in ("counts", "margins", "block_ns")}
        self.nodes.append(
            onnx.helper.make_node(
                VIT_RUN_OP,
                [first.input, *packed],
                [last.output, *keys.values()],
                name=first.name if first is last else f"{first.name}-{last.name}",
                domain=DOMAIN,
                abi=ABI_VERSION,
                blocks=encode_vit_blocks([record for _, record in run]),
            )
        )
        total = sum(record.margins for _, record in run)
        types = onnx.TensorProto
        self.outputs += [
            onnx.helper.make_tensor_value_info(keys["counts"], types.INT32, ["batch", len(run), 4]),
            onnx.helper.make_tensor_value_info(keys["margins"], types.FLOAT, ["batch", total]),
            onnx.helper.make_tensor_value_info(keys["block_ns"], types.INT64, [len(run)]),
        ]
        described = [
            {"name": block.name, "decisions": record.decisions, **asdict(record)} for block, record in run
        ]
        self.runs.append({**keys, "blocks": described})

    def _expose_dense(self) -> None:
        """Masks of dense blocks become outputs, so that they can be traced like those of the runs."""
        import onnx

        for block in self.blocks:
            if self.records[block.name] is not None:
                continue
            entry: dict[str, Any] = {"name": block.name}
            for kind, policy in block.policies.items():
                value = policy.output[0]
                dims = ["batch", *self.graph.shapes[value][1:]]
                self.outputs.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, dims))
                entry[f"{kind}_mask"] = value
            self.runs.append({"dense": entry})

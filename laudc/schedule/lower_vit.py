"""Lowering of transformer blocks: portable graph + plan → the graph that runs with our library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from laudc.ops.packing_vit import pack_vit_block
from laudc.ops.scheduled import ABI_VERSION, DOMAIN
from laudc.ops.scheduled_vit import VIT_RUN_OP, VitRecord, encode_vit_blocks
from laudc.schedule.blocks import Graph
from laudc.schedule.lowering import RunLowering
from laudc.schedule.vit_blocks import VitBlock, vit_blocks, vit_weights

if TYPE_CHECKING:
    import onnx

    from laudc.schedule.plan import Plan

Run = list[tuple[VitBlock, VitRecord]]


def is_transformer(graph: Graph) -> bool:
    """Whether a network's blocks are those of transformers."""
    return not graph.blocks()


class VitLowering(RunLowering):
    """The lowering of transformer blocks. Consecutive sparse blocks become one `VitRun`; dense ones keep their body."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        super().__init__(graph, plan)
        self.blocks = vit_blocks(graph)

    def model(self) -> onnx.ModelProto:
        """The scheduled model."""
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
        return self._assembled()

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

        first, last = run[0][0], run[-1][0]
        records = [record for _, record in run]
        packed = [
            self._initializer(f"{block.name}.packed", pack_vit_block(record, vit_weights(self.graph, block)))
            for block, record in run
        ]
        outputs = self._run_outputs(records)
        names = {key: f"laudc.{key}.{len(self.runs)}" for key in outputs}
        self.nodes.append(
            onnx.helper.make_node(
                VIT_RUN_OP,
                [first.input, *packed],
                [last.output, *names.values()],
                name=first.name if first is last else f"{first.name}-{last.name}",
                domain=DOMAIN,
                abi=ABI_VERSION,
                blocks=encode_vit_blocks(records),
                **self._run_attributes(),
            )
        )
        self._add_outputs(last.output, names, outputs)
        described = [{"name": block.name, "decisions": record.decisions, **asdict(record)} for block, record in run]
        self.runs.append({**names, "blocks": described})

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

"""Portable graph + plan → the graph that ONNX Runtime runs with our library."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from laudc.ops import node_attributes
from laudc.ops.packing import pack_stem
from laudc.ops.regnet_packing import pack_conv_block
from laudc.ops.scheduled import ABI_VERSION, DOMAIN, BlockRecord, encode_blocks
from laudc.schedule.blocks import BlockNodes, Graph
from laudc.schedule.lower_vit import VitLowering, is_transformer
from laudc.schedule.lowering import RunLowering
from laudc.schedule.plan import Plan
from laudc.schedule.stem import find_stem

if TYPE_CHECKING:
    import onnx

_TO_NHWC = [0, 2, 3, 1]
_TO_NCHW = [0, 3, 1, 2]


def lower(model: onnx.ModelProto, plan: Plan) -> onnx.ModelProto:
    """The scheduled model. Consecutive sparse blocks become one `BottleneckRun`, `RegNetRun` or `VitRun`; dense
    ones keep their body.

    Beside `logits` the graph has, per run, the outputs `laudc.counts.i`, `laudc.margins.i` and `laudc.block_ns.i`, and
    for every dense block its masks; the metadata `laudc.runs` says which blocks they describe.
    """
    graph = Graph(model)
    lowering = VitLowering if is_transformer(graph) else Lowering
    return lowering(graph, plan).model()


class Lowering(RunLowering):
    """The lowering of convolution blocks."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        super().__init__(graph, plan)
        self.blocks = {block.name: block for block in graph.blocks()}
        self.panel = plan.panel
        self.replaced: set[int] = set()
        self.nhwc: dict[str, str] = {}

    def model(self) -> onnx.ModelProto:
        """The scheduled model."""
        runs = list(self._runs())
        starts = {id(run[0].bottleneck): run for run in runs}
        self.replaced = {id(node) for run in runs for block in run for node in block.nodes}
        for node in self.graph.model.graph.node:
            if id(node) in starts:
                self._emit_run(starts[id(node)])
            elif id(node) not in self.replaced:
                self.nodes.append(node)
        self._fuse_heads()
        self._expose_masks()
        return self._assembled()

    def _runs(self) -> Iterable[list[BlockNodes]]:
        """Maximal chains of sparse blocks in which each reads only the one before."""
        run: list[BlockNodes] = []
        for block in self.blocks.values():
            sparse = self.records[block.name] is not None
            if run and (not sparse or not self._continues(run[-1], block)):
                yield run
                run = []
            if sparse:
                run.append(block)
        if run:
            yield run

    def _continues(self, previous: BlockNodes, block: BlockNodes) -> bool:
        inside = {id(node) for node in block.nodes}
        readers = self.graph.consumers.get(previous.output, [])
        same_family = block.is_regnet == previous.is_regnet
        return same_family and block.input == previous.output and all(id(node) in inside for node in readers)

    def _emit_run(self, run: list[BlockNodes]) -> None:
        import onnx

        records: list[BlockRecord] = []
        packed = []
        for block in run:
            record = self.records[block.name]
            assert isinstance(record, BlockRecord)
            records.append(record)
            packed.append(self._initializer(f"{block.name}.packed", pack_conv_block(record, self.graph.weights(block))))
        index = len(self.runs)
        outputs = self._run_outputs(records)
        names = {key: f"laudc.{key}.{index}" for key in outputs}
        result = f"{run[-1].output}.nhwc"
        label = run[0].name if len(run) == 1 else f"{run[0].name}-{run[-1].name}"
        self.nodes.append(
            onnx.helper.make_node(
                records[0].RUN_OP,
                [self._nhwc_of(run[0].input, records[0].cin), *packed],
                [result, *names.values()],
                name=label,
                domain=DOMAIN,
                abi=ABI_VERSION,
                blocks=encode_blocks(records),
                **self._run_attributes(),
            )
        )
        self.nhwc[run[-1].output] = result
        self.nodes.append(_transpose(result, run[-1].output, _TO_NCHW))
        self._add_outputs(result, names, outputs)
        blocks = [{"name": b.name, **asdict(r)} for b, r in zip(run, records, strict=True)]
        self.runs.append({**names, "blocks": blocks})

    def _nhwc_of(self, value: str, channels: int) -> str:
        """The NHWC form of an NCHW value: known already, made by the fused stem, or by a Transpose."""
        if value in self.nhwc:
            return self.nhwc[value]
        name = f"{value}.nhwc"
        if not self._fuse_stem(value, name, channels):
            self.nodes.append(_transpose(value, name, _TO_NHWC))
        self.nhwc[value] = name
        return name

    def _fuse_stem(self, value: str, result: str, channels: int) -> bool:
        """The layers that make the first run's input from the image become one op, where our kernels know them."""
        import onnx

        stem = find_stem(self.graph, value)
        if stem is None:
            return False
        weight, bias = self.graph.array(stem.conv.input[1]), self.graph.array(stem.conv.input[2])
        packed = self._initializer("stem.packed", pack_stem(weight, bias, self.panel))
        self.nodes.append(
            onnx.helper.make_node(
                stem.op,
                [stem.conv.input[0], packed],
                [result],
                name="stem",
                domain=DOMAIN,
                abi=ABI_VERSION,
                channels=channels,
                panel=self.panel,
            )
        )
        return True

    def _fuse_heads(self) -> None:
        """Global average pooling reads NHWC as well as NCHW: spares the Transpose before it."""
        import onnx

        for at, node in enumerate(self.nodes):
            if node.op_type != "GlobalAveragePool" or node.input[0] not in self.nhwc:
                continue
            readers = self.graph.consumers.get(node.output[0], [])
            if not all(reader.op_type == "Flatten" and _axis(reader) == 1 for reader in readers):
                continue
            axes = f"{node.output[0]}.axes"
            self.new_initializers.append(onnx.helper.make_tensor(axes, onnx.TensorProto.INT64, [2], [1, 2]))
            self.nodes[at] = onnx.helper.make_node(
                "ReduceMean", [self.nhwc[node.input[0]], axes], list(node.output), name=node.name, keepdims=1
            )

    def _expose_masks(self) -> None:
        """Masks of dense blocks become outputs, so that they can be traced like those of the runs."""
        import onnx

        for block in self.blocks.values():
            if self.records[block.name] is not None:
                continue
            entry: dict[str, Any] = {"name": block.name}
            for kind, masker in (("spatial", block.spatial_masker), ("channel", block.channel_masker)):
                if masker is None:
                    continue
                value = masker.output[0]
                groups, rows, columns = block.spatial_mask
                dims = [groups, rows, columns] if kind == "spatial" else [block.channel_groups]
                self.outputs.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, ["batch", *dims]))
                entry[f"{kind}_mask"] = value
            self.runs.append({"dense": entry})



def _transpose(source: str, target: str, perm: list[int]) -> onnx.NodeProto:
    import onnx

    return onnx.helper.make_node("Transpose", [source], [target], name=f"{target}/Transpose", perm=perm)


def _axis(node: onnx.NodeProto) -> int:
    return int(node_attributes(node).get("axis", 1))  # type: ignore[arg-type]

"""Plain graphs derived from the portable one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from laudc.errors import UserError
from laudc.export.dense_vit import dense_attention, dense_mlp
from laudc.ops import (
    BLOCKS,
    BOTTLENECKS,
    DOMAIN,
    MASKERS,
    Geometry,
    block_inputs,
    check_contract,
    known_shapes,
)

if TYPE_CHECKING:
    import onnx

    from laudc.ops.spec import Shape


def dense_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network as plain ONNX with every mask fully kept and no masker.

    Each block becomes Conv+Relu, Conv+Relu, Conv+Add+Relu, the pattern that runtimes fuse; weights are shared
    with the portable graph by name. This is the peer that speed is compared with.

    Args:
        model: portable graph; it is not changed.

    Raises:
        UserError: the graph is not portable ONNX as `laudc.export` writes it.
    """
    from onnx import helper

    _require_portable(model)
    source = model.graph
    shapes = known_shapes(model)
    nodes = in_use([made for node in source.node for made in _dense(node, shapes)], source.output)
    used = {name for node in nodes for name in (*node.input, *node.output)}
    graph = helper.make_graph(
        nodes,
        source.name,
        list(source.input),
        list(source.output),
        initializer=[tensor for tensor in source.initializer if tensor.name in used],
        value_info=[info for info in source.value_info if info.name in used],
    )
    imports = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    twin = helper.make_model(graph, opset_imports=imports, ir_version=model.ir_version)
    twin.producer_name, twin.producer_version = model.producer_name, model.producer_version
    twin.metadata_props.extend(model.metadata_props)
    return twin


def with_masks_as_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The portable graph with every mask (`BLOCK.mask_channel`, `BLOCK.mask_spatial`) as a further graph
    output.

    The first output stays what it was; masks follow in the order of the nodes. The given model is not
    changed.

    Raises:
        UserError: the graph is not portable ONNX as `laudc.export` writes it.
    """
    _require_portable(model)
    shown = type(model)()
    shown.CopyFrom(model)
    infos = {info.name: info for info in shown.graph.value_info}
    present = {output.name for output in shown.graph.output}
    for node in shown.graph.node:
        if node.op_type in MASKERS and node.output[0] not in present:
            shown.graph.output.append(infos[node.output[0]])
    return shown


def _require_portable(model: onnx.ModelProto) -> None:
    check_contract(model)
    known = {info.name for info in model.graph.value_info} | {info.name for info in model.graph.output}
    maskers = [node for node in model.graph.node if node.op_type in MASKERS]
    if not maskers or not all(node.output[0] in known for node in maskers):
        raise UserError(
            "this is not a portable model",
            "it has no masker, or does not declare the shapes of its masks",
            "Use the file that laudc export wrote",
        )


def in_use(nodes: list[onnx.NodeProto], outputs: Iterable[onnx.ValueInfoProto]) -> list[onnx.NodeProto]:
    """The nodes that some output depends on, in order: what only a masker read goes with it."""
    wanted = {value.name for value in outputs}
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _dense(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Iterator[onnx.NodeProto]:
    """The plain nodes that stand for one node of the portable graph."""
    if node.op_type in BLOCKS:
        yield from _dense_bottleneck(node) if node.op_type in BOTTLENECKS else _dense_regnet_block(node)
    elif node.op_type == "DynamicAttention":
        heads = shapes[node.input[3]][1]
        assert heads is not None
        yield from dense_attention(node, heads)
    elif node.op_type == "DynamicMlp":
        yield from dense_mlp(node)
    elif node.op_type not in MASKERS:
        yield node


class _Steps:
    """Makes the plain nodes of one block, each named after the block's module path and its part."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self.name = node.name
        self.output = node.output[0]
        self.geometry = Geometry.from_node(node)
        self.inputs = block_inputs(node)

    def step(self, op: str, part: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
        """A node whose output is `self.made(part)`."""
        from onnx import helper

        return helper.make_node(op, inputs, [self.made(part)], name=f"{self.name}.{part}", **attributes)

    def made(self, part: str) -> str:
        """Name of what a part makes."""
        return f"{self.name}.{part}.output"

    def conv1x1(self, part: str, x: str, weight: str, bias: str) -> onnx.NodeProto:
        """A 1×1 convolution."""
        return self.step("Conv", part, [x, weight, bias], kernel_shape=[1, 1])

    def conv3x3(self, part: str, x: str, weight: str, bias: str) -> onnx.NodeProto:
        """The block's 3×3 convolution."""
        return self.step(
            "Conv",
            part,
            [x, weight, bias],
            kernel_shape=[3, 3],
            strides=[self.geometry.stride] * 2,
            pads=[self.geometry.dilation] * 4,
            dilations=[self.geometry.dilation] * 2,
            group=self.geometry.group,
        )

    def residual(self, branch: str) -> Iterator[onnx.NodeProto]:
        """relu(branch + residual), the block's output."""
        from onnx import helper

        yield self.step("Add", "add", [self.made(branch), self.inputs.residual])
        yield helper.make_node("Relu", [self.made("add")], [self.output], name=f"{self.name}.relu3")


def _dense_bottleneck(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    s = _Steps(node)
    w1, b1, w2, b2, w3, b3 = s.inputs.weights
    yield s.conv1x1("conv1", s.inputs.x, w1, b1)
    yield s.step("Relu", "relu1", [s.made("conv1")])
    yield s.conv3x3("conv2", s.made("relu1"), w2, b2)
    yield s.step("Relu", "relu2", [s.made("conv2")])
    yield s.conv1x1("conv3", s.made("relu2"), w3, b3)
    yield from s.residual("conv3")


def _dense_regnet_block(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    s = _Steps(node)
    wa, ba, wb, bb, ws, bs, we, be, wc, bc = s.inputs.weights
    yield s.conv1x1("a", s.inputs.x, wa, ba)
    yield s.step("Relu", "relu_a", [s.made("a")])
    yield s.conv3x3("b", s.made("relu_a"), wb, bb)
    yield s.step("Relu", "relu_b", [s.made("b")])
    yield s.step("GlobalAveragePool", "se.mean", [s.made("relu_b")])
    yield s.conv1x1("se.fc1", s.made("se.mean"), ws, bs)
    yield s.step("Relu", "se.relu", [s.made("se.fc1")])
    yield s.conv1x1("se.fc2", s.made("se.relu"), we, be)
    yield s.step("Sigmoid", "se.gate", [s.made("se.fc2")])
    yield s.step("Mul", "se.scale", [s.made("relu_b"), s.made("se.gate")])
    yield s.conv1x1("c", s.made("se.scale"), wc, bc)
    yield from s.residual("c")

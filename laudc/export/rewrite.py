"""Plain graphs derived from the portable one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from laudc.errors import UserError
from laudc.ops import BOTTLENECKS, DOMAIN, MASKERS, Geometry, check_contract

if TYPE_CHECKING:
    import onnx


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
    nodes = [made for node in source.node for made in _dense(node)]
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


def _dense(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The plain nodes that stand for one node of the portable graph."""
    if node.op_type in BOTTLENECKS:
        yield from _dense_block(node)
    elif node.op_type not in MASKERS:
        yield node


def _dense_block(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    from onnx import helper

    geometry = Geometry.from_node(node)
    x, residual = node.input[:2]
    w1, b1, w2, b2, w3, b3 = node.input[-6:]
    name = node.name

    def step(op: str, part: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [f"{name}.{part}.output"], name=f"{name}.{part}", **attributes)

    yield step("Conv", "conv1", [x, w1, b1], kernel_shape=[1, 1])
    yield step("Relu", "relu1", [f"{name}.conv1.output"])
    yield step(
        "Conv",
        "conv2",
        [f"{name}.relu1.output", w2, b2],
        kernel_shape=[3, 3],
        strides=[geometry.stride] * 2,
        pads=[geometry.dilation] * 4,
        dilations=[geometry.dilation] * 2,
        group=geometry.group,
    )
    yield step("Relu", "relu2", [f"{name}.conv2.output"])
    yield step("Conv", "conv3", [f"{name}.relu2.output", w3, b3], kernel_shape=[1, 1])
    yield step("Add", "add", [f"{name}.conv3.output", residual])
    yield helper.make_node("Relu", [f"{name}.add.output"], [node.output[0]], name=f"{name}.relu3")

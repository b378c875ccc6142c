"""A graph in the opset that TensorRT 8's ONNX parser was written for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from laudc.errors import UserError
from laudc.ops import node_attributes

if TYPE_CHECKING:
    import onnx

# The newest opset that the ONNX parser of TensorRT 8.2 was written for.
_TENSORRT8_OPSET = 13
_TENSORRT8_IR = 7
_FAR_END = 2**31 - 1


def in_old_opset(model: onnx.ModelProto) -> onnx.ModelProto:
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
    if node.op_type == "LayerNormalization":
        return _layer_norm(node, graph)
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


def _layer_norm(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """LayerNormalization over the last axis, which opset 17 brought, from the operators that it stands for."""
    import onnx

    x, weight, bias = node.input
    attributes = node_attributes(node)
    if attributes.get("axis", -1) != -1 or len(node.output) != 1:
        return [node]
    result = node.output[0]
    epsilon = float(attributes.get("epsilon", 1e-5))  # type: ignore[arg-type]
    small = onnx.helper.make_tensor(f"{result}.epsilon", onnx.TensorProto.FLOAT, [], [epsilon])
    graph.initializer.append(small)
    made: list[onnx.NodeProto] = []

    def step(op: str, name: str, inputs: list[str], **more: Any) -> str:
        output = result if name == "shifted" else f"{result}.{name}"
        made.append(onnx.helper.make_node(op, inputs, [output], name=output, **more))
        return output

    apart = step("Sub", "apart", [x, step("ReduceMean", "mean", [x], axes=[-1], keepdims=1)])
    squares = step("Mul", "squares", [apart, apart])
    variance = step("ReduceMean", "variance", [squares], axes=[-1], keepdims=1)
    deviation = step("Sqrt", "deviation", [step("Add", "positive", [variance, small.name])])
    normal = step("Div", "normal", [apart, deviation])
    step("Add", "shifted", [step("Mul", "scaled", [normal, weight]), bias])
    return made

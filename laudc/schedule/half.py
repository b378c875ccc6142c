"""A graph whose every type is said by the graph itself, with the heavy arithmetic in half precision.

From TensorRT 10 on, the builder does not choose precisions; from 11 on, it cannot.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# Half, whatever they read ...
_HEAVY = {"Conv", "Gemm", "MatMul"}
# ... and half when the value they read first is: they only pass on or combine what the heavy ones make.
_FOLLOWERS = {"Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Transpose", "Reshape", "Add", "Mul"}
# Read values of every type.
_TYPELESS = {"Shape"}
# What a follower reads that is not a value of the network: a shape.
_SHAPES = {"Reshape": {1}}


def to_half(model: onnx.ModelProto, run_ops: Collection[str]) -> onnx.ModelProto:
    """The model with convolutions, products and the runs' first input in fp16; inputs and outputs keep their types.

    Nodes that are not known to be safe, function calls among them, stay fp32 behind Casts.
    """
    return _Typing(model, run_ops).model()


class _Typing:
    def __init__(self, model: onnx.ModelProto, run_ops: Collection[str]) -> None:
        import onnx

        self.source = onnx.ModelProto()
        self.source.CopyFrom(model)
        self.run_ops = run_ops
        self.nodes: list[onnx.NodeProto] = []
        self.half: set[str] = set()
        self.casts: dict[tuple[str, bool], str] = {}
        self.weights = {tensor.name: tensor for tensor in self.source.graph.initializer}
        self.halved: dict[str, onnx.TensorProto] = {}

    def model(self) -> onnx.ModelProto:
        """The typed model."""
        import onnx

        graph = self.source.graph
        outputs = {value.name for value in graph.output}
        for node in graph.node:
            self._node(node, outputs)
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in (*graph.initializer, *self.halved.values()) if tensor.name in used]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(kept)
        onnx.checker.check_model(self.source)
        return self.source

    def _node(self, node: onnx.NodeProto, outputs: set[str]) -> None:
        if node.op_type in self.run_ops:
            node.input[0] = self._typed(node.input[0], half=True)
            self.nodes.append(node)
            self.half.add(node.output[0])
            return
        half = not node.domain and self._is_half(node)
        if node.op_type not in _TYPELESS:
            skipped = _SHAPES.get(node.op_type, set())
            for index, name in enumerate(node.input):
                if name and index not in skipped:
                    node.input[index] = self._typed(name, half=half)
        self.nodes.append(node)
        if half:
            self._make_half(node, outputs)

    def _make_half(self, node: onnx.NodeProto, outputs: set[str]) -> None:
        """Its results are half; a graph output gets its fp32 value, and its name, from a Cast."""
        for index, name in enumerate(node.output):
            if name in outputs:
                node.output[index] = f"{name}.half"
                self._cast(node.output[index], name, half=False)
                self.half.add(node.output[index])
            else:
                self.half.add(name)

    def _is_half(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in _FOLLOWERS:
            return node.op_type in _HEAVY
        read = 2 if node.op_type in ("Add", "Mul") else 1
        return any(name in self.half for name in node.input[:read])

    def _typed(self, name: str, *, half: bool) -> str:
        """The value in the wanted precision, through a Cast that all readers share; integers are left alone."""
        if half == (name in self.half):
            return name
        if name in self.weights:
            return self._half_weight(name) if half else name
        if (name, half) not in self.casts:
            self.casts[name, half] = self._cast(name, f"{name}.{'half' if half else 'float'}", half=half)
        return self.casts[name, half]

    def _half_weight(self, name: str) -> str:
        from onnx import numpy_helper

        if name not in self.halved:
            array = numpy_helper.to_array(self.weights[name])
            self.halved[name] = numpy_helper.from_array(array.astype("float16"), f"{name}.half")
        return self.halved[name].name

    def _cast(self, source: str, target: str, *, half: bool) -> str:
        import onnx

        kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
        self.nodes.append(onnx.helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=kind))
        if half:
            self.half.add(target)
        return target

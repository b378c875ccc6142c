"""Builds an ONNX graph node by node and knows the shape of every value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from laudc.ops import DOMAIN, SEMANTIC, VERSION, attach_bodies
from laudc.ops.spec import Shape

if TYPE_CHECKING:
    import onnx

BATCH = "N"


@dataclass(frozen=True)
class Value:
    """A value of the graph; an unknown batch is None in `shape`.

    dtype: NumPy's name of the element type. declared: whether the graph says the shape, which it cannot where the
    number of rows depends on the data; `shape` is then empty.
    """

    name: str
    shape: Shape
    dtype: str = "float32"
    declared: bool = True


class GraphBuilder:
    """Collects nodes, initializers and value shapes; `finish` makes the model.

    The names of nodes and values are the caller's choice, which is to say the module paths.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[Value] = []
        self._values: dict[str, Value] = {}

    def input(self, name: str, shape: Shape) -> Value:
        """Add a graph input."""
        value = self._remember(Value(name, shape))
        self._inputs.append(value)
        return value

    def constant(self, name: str, array: np.ndarray) -> Value:
        """Add an initializer."""
        from onnx import numpy_helper

        value = self._remember(Value(name, array.shape, array.dtype.name))
        self._initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return value

    def standard(
        self,
        op: str,
        name: str,
        inputs: Sequence[Value],
        shape: Shape,
        attributes: Mapping[str, Any] | None = None,
        output: str | None = None,
        dtype: str = "float32",
    ) -> Value:
        """Add a node of the default domain whose only output has the given shape and element type."""
        return self._add(op, name, "", inputs, Value(output or f"{name}.output", shape, dtype), attributes or {})

    def sized_by_data(
        self,
        op: str,
        name: str,
        inputs: Sequence[Value],
        attributes: Mapping[str, Any] | None = None,
        dtype: str = "float32",
    ) -> Value:
        """Add a node of the default domain whose output has as many rows as the data ask for."""
        return self._add(op, name, "", inputs, Value(f"{name}.output", (), dtype, declared=False), attributes or {})

    def largest(self, name: str, values: Value, count: int) -> tuple[Value, Value]:
        """Add a TopK over the last axis of `values`: the `count` largest, falling, and where they are (int64)."""
        from onnx import helper

        shape = (*values.shape[:-1], count)
        best, at = Value(f"{name}.values", shape), Value(f"{name}.places", shape, "int64")
        number = self.constant(f"{name}.count", np.array([count], np.int64))
        names = [values.name, number.name]
        self._nodes.append(helper.make_node("TopK", names, [best.name, at.name], name=name))
        return self._remember(best), self._remember(at)

    def semantic(
        self,
        op: str,
        name: str,
        inputs: Sequence[Value],
        attributes: Mapping[str, Any] | None = None,
        output: str | None = None,
    ) -> Value:
        """Add a node of the domain `ai.laudc`; its shape rule gives the shape of the output."""
        written = attributes or {}
        shape = SEMANTIC[op].infer([value.shape for value in inputs], written)
        return self._add(op, name, DOMAIN, inputs, Value(output or f"{name}.output", shape), written)

    def _add(
        self,
        op: str,
        name: str,
        domain: str,
        inputs: Sequence[Value],
        output: Value,
        attributes: Mapping[str, Any],
    ) -> Value:
        from onnx import helper

        names = [value.name for value in inputs]
        self._nodes.append(helper.make_node(op, names, [output.name], name=name, domain=domain, **attributes))
        return self._remember(output)

    def _remember(self, value: Value) -> Value:
        assert value.name not in self._values, f"value {value.name} exists already"
        self._values[value.name] = value
        return value

    def finish(self, outputs: Sequence[Value], name: str, opset: int) -> onnx.ModelProto:
        """The model, with the bodies of all ops of `ai.laudc` and the shape of every value."""
        from onnx import helper

        ends = {value.name for value in (*self._inputs, *outputs)} | self._initializers.keys()
        inner = [value for key, value in self._values.items() if key not in ends and value.declared]
        graph = helper.make_graph(
            self._nodes,
            name,
            [_info(value) for value in self._inputs],
            [_info(value) for value in outputs],
            initializer=list(self._initializers.values()),
            value_info=[_info(value) for value in inner],
        )
        imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
        # The oldest file format that can hold the opset, for the sake of old readers.
        ir_version = helper.find_min_ir_version_for(imports[:1])
        return attach_bodies(helper.make_model(graph, opset_imports=imports, ir_version=ir_version))


def _info(value: Value) -> onnx.ValueInfoProto:
    from onnx import helper

    dims = [BATCH if dim is None else dim for dim in value.shape]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return helper.make_tensor_value_info(value.name, kind, dims)

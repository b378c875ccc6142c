"""Function bodies in a model: attach them, strip them, and check what `onnx.checker` does not.

`onnx.checker` accepts nodes of an unknown domain whatever they look like, with or without a body, so the
contract of the portable graph is checked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from laudc.errors import UserError
from laudc.ops import spec as spec_module
from laudc.ops.attributes import node_attributes
from laudc.ops.registry import SEMANTIC
from laudc.ops.spec import DOMAIN, OpSpec, Shape, ShapeError

if TYPE_CHECKING:
    import onnx

# Written on nodes for other parsers; no body reads them.
_FOREIGN_ATTRIBUTES = frozenset({"plugin_namespace", "plugin_version"})


def semantic_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the domain `ai.laudc` in the main graph and in its subgraphs, in order."""
    yield from _graph_nodes(model.graph)


def _graph_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        if node.domain == DOMAIN:
            yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graph_nodes(attribute.g)


def model_opset(model: onnx.ModelProto, domain: str = "") -> int | None:
    """The version of `domain` that the model imports, None if it does not."""
    return next((entry.version for entry in model.opset_import if _domain(entry.domain) == domain), None)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def strip_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the bodies of all ops of `ai.laudc`, in place; returns the model for convenience."""
    for position in reversed(range(len(model.functions))):
        if model.functions[position].domain == DOMAIN:
            del model.functions[position]
    return model


def attach_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every semantic op in use its body in the model's own opset, in place; older bodies are replaced.

    Raises:
        UserError: the model's opset is outside the range the bodies are written for, or an op is unknown.
    """
    opset = model_opset(model)
    if opset is None or not spec_module.MIN_OPSET <= opset <= spec_module.MAX_OPSET:
        raise UserError(
            f"the model imports opset {opset}",
            f"the laudc ops have bodies for opset {spec_module.MIN_OPSET} to {spec_module.MAX_OPSET}",
            f"Export it again with --opset {spec_module.DEFAULT_OPSET}",
        )
    used = {_spec_of(node).name for node in semantic_nodes(model)}
    strip_bodies(model)
    model.functions.extend(SEMANTIC[name].body(opset) for name in sorted(used))
    if used and model_opset(model, DOMAIN) is None:
        entry = model.opset_import.add()
        entry.domain, entry.version = DOMAIN, spec_module.VERSION
    return model


def _spec_of(node: onnx.NodeProto) -> OpSpec:
    if node.op_type not in SEMANTIC:
        raise _broken(node, f"{node.op_type} is not an op of {DOMAIN} version {spec_module.VERSION}")
    return SEMANTIC[node.op_type]


def _broken(node: onnx.NodeProto, why: str) -> UserError:
    label = f"node {node.name!r} ({node.op_type})" if node.name else f"a node of type {node.op_type}"
    return UserError(
        f"{label} breaks the contract of the portable graph", why, "Export the model again with this laudc"
    )


def check_contract(model: onnx.ModelProto) -> None:
    """Check everything about the `ai.laudc` nodes of a portable graph that a runtime or the scheduler relies
    on.

    Each node: a known op, all inputs given, every attribute written with the right type and no other, shapes
    (where known) that fit, and a body in the model's opset with the same signature. Node names are unique.

    Raises:
        UserError: naming the first node that breaks the contract and how.
    """
    opset = model_opset(model)
    bodies = {function.name: function for function in model.functions if function.domain == DOMAIN}
    shapes = known_shapes(model)
    seen: set[str] = set()
    version = model_opset(model, DOMAIN)
    for node in semantic_nodes(model):
        spec = _spec_of(node)
        if version != spec_module.VERSION:
            raise _broken(
                node, f"the model imports {DOMAIN} in version {version}, known is {spec_module.VERSION}"
            )
        if not node.name or node.name in seen:
            raise _broken(node, "nodes of this domain need a name of their own")
        seen.add(node.name)
        _check_signature(node, spec)
        _check_body(node, spec, bodies.get(node.op_type), opset)
        _check_shapes(node, spec, shapes)


def _check_signature(node: onnx.NodeProto, spec: OpSpec) -> None:
    schema = spec.schema
    if len(node.input) != len(schema.inputs) or not all(node.input):
        raise _broken(
            node, f"it needs {len(schema.inputs)} inputs ({', '.join(spec.inputs)}), has {len(node.input)}"
        )
    if len(node.output) != len(schema.outputs) or not all(node.output):
        raise _broken(node, f"it needs {len(schema.outputs)} output, has {len(node.output)}")
    _check_attributes(node, spec)


def _check_attributes(node: onnx.NodeProto, spec: OpSpec) -> None:
    from onnx import AttributeProto

    written = {attribute.name: attribute.type for attribute in node.attribute}
    extra = sorted(set(written) - {wanted.name for wanted in spec.attributes} - _FOREIGN_ATTRIBUTES)
    if extra:
        raise _broken(node, f"it has no attribute {extra[0]}")
    for wanted in spec.attributes:
        if wanted.name not in written:
            raise _broken(node, f"attribute {wanted.name} is not written; kernels never see defaults")
        if written[wanted.name] != (AttributeProto.INTS if wanted.is_list else AttributeProto.INT):
            kind = "a list of integers" if wanted.is_list else "an integer"
            raise _broken(node, f"attribute {wanted.name} is not {kind}")


def _check_body(
    node: onnx.NodeProto, spec: OpSpec, body: onnx.FunctionProto | None, opset: int | None
) -> None:
    if body is None:
        raise _broken(node, "its function body is missing, so no plain runtime could run it")
    versions = {_domain(entry.domain): entry.version for entry in body.opset_import}
    if versions.get("") != opset:
        raise _broken(node, f"its body is in opset {versions.get('')}, the model in opset {opset}")
    attributes = {*body.attribute, *(attribute.name for attribute in body.attribute_proto)}
    if (tuple(body.input), tuple(body.output)) != (spec.inputs, (spec.output,)) or attributes != {
        attribute.name for attribute in spec.attributes
    }:
        raise _broken(node, "its body has other inputs, outputs or attributes than the op")


def _check_shapes(node: onnx.NodeProto, spec: OpSpec, shapes: dict[str, Shape]) -> None:
    if not all(name in shapes for name in node.input):
        return
    try:
        made = spec.infer([shapes[name] for name in node.input], node_attributes(node))
        declared = shapes.get(node.output[0])
        if declared is not None:
            spec_module.expect_shape(spec.output, declared, made)
    except ShapeError as error:
        raise _broken(node, str(error)) from error


def known_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Shapes of initializers and of all values the graph declares; None for a dimension without a number."""
    shapes: dict[str, Shape] = {}
    graph = model.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            shapes[value.name] = tuple(
                dim.dim_value if dim.WhichOneof("value") == "dim_value" else None for dim in tensor.shape.dim
            )
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in graph.initializer})
    return shapes

"""What `check_contract` refuses, attaching and stripping bodies, shape rules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import onnx
import pytest

from laudc.errors import UserError
from laudc.ops import (
    DOMAIN,
    SEMANTIC,
    Geometry,
    ShapeError,
    attach_bodies,
    check_contract,
    semantic_nodes,
    strip_bodies,
)
from tests.ops.runtimes import single_op_model
from tests.ops.vectors import BLOCKS

CASE = next(case for case in BLOCKS if case.name == "tiles-c_sparse-m_dense")


def _model() -> onnx.ModelProto:
    return single_op_model(CASE.op, CASE.inputs, CASE.attributes)


def test_a_sound_model_passes() -> None:
    check_contract(_model())


def _rename_op(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Mystery"


def _drop_body(model: onnx.ModelProto) -> None:
    strip_bodies(model)


def _other_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 21


def _drop_attribute(model: onnx.ModelProto) -> None:
    del model.graph.node[0].attribute[0]


def _extra_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("colour", 3))


def _list_for_number(model: onnx.ModelProto) -> None:
    del model.graph.node[0].attribute[:]
    attributes = {**CASE.attributes, "stride": [1]}
    model.graph.node[0].attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attributes.items())


def _contradiction(model: onnx.ModelProto) -> None:
    next(a for a in model.graph.node[0].attribute if a.name == "strides").ints[0] = 2


def _drop_input(model: onnx.ModelProto) -> None:
    del model.graph.node[0].input[-1]


def _empty_input(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[2] = ""


def _no_name(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = ""


def _same_name(model: onnx.ModelProto) -> None:
    model.graph.node.append(model.graph.node[0])


def _other_version(model: onnx.ModelProto) -> None:
    model.opset_import[1].version = 2


def _too_many_groups(model: onnx.ModelProto) -> None:
    mask = next(value for value in model.graph.input if value.name == "C")
    mask.type.tensor_type.shape.dim[1].dim_value = 3


def _wide_mask(model: onnx.ModelProto) -> None:
    mask = next(value for value in model.graph.input if value.name == "M")
    mask.type.tensor_type.shape.dim[3].dim_value = 9


def _swapped_body_inputs(model: onnx.ModelProto) -> None:
    model.functions[0].input[0], model.functions[0].input[1] = "R", "X"


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (_rename_op, "Mystery"),
        (_drop_body, "body is missing"),
        (_other_opset, "opset 20, the model in opset 21"),
        (_drop_attribute, "is not written"),
        (_extra_attribute, "no attribute colour"),
        (_list_for_number, "stride is not an integer"),
        (_contradiction, "strides is [2, 1]"),
        (_drop_input, "needs 10 inputs"),
        (_empty_input, "needs 10 inputs"),
        (_no_name, "need a name"),
        (_same_name, "name of their own"),
        (_other_version, "version 2"),
        (_too_many_groups, "3 groups"),
        (_wide_mask, "9 columns"),
        (_swapped_body_inputs, "other inputs"),
    ],
)
def test_a_broken_model_is_refused(spoil: Callable[[onnx.ModelProto], None], word: str) -> None:
    model = _model()
    spoil(model)
    with pytest.raises(UserError) as error:
        check_contract(model)
    assert word in str(error.value)
    assert error.value.exit_code == 2


def test_nodes_for_other_parsers_are_allowed_extra_attributes() -> None:
    model = _model()
    extra = {"plugin_namespace": "laudc", "plugin_version": "1"}
    model.graph.node[0].attribute.extend(onnx.helper.make_attribute(k, v) for k, v in extra.items())
    check_contract(model)


def test_strip_then_attach_gives_the_same_file() -> None:
    model = _model()
    before = model.SerializeToString(deterministic=True)
    stripped = strip_bodies(model)
    assert stripped is model
    assert not model.functions
    assert attach_bodies(model) is model
    assert model.SerializeToString(deterministic=True) == before
    assert [node.name for node in semantic_nodes(model)] == ["block"]


def test_strip_keeps_functions_of_other_domains() -> None:
    model = _model()
    other = onnx.parser.parse_function(
        '<domain: "elsewhere", opset_import: ["" : 20]> Same (x) => (y) { y = Identity (x) }'
    )
    model.functions.append(other)
    assert [function.name for function in strip_bodies(model).functions] == ["Same"]


@pytest.mark.parametrize("opset", [17, 24])
def test_attach_refuses_an_opset_it_was_not_written_for(opset: int) -> None:
    model = strip_bodies(_model())
    model.opset_import[0].version = opset
    with pytest.raises(UserError, match=str(opset)):
        attach_bodies(model)


@pytest.mark.parametrize("op", SEMANTIC)
def test_schema_and_body_agree(op: str) -> None:
    spec = SEMANTIC[op]
    assert tuple(parameter.name for parameter in spec.schema.inputs) == spec.inputs
    assert set(spec.schema.attributes) == {attribute.name for attribute in spec.attributes}
    assert all(attribute.required for attribute in spec.schema.attributes.values())
    body = spec.body(20)
    assert (list(body.input), list(body.output)) == (list(spec.inputs), [spec.output])
    assert body.domain == DOMAIN
    # No op name of the default domain: some parsers ignore the domain.
    assert not onnx.defs.has(op)


@pytest.mark.parametrize("op", SEMANTIC)
def test_bodies_use_standard_ops_only(op: str) -> None:
    assert {node.domain for node in SEMANTIC[op].body(20).node} == {""}


@pytest.mark.parametrize("case", BLOCKS[::7], ids=lambda case: case.name)
def test_infer_gives_the_shape_of_the_reference(case) -> None:  # type: ignore[no-untyped-def]
    shapes = [array.shape for array in case.inputs]
    assert SEMANTIC[case.op].infer(shapes, case.attributes) == case.expected.shape
    unknown = [(None, *shape[1:]) if position < 3 else shape for position, shape in enumerate(shapes)]
    assert SEMANTIC[case.op].infer(unknown, case.attributes)[1:] == case.expected.shape[1:]


def test_infer_names_what_does_not_fit() -> None:
    shapes = [array.shape for array in CASE.inputs]
    shapes[6] = (*shapes[6][:2], 5, 5)
    with pytest.raises(ShapeError, match="W2"):
        SEMANTIC[CASE.op].infer(shapes, CASE.attributes)


def test_geometry_round_trip() -> None:
    for geometry in (Geometry(), Geometry(2, 3, 4)):
        assert Geometry.from_attributes(geometry.attributes()) == geometry
    with pytest.raises(ShapeError, match="stride"):
        Geometry.from_attributes({**Geometry().attributes(), "stride": 0})
    assert [Geometry(stride=2).out_size(size) for size in (7, 8)] == [4, 4]


def test_geometry_from_a_node() -> None:
    assert Geometry.from_node(_model().graph.node[0]) == CASE.geometry


def test_importing_the_ops_needs_neither_onnx_nor_torch() -> None:
    heavy = ("onnx", "onnxruntime", "torch")
    code = f"import sys, laudc, laudc.ops; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

"""What one semantic op is: its schema, its body in standard ONNX, its NumPy reference and its shape rule."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx
    from onnx.defs import OpSchema

DOMAIN = "ai.laudc"
VERSION = 1
# Split with num_outputs needs 18; no op used in a body changes its meaning up to 23.
MIN_OPSET = 18
MAX_OPSET = 23
DEFAULT_OPSET = 20

Array = np.ndarray
# A dimension is a number, or None where it is not known (a dynamic batch).
Dim = int | None
Shape = tuple[Dim, ...]
Attributes = Mapping[str, int | Sequence[int]]


class ShapeError(ValueError):
    """The shapes or attributes of a semantic op do not fit together; the message says which."""


@dataclass(frozen=True)
class AttributeSpec:
    """One attribute of an op. Every attribute is required: kernels never see the defaults of a function."""

    name: str
    is_list: bool
    description: str


@dataclass(frozen=True)
class OpSpec:
    """One semantic op of the domain `ai.laudc`.

    Attributes:
        name: op type, unique regardless of the domain (some parsers look ops up by type only).
        doc: one sentence.
        inputs: names of the inputs in order, all required.
        output: name of the single output.
        attributes: all attributes, in the order in which they are written.
        body_text: the nodes of the body in the ONNX text format, using the names of inputs, output and
            attributes.
        reference: NumPy function (inputs in order, attributes by keyword) -> output.
        infer: shape rule (input shapes in order, attributes) -> output shape; raises ShapeError.
    """

    name: str
    doc: str
    inputs: tuple[str, ...]
    output: str
    attributes: tuple[AttributeSpec, ...]
    body_text: str
    reference: Callable[..., Array]
    infer: Callable[[Sequence[Shape], Attributes], Shape]

    @functools.cached_property
    def schema(self) -> OpSchema:
        """The ONNX schema: all inputs and the output have the same floating point type."""
        from onnx.defs import OpSchema

        parameter = OpSchema.FormalParameter
        kinds = {False: OpSchema.AttrType.INT, True: OpSchema.AttrType.INTS}
        return OpSchema(
            self.name,
            DOMAIN,
            VERSION,
            doc=self.doc,
            inputs=[parameter(name, "T") for name in self.inputs],
            outputs=[parameter(self.output, "T")],
            type_constraints=[("T", ["tensor(float)"], "single precision")],
            attributes=[
                OpSchema.Attribute(a.name, kinds[a.is_list], a.description, required=True)
                for a in self.attributes
            ],
        )

    def body(self, opset: int = DEFAULT_OPSET) -> onnx.FunctionProto:
        """The dense-masked reference as a model-local function in the given opset of the default domain."""
        import onnx.parser

        if not MIN_OPSET <= opset <= MAX_OPSET:
            raise ValueError(f"opset {opset} is outside {MIN_OPSET} to {MAX_OPSET}")
        attributes = f"<{', '.join(a.name for a in self.attributes)}> " if self.attributes else ""
        head = f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]> {self.name} {attributes}'
        function = onnx.parser.parse_function(
            f"{head}({', '.join(self.inputs)}) => ({self.output}) {{ {self.body_text} }}"
        )
        function.doc_string = self.doc
        return function


def require(condition: bool, message: str) -> None:
    """Raise ShapeError(message) unless `condition`."""
    if not condition:
        raise ShapeError(message)


def same(a: Dim, b: Dim) -> bool:
    """Whether two dimensions can be equal: an unknown one can be anything."""
    return a is None or b is None or a == b


def expect_rank(name: str, shape: Shape, rank: int) -> None:
    """Raise ShapeError unless `shape` has `rank` dimensions."""
    require(len(shape) == rank, f"{name} has {len(shape)} dimensions, not {rank}")


def expect_shape(name: str, shape: Shape, wanted: Shape) -> None:
    """Raise ShapeError unless `shape` agrees with `wanted` wherever both are known."""
    expect_rank(name, shape, len(wanted))
    fits = all(same(a, b) for a, b in zip(shape, wanted, strict=True))
    require(fits, f"{name} has shape {list(shape)}, wanted is {list(wanted)}")

"""Attributes of the bottleneck ops and how they are read from a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from laudc.ops.spec import Attributes, AttributeSpec, require

if TYPE_CHECKING:
    import onnx

# `strides`, `pads` and `dilations` repeat `stride` and `dilation` in the form ONNX Conv wants: the body of a
# function cannot make a list attribute from a number attribute. Readers use the numbers; `Geometry` checks
# that both agree.
BOTTLENECK_ATTRIBUTES = (
    AttributeSpec("stride", False, "stride of conv2 along both axes"),
    AttributeSpec("group", False, "convolution groups of conv2"),
    AttributeSpec("dilation", False, "dilation of conv2 along both axes"),
    AttributeSpec("strides", True, "[stride, stride], read by the function body"),
    AttributeSpec("pads", True, "[dilation] four times, read by the function body"),
    AttributeSpec("dilations", True, "[dilation, dilation], read by the function body"),
)


@dataclass(frozen=True)
class Geometry:
    """Geometry of the 3×3 convolution of a bottleneck; its padding equals its dilation."""

    stride: int = 1
    group: int = 1
    dilation: int = 1

    def attributes(self) -> dict[str, int | list[int]]:
        """All attributes of a bottleneck node, in the order of BOTTLENECK_ATTRIBUTES."""
        return {
            "stride": self.stride,
            "group": self.group,
            "dilation": self.dilation,
            "strides": [self.stride] * 2,
            "pads": [self.dilation] * 4,
            "dilations": [self.dilation] * 2,
        }

    @classmethod
    def from_attributes(cls, attributes: Attributes) -> Geometry:
        """The geometry, after checking that it is possible and that lists and numbers agree.

        Raises:
            ShapeError: an attribute is missing, below 1, or contradicts another.
        """
        numbers = {}
        for name in ("stride", "group", "dilation"):
            value = attributes.get(name)
            require(
                isinstance(value, int) and value >= 1,
                f"attribute {name} is {value}, wanted is an integer >= 1",
            )
            numbers[name] = value
        geometry = cls(**numbers)  # type: ignore[arg-type]
        for name, wanted in geometry.attributes().items():
            found = attributes.get(name)
            found = list(found) if found is not None and not isinstance(found, int) else found
            require(found == wanted, f"attribute {name} is {found}, but stride and dilation make it {wanted}")
        return geometry

    @classmethod
    def from_node(cls, node: onnx.NodeProto) -> Geometry:
        """The geometry of a bottleneck node of the portable graph. Raises ShapeError as `from_attributes`."""
        return cls.from_attributes(node_attributes(node))

    def out_size(self, size: int) -> int:
        """Rows (or columns) conv2 makes from `size`; as padding equals dilation, only the stride shrinks."""
        return (size - 1) // self.stride + 1


def node_attributes(node: onnx.NodeProto) -> dict[str, int | list[int]]:
    """INT and INTS attributes of a node by name; attributes of other types are left out."""
    import onnx

    found: dict[str, int | list[int]] = {}
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.INT:
            found[attribute.name] = attribute.i
        elif attribute.type == onnx.AttributeProto.INTS:
            found[attribute.name] = list(attribute.ints)
    return found

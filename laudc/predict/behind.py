"""What the runtime computes behind the last block of a detector, counted from the graph: neck, heads, second stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from laudc.predict.selection import Level, RegionReading, Selecting, Suppression

if TYPE_CHECKING:
    import onnx

    from laudc.ops.spec import Shape

# These name a value anew or are computed when the graph is loaded.
_RENAMING = ("Constant", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze")
# As many rows as the data ask for.
_SIZED_BY_DATA = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
_NESTED = ("If", "Loop", "Scan")
_MULTIPLYING = ("Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul")
_FUSED_BEHIND = ("Conv", "Gemm")


@dataclass(frozen=True)
class Behind:
    """Work of one image. Amounts that are the same for every image:

    nodes: operators. Multiply-accumulates: pointwise, spatial (convolutions with kernels of 1×1 and larger), products
    (of matrices), spread (transposed convolutions). weights: floats of weights. written: values of results. gathered:
    contiguous pieces that Gather copies. ranked: values that TopK chooses from. sampled: values that GridSample
    interpolates.

    selecting: operators whose work depends on what is found in the image. left_out: operators that none of this holds,
    because the graph does not say how large they get.
    """

    nodes: int = 0
    pointwise: int = 0
    spatial: int = 0
    products: int = 0
    spread: int = 0
    weights: int = 0
    written: int = 0
    gathered: int = 0
    ranked: int = 0
    sampled: int = 0
    selecting: tuple[Selecting, ...] = ()
    left_out: tuple[str, ...] = ()

    @classmethod
    def of_nodes(
        cls,
        nodes: Sequence[onnx.NodeProto],
        shapes: Mapping[str, Shape],
        constants: Mapping[str, onnx.TensorProto] | None = None,
    ) -> Behind:
        """Of the nodes behind the last block, in their order; `constants`: the graph's initializers by name."""
        return _Reader(nodes, shapes, constants or {}).read()


class _Reader:
    """Goes through the nodes once and adds up."""

    def __init__(
        self, nodes: Sequence[onnx.NodeProto], shapes: Mapping[str, Shape], constants: Mapping[str, onnx.TensorProto]
    ) -> None:
        self._nodes, self._shapes = nodes, shapes
        self._constants = {**constants, **_constant_nodes(nodes)}
        self._made_by = {output: node.op_type for node in nodes for output in node.output}
        # Values whose size the data decide, and values made of features of regions.
        self._open: set[str] = set()
        self._of_regions: set[str] = set()
        self._totals: Counter[str] = Counter()
        self._suppressions: list[Suppression] = []
        self._left_out: list[str] = []

    def read(self) -> Behind:
        """All of it."""
        for node in self._nodes:
            self._follow(node)
            if node.op_type not in _RENAMING:
                self._totals["nodes"] += 1
                if node.op_type not in ("RoiAlign", "NonMaxSuppression"):
                    self._add(node)
        self._suppress()
        readings = self._readings()
        return Behind(
            **self._totals, selecting=(*self._suppressions, *readings), left_out=tuple(sorted(self._left_out))
        )

    def _follow(self, node: onnx.NodeProto) -> None:
        inputs = set(node.input)
        if node.op_type in _SIZED_BY_DATA or inputs & self._open:
            self._open.update(name for name in node.output if None in self._shapes.get(name, (None,)))
        if node.op_type == "RoiAlign" or inputs & self._of_regions:
            self._of_regions.update(node.output)

    def _add(self, node: onnx.NodeProto) -> None:
        op, size = node.op_type, self._size(node.output[0])
        if op in _NESTED or node.domain or (size is None and op in _MULTIPLYING):
            self._left_out.append(_title(node))
        elif size is not None:
            fused = op == "Relu" and self._made_by.get(node.input[0]) in _FUSED_BEHIND
            self._totals["written"] += 0 if fused else size
            count = _COUNTS.get(op)
            self._totals.update({} if count is None else count(self, node, size))

    def _conv(self, node: onnx.NodeProto, size: int) -> dict[str, int]:
        weight = self._shapes[node.input[1]]
        kind = "pointwise" if all(dim == 1 for dim in weight[2:]) else "spatial"
        return {kind: size * _product(weight[1:]), "weights": _product(weight)}

    def _spread(self, node: onnx.NodeProto, size: int) -> dict[str, int]:
        weight = self._shapes[node.input[1]]
        positions = (self._size(node.input[0]) or 0) // int(weight[0] or 1)
        return {"spread": positions * _product(weight), "weights": _product(weight)}

    def _gemm(self, node: onnx.NodeProto, size: int) -> dict[str, int]:
        depth = self._shapes[node.input[0]][0 if _attribute(node, "transA", 0) else -1]
        return {"products": size * int(depth or 1), **self._weights(node)}

    def _matmul(self, node: onnx.NodeProto, size: int) -> dict[str, int]:
        left = self._shapes.get(node.input[0])
        if left is None:
            self._left_out.append(_title(node))
            return {}
        return {"products": size * int(left[-1] or 1), **self._weights(node)}

    def _einsum(self, node: onnx.NodeProto, size: int) -> dict[str, int]:
        equation = _attribute(node, "equation", b"").decode().replace(" ", "").split("->")[0]
        sides: dict[str, int] = {}
        for term, name in zip(equation.split(","), node.input, strict=True):
            shape = self._shapes.get(name)
            if shape is None or "." in term or len(term) != len(shape):
                self._left_out.append(_title(node))
                return {}
            sides.update({letter: int(dim or 1) for letter, dim in zip(term, shape, strict=True)})
        return {"products": _product(tuple(sides.values()))}

    def _gather(self, node: onnx.NodeProto, size: int) -> dict[str, int]:
        shape = self._shapes.get(node.input[0], ())
        axis = _attribute(node, "axis", 0) % max(1, len(shape))
        return {"gathered": size // max(1, _product(shape[axis + 1 :]))}

    def _topk(self, node: onnx.NodeProto, size: int) -> dict[str, int]:
        return {"ranked": self._size(node.input[0]) or 0}

    def _sample(self, node: onnx.NodeProto, size: int) -> dict[str, int]:
        return {"sampled": size}

    def _weights(self, node: onnx.NodeProto) -> dict[str, int]:
        return {"weights": sum(_product(self._shapes[name]) for name in node.input[:2] if name in self._constants)}

    def _suppress(self) -> None:
        for node in self._nodes:
            if node.op_type != "NonMaxSuppression":
                continue
            scores = self._shapes.get(node.input[1], ())
            if len(scores) != 3 or None in scores:
                self._left_out.append(_title(node))
                continue
            lists, boxes = _product(scores[:2]), int(scores[2] or 0)
            limit = self._constant(node, 2)
            most = boxes if limit is None else min(boxes, int(limit))
            behind = node.input[1] in self._of_regions
            self._suppressions.append(
                Suppression(
                    node.name, lists, boxes, most, self._constant(node, 4), node.input[1], node.output[0], behind
                )
            )

    def _readings(self) -> list[RegionReading]:
        """RoiAligns whose results are put together, as one."""
        groups: dict[str, list[onnx.NodeProto]] = {}
        for node in self._nodes:
            if node.op_type == "RoiAlign":
                joined = self._joined(node)
                if joined is None:
                    self._left_out.append(_title(node))
                else:
                    groups.setdefault(joined, []).append(node)
        return [self._reading(value, nodes) for value, nodes in groups.items()]

    def _joined(self, node: onnx.NodeProto) -> str | None:
        """The value that holds the features of all regions: the RoiAlign's own, or what several are joined to."""
        candidates = [node.output[0]] + [n.output[0] for n in self._nodes if node.output[0] in n.input]
        sized = (name for name in candidates if self._size(name) is not None and len(self._shapes[name]) == 4)
        return next(sized, None)

    def _reading(self, value: str, nodes: Sequence[onnx.NodeProto]) -> RegionReading:
        first = nodes[0]
        regions, channels = (int(dim or 1) for dim in self._shapes[value][:2])
        return RegionReading(
            name=value.removesuffix(".output"),
            regions=regions,
            channels=channels,
            cells=(_attribute(first, "output_height", 1), _attribute(first, "output_width", 1)),
            sampling=_attribute(first, "sampling_ratio", 0),
            at_least_one=_attribute(first, "coordinate_transformation_mode", b"half_pixel") == b"output_half_pixel",
            levels=tuple(self._level(node) for node in nodes),
        )

    def _level(self, node: onnx.NodeProto) -> Level:
        height, width = (int(dim or 1) for dim in self._shapes[node.input[0]][2:])
        return Level(height, width, float(_attribute(node, "spatial_scale", 1.0)), node.input[1])

    def _size(self, name: str) -> int | None:
        """Values of a result for one image; None where the graph does not say."""
        shape = self._shapes.get(name)
        return None if shape is None or name in self._open else _product(shape)

    def _constant(self, node: onnx.NodeProto, index: int) -> float | None:
        from onnx import numpy_helper

        name = node.input[index] if len(node.input) > index else ""
        return float(numpy_helper.to_array(self._constants[name]).item()) if name in self._constants else None


_COUNTS: Mapping[str, Callable[[_Reader, onnx.NodeProto, int], dict[str, int]]] = {
    "Conv": _Reader._conv,
    "ConvTranspose": _Reader._spread,
    "Einsum": _Reader._einsum,
    "Gather": _Reader._gather,
    "Gemm": _Reader._gemm,
    "GridSample": _Reader._sample,
    "MatMul": _Reader._matmul,
    "TopK": _Reader._topk,
}


def _constant_nodes(nodes: Sequence[onnx.NodeProto]) -> dict[str, onnx.TensorProto]:
    return {
        node.output[0]: attribute.t
        for node in nodes
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }


def _title(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]}"


def _product(shape: Shape) -> int:
    """Product of the dimensions; an open one is the batch and counts as one image."""
    return int(np.prod([dim or 1 for dim in shape], dtype=np.int64))


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)

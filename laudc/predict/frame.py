"""What surrounds the dynamic blocks of a network: stem and head, by their sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from laudc.predict.behind import Behind
from laudc.predict.blueprint import Blueprint
from laudc.predict.regnet_blueprint import RegNetBlueprint
from laudc.predict.selection import Selecting

if TYPE_CHECKING:
    import onnx

    from laudc.ops.spec import Shape

NOTHING = Behind()


@dataclass(frozen=True)
class Frame:
    """Sizes of stem (one strided convolution, in a ResNet with max pooling behind it) and head (mean, then one linear
    layer).

    height, width: of the image in pixels. stem_macs: multiply-accumulates of everything before the first block.
    behind: of a detector, neck, heads and second stage.
    """

    height: int
    width: int
    stem_channels: int
    stem_macs: int
    head_inputs: int
    head_pixels: int
    classes: int
    behind: Behind = NOTHING

    @property
    def weights(self) -> int:
        """Floats of weights of a detector behind its blocks. The one layer of a classifier does not count: how much of
        a call's weights a cache holds was measured with it, against those of the blocks."""
        return self.behind.weights

    @classmethod
    def of_blueprint(cls, blueprint: Blueprint | RegNetBlueprint) -> Frame:
        """The frame of a described network."""
        last = blueprint.blocks()[-1][1]
        half = (blueprint.input_size - 1) // 2 + 1
        size = blueprint.input_size
        macs = half * half * blueprint.stem_channels * 3 * blueprint.stem_kernel**2
        return cls(size, size, blueprint.stem_channels, macs, last.cout, last.hout * last.wout, blueprint.num_classes)

    @classmethod
    def of_model(cls, model: onnx.ModelProto) -> Frame:
        """The frame of a portable model; parts that it lacks count as nothing."""
        from laudc.ops import BLOCKS, known_shapes

        shapes = known_shapes(model)
        height, width = (int(dim or 0) for dim in shapes[model.graph.input[0].name][2:4])
        nodes = list(model.graph.node)
        first = next((i for i, node in enumerate(nodes) if node.op_type in BLOCKS), len(nodes))
        # The first block's projection stands before it and is none of the stem.
        projection = nodes[first].input[1] if first < len(nodes) else ""
        stem = [node for node in nodes[:first] if node.op_type == "Conv" and projection not in node.output]
        macs = channels = 0
        for node in stem:
            weight, out = shapes[node.input[1]], shapes[node.output[0]]
            channels = int(weight[0] or 0)
            per_pixel = channels * int(weight[1] or 0) * int(weight[2] or 0) * int(weight[3] or 0)
            macs += per_pixel * int(out[2] or 0) * int(out[3] or 0)
        blocks = [index for index, node in enumerate(nodes) if node.op_type in BLOCKS]
        out = shapes[nodes[blocks[-1]].output[0]] if blocks else (None, 0, 0, 0)
        behind = _behind(nodes[blocks[-1] + 1 :] if blocks else [], model, shapes)
        classes, inputs = (0, 0) if behind is not NOTHING else _head(model, shapes)
        return cls(height, width, channels, macs, inputs, int(out[2] or 0) * int(out[3] or 0), classes, behind)


@dataclass(frozen=True)
class VitFrame:
    """What a transformer has before and behind its blocks: everything that makes tokens of the image, and the head on
    the class token.

    stem_nodes: operators of the stem. stem_macs: its multiply-accumulates. stem_floats: what its operators write,
    those that only rename shapes left out. head_inputs, classes: of the linear layer.
    """

    stem_nodes: int
    stem_macs: int
    stem_floats: int
    head_inputs: int
    classes: int

    @property
    def weights(self) -> int:
        """None but the head's, which do not count: see `Frame.weights`."""
        return 0

    @classmethod
    def of_model(cls, model: onnx.ModelProto) -> VitFrame:
        """The frame of a portable model."""
        from laudc.ops import known_shapes

        shapes = known_shapes(model)
        nodes = list(model.graph.node)
        attention = next((node for node in nodes if node.op_type == "DynamicAttention"), None)
        stem = nodes if attention is None else _before(nodes, attention.input[0])
        working = [node for node in stem if node.op_type != "Reshape"]
        sizes = [_size(shapes.get(node.output[0], ())) for node in working]
        macs = sum(
            size * _depth(node, shapes)
            for node, size in zip(working, sizes, strict=True)
            if node.op_type in ("Conv", "MatMul")
        )
        classes, inputs = _head(model, shapes)
        return cls(len(working), macs, sum(sizes), inputs, classes)


AnyFrame = Frame | VitFrame


def frame_of_model(model: onnx.ModelProto) -> AnyFrame:
    """The frame of a portable model of any family."""
    transformer = any(node.op_type == "DynamicAttention" for node in model.graph.node)
    return VitFrame.of_model(model) if transformer else Frame.of_model(model)


def selecting_of(frame: AnyFrame) -> tuple[Selecting, ...]:
    """The operators of a network whose work depends on what is found in an image."""
    return frame.behind.selecting if isinstance(frame, Frame) else ()


def _behind(nodes: Sequence[onnx.NodeProto], model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> Behind:
    """Of a detector; a classifier has a mean and one linear layer there, which the frame holds itself."""
    if not any(node.op_type in ("Conv", "ConvTranspose", "MatMul") for node in nodes):
        return NOTHING
    return Behind.of_nodes(nodes, shapes, {tensor.name: tensor for tensor in model.graph.initializer})


def _head(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> tuple[int, int]:
    """Outputs and inputs of the last linear layer; zeros without one."""
    gemm = next((node for node in model.graph.node if node.op_type == "Gemm"), None)
    if gemm is None:
        return 0, 0
    classes, inputs = (int(dim or 0) for dim in shapes[gemm.input[1]])
    return classes, inputs


def _before(nodes: list[onnx.NodeProto], value: str) -> list[onnx.NodeProto]:
    """The nodes up to the one that makes `value`, in their order."""
    last = next((index for index, node in enumerate(nodes) if value in node.output), -1)
    return nodes[: last + 1]


def _size(shape: Shape) -> int:
    """Floats of a value for one image."""
    return int(np.prod([dim or 1 for dim in shape[1:]], dtype=np.int64)) if shape else 0


def _depth(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Multiply-accumulates for one result of a Conv or MatMul."""
    weight = shapes.get(node.input[1], ())
    if node.op_type == "Conv":
        return _size(weight)
    left = shapes.get(node.input[0], ())
    return int(left[-1] or 0) if left else 0

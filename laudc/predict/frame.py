"""What surrounds the dynamic blocks of a network: stem and head, by their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from laudc.predict.blueprint import Blueprint

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Frame:
    """Sizes of stem (7×7 stride 2, then max pooling) and head (mean, then one linear layer).

    height, width: of the image in pixels. stem_macs: multiply-accumulates of everything before the first block.
    """

    height: int
    width: int
    stem_channels: int
    stem_macs: int
    head_inputs: int
    head_pixels: int
    classes: int

    @classmethod
    def of_blueprint(cls, blueprint: Blueprint) -> Frame:
        """The frame of a described network."""
        last = blueprint.blocks()[-1][1]
        half = (blueprint.input_size - 1) // 2 + 1
        size = blueprint.input_size
        macs = half * half * blueprint.stem_channels * 3 * 49
        return cls(size, size, blueprint.stem_channels, macs, last.cout, last.hout * last.wout, blueprint.num_classes)

    @classmethod
    def of_model(cls, model: onnx.ModelProto) -> Frame:
        """The frame of a portable model; parts that it lacks count as nothing."""
        from laudc.ops import BOTTLENECKS, known_shapes

        shapes = known_shapes(model)
        height, width = (int(dim or 0) for dim in shapes[model.graph.input[0].name][2:4])
        nodes = list(model.graph.node)
        first = next((i for i, node in enumerate(nodes) if node.op_type in BOTTLENECKS), len(nodes))
        stem = [node for node in nodes[:first] if node.op_type == "Conv" and "downsample" not in node.name]
        macs = channels = 0
        for node in stem:
            weight, out = shapes[node.input[1]], shapes[node.output[0]]
            channels = int(weight[0] or 0)
            per_pixel = channels * int(weight[1] or 0) * int(weight[2] or 0) * int(weight[3] or 0)
            macs += per_pixel * int(out[2] or 0) * int(out[3] or 0)
        gemm = next((node for node in nodes if node.op_type == "Gemm"), None)
        classes, inputs = (int(dim or 0) for dim in shapes[gemm.input[1]]) if gemm is not None else (0, 0)
        blocks = [node for node in nodes if node.op_type in BOTTLENECKS]
        out = shapes[blocks[-1].output[0]] if blocks else (None, 0, 0, 0)
        return cls(height, width, channels, macs, inputs, int(out[2] or 0) * int(out[3] or 0), classes)

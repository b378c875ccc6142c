"""Reads the blocks of a portable graph: which nodes belong together, their geometry and their weights."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from laudc.ops import BLOCKS, REGNET_BLOCKS, Geometry, block_inputs, known_shapes, node_attributes
from laudc.ops.packing import BlockWeights, MaskerWeights
from laudc.ops.regnet_block import se_pool_of
from laudc.ops.regnet_packing import RegNetWeights

if TYPE_CHECKING:
    import numpy as np
    import onnx

# The kernels' limit for one group of RegNetY's 3×3 convolution.
WIDEST_GROUP = 64

_CHANNEL_MASKERS = {"ChannelMaskerLinear", "ChannelMaskerMlp", "ChannelMaskerConv"}


@dataclass(frozen=True)
class BlockNodes:
    """One dynamic block in the graph: the bottleneck node (of any family), the nodes that feed only it, and its
    geometry.
    """

    bottleneck: onnx.NodeProto
    projection: onnx.NodeProto | None
    spatial_masker: onnx.NodeProto | None
    channel_masker: onnx.NodeProto | None
    geometry: Geometry
    hin: int
    win: int
    spatial_mask: tuple[int, int, int]  # groups, rows, columns; zeros without one
    channel_groups: int

    @property
    def name(self) -> str:
        """Module path, such as `layer3.7`."""
        return self.bottleneck.name

    @property
    def input(self) -> str:
        """Name of the value the block reads."""
        return self.bottleneck.input[0]

    @property
    def output(self) -> str:
        """Name of the value the block makes."""
        return self.bottleneck.output[0]

    @property
    def weights(self) -> list[str]:
        """Names of the values that hold the block's weights, in the order of the op."""
        return list(block_inputs(self.bottleneck).weights)

    @property
    def is_regnet(self) -> bool:
        """Whether it is a RegNetY block, with squeeze-excitation."""
        return self.bottleneck.op_type in REGNET_BLOCKS

    @property
    def se_pool(self) -> int:
        """Attribute se_pool of the op; 0 where it has none."""
        return se_pool_of(node_attributes(self.bottleneck))

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """Every node that the block consists of."""
        parts = (self.projection, self.spatial_masker, self.channel_masker, self.bottleneck)
        return [node for node in parts if node is not None]


class Graph:
    """Look-ups in a portable model; weights are read on demand."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.producers = {output: node for node in model.graph.node for output in node.output}
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.shapes = known_shapes(_with_shapes(model))
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def array(self, name: str) -> np.ndarray:
        """The value of an initializer."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self.initializers[name])

    def blocks(self) -> list[BlockNodes]:
        """All dynamic blocks, in graph order."""
        return [self._block(node) for node in self.model.graph.node if node.op_type in BLOCKS]

    def _block(self, node: onnx.NodeProto) -> BlockNodes:
        producers = [self.producers.get(mask) for mask in block_inputs(node).masks]
        spatial = next((n for n in producers if n is not None and n.op_type == "SpatialMasker"), None)
        channel = next((n for n in producers if n is not None and n.op_type in _CHANNEL_MASKERS), None)
        hin, win = self.shapes[node.input[0]][2:]
        assert hin is not None and win is not None
        return BlockNodes(
            bottleneck=node,
            projection=None if node.input[1] == node.input[0] else self.producers.get(node.input[1]),
            spatial_masker=spatial,
            channel_masker=channel,
            geometry=Geometry.from_node(node),
            hin=hin,
            win=win,
            spatial_mask=self._spatial_mask(spatial),
            channel_groups=0 if channel is None else self._rows(channel.input[-1]) // 2,
        )

    def _rows(self, name: str) -> int:
        return self.initializers[name].dims[0]

    def _spatial_mask(self, masker: onnx.NodeProto | None) -> tuple[int, int, int]:
        if masker is None:
            return 0, 0, 0
        _, pool_rows, pool_cols, weight, _ = masker.input
        return (
            self._rows(weight) // 2,
            self.initializers[pool_rows].dims[0],
            self.initializers[pool_cols].dims[1],
        )

    def weights(self, block: BlockNodes) -> BlockWeights | RegNetWeights:
        """The folded weights of a block, as its family packs them."""
        arrays = [self.array(name) for name in block.weights]
        pairs = zip(arrays[::2], arrays[1::2], strict=True)
        kind: type[BlockWeights] | type[RegNetWeights] = RegNetWeights if block.is_regnet else BlockWeights
        names = (field.name for field in fields(kind))
        return kind(
            **dict(zip(names, pairs, strict=False)),  # type: ignore[arg-type]
            projection=self._pair(block.projection),
            spatial_masker=self._pair(block.spatial_masker),
            channel_masker=self._channel_masker(block.channel_masker),
        )

    def _pair(self, node: onnx.NodeProto | None) -> tuple[np.ndarray, np.ndarray] | None:
        return None if node is None else (self.array(node.input[-2]), self.array(node.input[-1]))

    def _channel_masker(self, node: onnx.NodeProto | None) -> MaskerWeights | None:
        if node is None:
            return None
        arrays = [self.array(name) for name in node.input[1:]]
        if len(arrays) == 2:
            return MaskerWeights(*arrays)
        hidden_w, hidden_b, w, b = arrays
        return MaskerWeights(w, b, hidden_w, hidden_b)

    def why_not_native(self, block: BlockNodes) -> str:
        """Why our kernels do not cover this block; empty if they do."""
        if block.is_regnet and self._rows(block.weights[0]) // block.geometry.group > WIDEST_GROUP:
            return f"conv2 has more than {WIDEST_GROUP} channels per group"
        if not block.is_regnet and block.geometry.group != 1:
            return f"conv2 has {block.geometry.group} groups"
        if block.geometry.dilation != 1:
            return f"conv2 is dilated by {block.geometry.dilation}"
        if block.geometry.stride not in (1, 2):
            return f"stride {block.geometry.stride}"
        if any(name not in self.initializers for node in block.nodes for name in _weight_names(node)):
            return "its weights are not constants"
        if block.bottleneck.input[1] != block.input and not self._is_projection(block):
            return "its residual is not a 1x1 projection of its input"
        return ""

    def _is_projection(self, block: BlockNodes) -> bool:
        node = block.projection
        if node is None or node.op_type != "Conv" or len(node.input) != 3 or node.input[0] != block.input:
            return False
        attributes = node_attributes(node)
        plain = attributes.get("group", 1) == 1 and not any(attributes.get("pads", [0]))  # type: ignore[arg-type]
        strides = attributes.get("strides", [1, 1])
        return (
            plain
            and strides == [block.geometry.stride] * 2
            and tuple(self.initializers[node.input[1]].dims[2:]) == (1, 1)
        )


def _weight_names(node: onnx.NodeProto) -> list[str]:
    return list(block_inputs(node).weights) if node.op_type in BLOCKS else list(node.input[1:])


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all value shapes inferred, weights left out of the copy."""
    import onnx

    light = onnx.ModelProto()
    light.CopyFrom(_without_large_tensors(model))
    return onnx.shape_inference.infer_shapes(light)


def _without_large_tensors(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    light = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions
    )
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    for tensor in model.graph.initializer:
        if _floats(tensor) <= 64:
            graph.initializer.append(tensor)
        else:  # as an input the shape stays known without the values
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light


def _floats(tensor: onnx.TensorProto) -> int:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count

"""Exact counts of multiply-accumulates: of the dense network, and of what one image's masks leave to be
computed.

Own derivation from the definition of the block (`laudc.ops.bottleneck`). The masks of an image decide which
values the result depends on, and only those are counted:

* conv3: for each spatial mask group its kept positions, its share of the output channels, the kept input
  channels;
* conv2: positions that any mask group keeps; kept channels in, kept channels out (per convolution group);
* conv1: input positions that a counted conv2 position reads; kept channels;
* squeeze-excitation (RegNetY): its two layers, for the kept channels. As it averages over all positions, conv1 and
  conv2 count everywhere in such a block, unless no position is kept at all or the averaging is over the kept
  positions only (`laudc.ops.regnet_block`);
* projection, stem and head: everything, always.

RegNetY's convolutions a, b, c are called conv1, conv2, conv3 here.

Products with zero padding count like any other, as is usual for the dense network. Maskers count as overhead
of the dynamic network only: the dense one has none. A pooling inside a masker counts one per value that it
adds up; poolings, ReLU and additions elsewhere are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from laudc.errors import UserError
from laudc.ops import names
from laudc.ops.attributes import Geometry, node_attributes
from laudc.ops.contract import known_shapes
from laudc.ops.numeric import upsample_mask
from laudc.ops.registry import BLOCKS, REGNET_BLOCKS, block_inputs
from laudc.ops.regnet_block import se_pool_of
from laudc.ops.spec import Array, Shape
from laudc.ops.vit_macs import VitBlockMacs, VitBlockShape, vit_block_macs

if TYPE_CHECKING:
    import onnx

_KERNEL = 3


@dataclass(frozen=True)
class BlockMasks:
    """Masks of one block for one image, of 0 and 1; None: it has none.

    channel (g,) and spatial (gs, mh, mw) of convolutional blocks; token (L-1,), head (h,) and layer (2,) of
    transformer blocks.
    """

    channel: Array | None = None
    spatial: Array | None = None
    token: Array | None = None
    head: Array | None = None
    layer: Array | None = None


@dataclass(frozen=True)
class BlockShape:
    """Everything about a block that its MACs depend on, except the masks.

    in_size and out_size are (height, width) in pixels; `channels` are those between the convolutions;
    `masker` is the MACs of all its maskers for one image; `squeeze` is the hidden channels of
    squeeze-excitation, 0 without; `pools_all` whether that averages over all positions.
    """

    name: str
    in_channels: int
    channels: int
    out_channels: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    geometry: Geometry
    projection: bool
    masker: int
    squeeze: int = 0
    pools_all: bool = False


@dataclass(frozen=True)
class NetworkShape:
    """The blocks of a network in order, and the MACs of what surrounds them for one image."""

    blocks: tuple[BlockShape | VitBlockShape, ...]
    stem: int
    head: int


@dataclass(frozen=True)
class BlockMacs:
    """MACs of one block for one image: `dense` without mask and masker, the parts as the masks leave them."""

    name: str
    dense: int
    conv1: int
    conv2: int
    conv3: int
    projection: int
    masker: int
    excitation: int = 0

    @property
    def active(self) -> int:
        """All MACs the masks leave, maskers included."""
        return self.conv1 + self.conv2 + self.conv3 + self.excitation + self.projection + self.masker


@dataclass(frozen=True)
class NetworkMacs:
    """MACs of a network for one image."""

    blocks: tuple[BlockMacs | VitBlockMacs, ...]
    stem: int
    head: int

    @property
    def dense(self) -> int:
        """MACs of the same network without masks and maskers."""
        return self.stem + self.head + sum(block.dense for block in self.blocks)

    @property
    def active(self) -> int:
        """MACs that the masks leave, maskers included."""
        return self.stem + self.head + sum(block.active for block in self.blocks)

    @property
    def ideal_speedup(self) -> float:
        """FLOP-ideal speed-up: dense over active MACs of the same image."""
        return self.dense / self.active


def conv3_positions(shape: BlockShape, spatial: Array | None) -> Array:
    """Positions each mask group keeps, bool (gs, Ho, Wo); without a spatial mask one group with all."""
    if spatial is None:
        return np.ones((1, *shape.out_size), bool)
    return upsample_mask(np.asarray(spatial)[None], *shape.out_size)[0] > 0


def conv2_positions(shape: BlockShape, spatial: Array | None) -> Array:
    """Positions that conv2 must compute, bool (Ho, Wo): the union over the mask groups; all of them where
    squeeze-excitation averages over all.
    """
    union = np.asarray(conv3_positions(shape, spatial).any(axis=0))
    return np.ones_like(union) if shape.pools_all and union.any() else union


def conv1_positions(shape: BlockShape, spatial: Array | None) -> Array:
    """Positions that conv1 must compute, bool (H, W): what the 3×3 windows of the conv2 positions read."""
    rows, columns = np.nonzero(conv2_positions(shape, spatial))
    geometry, (height, width) = shape.geometry, shape.in_size
    needed = np.zeros(shape.in_size, bool)
    for row_tap in range(-1, _KERNEL - 1):
        for column_tap in range(-1, _KERNEL - 1):
            r = rows * geometry.stride + row_tap * geometry.dilation
            c = columns * geometry.stride + column_tap * geometry.dilation
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            needed[r[inside], c[inside]] = True
    return needed


def block_macs(shape: BlockShape | VitBlockShape, masks: BlockMasks) -> BlockMacs | VitBlockMacs:
    """MACs of one block for one image."""
    if isinstance(shape, VitBlockShape):
        return vit_block_macs(shape, token=masks.token, head=masks.head, layer=masks.layer)
    return _conv_block_macs(shape, masks)


def _conv_block_macs(shape: BlockShape, masks: BlockMasks) -> BlockMacs:
    kept = _kept_per_conv_group(shape, masks.channel)
    kept_total = sum(kept)
    positions3 = conv3_positions(shape, masks.spatial)
    share = shape.out_channels // positions3.shape[0]
    pairs = sum(channels * channels for channels in kept)
    conv1 = int(conv1_positions(shape, masks.spatial).sum()) * shape.in_channels * kept_total
    conv2 = int(conv2_positions(shape, masks.spatial).sum()) * _KERNEL * _KERNEL * pairs
    conv3 = int(positions3.sum()) * share * kept_total
    projection = _area(shape.out_size) * shape.in_channels * shape.out_channels if shape.projection else 0
    excitation = 2 * shape.squeeze * kept_total if conv3 else 0
    dense = _dense_convs(shape) + 2 * shape.squeeze * shape.channels + projection
    return BlockMacs(shape.name, dense, conv1, conv2, conv3, projection, shape.masker, excitation)


def _kept_per_conv_group(shape: BlockShape, channel: Array | None) -> list[int]:
    group = shape.geometry.group
    if channel is None:
        return [shape.channels // group] * group
    kept = np.repeat(np.asarray(channel) > 0, shape.channels // len(channel))
    return [int(count) for count in kept.reshape(group, -1).sum(axis=1)]


def _dense_convs(shape: BlockShape) -> int:
    conv1 = _area(shape.in_size) * shape.in_channels
    conv2 = _area(shape.out_size) * _KERNEL * _KERNEL * (shape.channels // shape.geometry.group)
    conv3 = _area(shape.out_size) * shape.out_channels
    return shape.channels * (conv1 + conv2 + conv3)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def network_macs(shape: NetworkShape, masks: Mapping[str, BlockMasks]) -> NetworkMacs:
    """MACs of a network for one image; a block that `masks` does not name is counted as fully kept."""
    blocks = tuple(block_macs(block, masks.get(block.name, BlockMasks())) for block in shape.blocks)
    return NetworkMacs(blocks, shape.stem, shape.head)


def masks_of_image(values: Mapping[str, Array], image: int) -> dict[str, BlockMasks]:
    """Masks by block of one image of a batch.

    Args:
        values: arrays by name; those called `BLOCK.mask_KIND` (B, ...) are used, as
            `laudc.export.with_masks_as_outputs` gives them, others are passed over.
        image: index in the batch.
    """
    found: dict[str, dict[str, Array]] = {}
    for name, value in values.items():
        parts = names.split_mask_value(name)
        if parts is not None:
            block, kind = parts
            found.setdefault(block, {})[kind] = value[image]
    return {block: BlockMasks(**kinds) for block, kinds in found.items()}


def network_shape(model: onnx.ModelProto) -> NetworkShape:
    """Read from a portable graph what its MACs depend on.

    Raises:
        UserError: the graph does not declare the shapes of its values, as `laudc export` writes them.
    """
    return _Reader(model).read()


class _Reader:
    """Collects the shapes of a portable graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._shapes = known_shapes(model)
        self._initializers = {tensor.name: tensor for tensor in self._graph.initializer}
        self._producers = {output: node for node in self._graph.node for output in node.output}

    def read(self) -> NetworkShape:
        blocks = [node for node in self._graph.node if node.op_type in BLOCKS]
        projections = [
            self._producers[node.input[1]].name for node in blocks if node.input[1] != node.input[0]
        ]
        outside = ("Conv", "MatMul")
        stem = self._sum(
            node for node in self._graph.node if node.op_type in outside and node.name not in projections
        )
        head = self._sum(node for node in self._graph.node if node.op_type == "Gemm")
        convolutional = [self._block(node) for node in blocks]
        transformer = [self._vit_block(node) for node in self._graph.node if node.op_type == "DynamicMlp"]
        return NetworkShape((*convolutional, *transformer), stem, head)

    def _sum(self, nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(self._layer(node) for node in nodes)

    def _layer(self, node: onnx.NodeProto) -> int:
        """MACs of a Conv, Gemm or MatMul for one image: weights of one output position times their number."""
        if node.op_type == "MatMul":
            left, made = self._dims(node.input[0]), self._dims(node.output[0])
            return left[-1] * int(np.prod(made[1:], dtype=np.int64))
        outputs = self._dims(node.output[0])[2:]
        return int(np.prod(outputs, dtype=np.int64)) * int(np.prod(self._dims(node.input[1]), dtype=np.int64))

    def _block(self, node: onnx.NodeProto) -> BlockShape:
        inputs, attributes = block_inputs(node), node_attributes(node)
        first, last = self._dims(inputs.weights[0]), self._dims(inputs.weights[-2])
        x, y = self._dims(inputs.x), self._dims(node.output[0])
        squeezes = node.op_type in REGNET_BLOCKS
        return BlockShape(
            name=node.name,
            in_channels=first[1],
            channels=first[0],
            out_channels=last[0],
            in_size=(x[2], x[3]),
            out_size=(y[2], y[3]),
            geometry=Geometry.from_attributes(attributes),
            projection=inputs.residual != inputs.x,
            masker=sum(self._masker(self._producers[mask]) for mask in inputs.masks if mask in self._producers),
            squeeze=self._dims(inputs.weights[4])[0] if squeezes else 0,
            pools_all=squeezes and not se_pool_of(attributes),
        )

    def _vit_block(self, mlp: onnx.NodeProto) -> VitBlockShape:
        attention = self._producers[mlp.input[0]]
        tokens, dim = self._dims(mlp.input[0])[1:]
        policies = {mask for mask in attention.input[2:5] if mask in self._producers}
        return VitBlockShape(
            name=names.block_of_node(mlp.name),
            tokens=tokens,
            dim=dim,
            heads=self._dims(attention.input[3])[1],
            hidden=self._dims(mlp.input[5])[0],
            masker=sum(self._policy(self._producers[mask]) for mask in policies),
            tokens_in_mlp=mlp.input[2] == attention.input[2],
            dropped_heads=_number(attention, "dropped_heads"),
            head_width=_number(mlp, "head_width"),
        )

    def _policy(self, node: onnx.NodeProto) -> int:
        """MACs of a TokenMasker or PolicyMasker for one image."""
        return int(np.prod(self._dims(node.output[0])[1:])) * self._dims(node.input[0])[-1]

    def _masker(self, node: onnx.NodeProto) -> int:
        x = self._dims(node.input[0])
        if node.op_type == "SpatialMasker":
            weight, mask = self._dims(node.input[3]), self._dims(node.output[0])
            return x[1] * (
                weight[0] * mask[2] * mask[3] + self._pooled(node.input[1]) * self._pooled(node.input[2])
            )
        linear = sum(int(np.prod(self._dims(name))) for name in node.input[1:] if len(self._dims(name)) == 2)
        area = x[2] * x[3]
        if node.op_type == "ChannelMaskerConv":
            hidden = self._dims(node.input[1])[0]
            return area * x[1] * hidden + area * hidden + linear
        return area * x[1] + linear

    def _pooled(self, name: str) -> int:
        """Values that a pooling matrix adds up; none where it is the identity."""
        from onnx import numpy_helper

        matrix = numpy_helper.to_array(self._initializers[name])
        return 0 if matrix.shape[0] == matrix.shape[1] else int(np.count_nonzero(matrix))

    def _dims(self, name: str) -> tuple[int, ...]:
        shape: Shape = self._shapes.get(name, ())
        # Only the batch may be unknown, and it is never used.
        known = tuple(1 if dim is None and axis == 0 else dim for axis, dim in enumerate(shape))
        if not known or None in known:
            raise UserError(
                f"the MACs of value {name!r} cannot be counted",
                "the graph does not declare its shape",
                "Export the model with laudc export",
            )
        return known  # type: ignore[return-value]


def _number(node: onnx.NodeProto, name: str) -> int:
    value = node_attributes(node)[name]
    assert isinstance(value, int)
    return value

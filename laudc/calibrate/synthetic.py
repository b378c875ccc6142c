"""Networks made for measuring: random weights, and masks that keep exactly what is asked for.

Latency does not depend on what the weights are, only on what the masks keep. A few channels carry noise maps from the
stem unchanged through every block (no convolution adds to them, projections copy them); each spatial masker looks at
one of these, so that its scores do not depend on the masks before it and one pass tells where to put its threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from laudc.calibrate.synthetic_detector import Tail, tail_outputs
from laudc.calibrate.synthetic_regnet import regnet_block, regnet_stem
from laudc.ops import Geometry, names
from laudc.ops.numeric import pool_matrix
from laudc.ops.scheduled import RegNetRecord
from laudc.ops.spec import DEFAULT_OPSET
from laudc.predict.blueprint import Blueprint
from laudc.predict.regnet_blueprint import RegNetBlueprint

if TYPE_CHECKING:
    import onnx

    from laudc.export.builder import GraphBuilder, Value
    from laudc.ops.scheduled import BlockRecord

Array = np.ndarray

_CARRIED = 8  # channels that carry noise maps


@dataclass(frozen=True)
class Drawn:
    """What a made-up network shall keep: per block the share of spatial cells (or whether a layer runs) and of
    channels; entries of masks that a block does not have are ignored."""

    spatial: tuple[float, ...]
    channel: tuple[float, ...]


@dataclass(frozen=True)
class Cuts:
    """Scores from which the maskers of a block keep: one per spatial mask group, one per channel group."""

    spatial: Array
    channel: Array


def synthetic_network(
    blueprint: Blueprint | RegNetBlueprint,
    drawn: Drawn,
    seed: int,
    cuts: Mapping[str, Cuts] | None = None,
    *,
    by_image: bool = False,
    tail: Tail | None = None,
) -> onnx.ModelProto:
    """A portable model.

    Args:
        blueprint: what it consists of.
        drawn: the share of channels that it keeps; that of patches follows from `cuts`.
        seed: of the weights, and of which channels are kept.
        cuts: by block; 0 everywhere if left out.
        tail: of a detector, in place of a classifier's mean and linear layer.
        by_image: channels are decided by the image, not once and for all; `cuts` then say how many are kept.
    """
    from laudc.export.builder import GraphBuilder

    random = np.random.default_rng(seed)
    graph = GraphBuilder()
    x = graph.input(names.INPUT, (None, 3, blueprint.input_size, blueprint.input_size))
    stem = regnet_stem if isinstance(blueprint, RegNetBlueprint) else _stem
    x = stem(graph, x, blueprint.stem_channels, random)
    for index, (name, record) in enumerate(blueprint.blocks()):
        cut = (cuts or {}).get(name) or Cuts(np.zeros(record.mask_groups), np.zeros(record.channel_groups))
        share = None if by_image else drawn.channel[index]
        x = _block(graph, x, name, record, index, share, cut, random)
    head = [_head(graph, x, blueprint.num_classes, random)] if tail is None else tail_outputs(graph, x, tail, random)
    return graph.finish(head, "synthetic", DEFAULT_OPSET)


def cuts_for(
    margins: Mapping[str, Mapping[str, Array]], blueprint: Blueprint | RegNetBlueprint, drawn: Drawn
) -> dict[str, Cuts]:
    """Cuts that keep the drawn shares over all images of a pass without any: of a spatial mask's cells, and of the
    images for each channel group. With one image it keeps exactly these shares."""
    found = {}
    for index, (name, record) in enumerate(blueprint.blocks()):
        seen = margins[name]
        spatial = seen["spatial_margin"].swapaxes(0, 1) if record.mask_groups else np.zeros((0, 1))
        channel = seen["channel_margin"].T if record.channel_groups else np.zeros((0, 1))
        found[name] = Cuts(
            np.asarray([_cut(group.ravel(), drawn.spatial[index]) for group in spatial], np.float32),
            np.asarray([_cut(group, drawn.channel[index]) for group in channel], np.float32),
        )
    return found


def _cut(scores: Array, share: float) -> float:
    ascending = np.sort(scores)
    kept = round(share * len(ascending))
    if kept <= 0:
        return float(ascending[-1]) + 1.0
    if kept >= len(ascending):
        return float(ascending[0]) - 1.0
    return float(ascending[-kept] + ascending[-kept - 1]) / 2


def synthetic_image(size: int, seed: int, images: int = 1) -> Array:
    """(images, 3, size, size): smooth blobs under some noise, so that masks cluster as they do on photos."""
    random = np.random.default_rng(seed)
    cells = max(2, size // 24)
    coarse = random.standard_normal((images, 3, cells, cells)).astype(np.float32)
    index = np.minimum(np.arange(size) * cells // size, cells - 1)
    noise = random.standard_normal((images, 3, size, size)).astype(np.float32)
    return np.ascontiguousarray(coarse[:, :, index][:, :, :, index] + 0.5 * noise, dtype=np.float32)


def _normal(random: np.random.Generator, shape: tuple[int, ...], scale: float) -> Array:
    return random.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def _stem(graph: GraphBuilder, x: Value, channels: int, random: np.random.Generator) -> Value:
    weight = graph.constant("conv1.weight", _normal(random, (channels, 3, 7, 7), 0.1))
    bias = graph.constant("conv1.bias", np.full(channels, 0.5, np.float32))
    size = x.shape[2]
    assert size is not None
    half = (size - 1) // 2 + 1
    quarter = (half - 1) // 2 + 1
    window = {"strides": [2, 2], "dilations": [1, 1]}
    x = graph.standard(
        "Conv",
        "conv1",
        [x, weight, bias],
        (None, channels, half, half),
        {"kernel_shape": [7, 7], "pads": [3] * 4, "group": 1, **window},
    )
    x = graph.standard("Relu", "relu", [x], x.shape)
    return graph.standard(
        "MaxPool",
        "maxpool",
        [x],
        (None, channels, quarter, quarter),
        {"kernel_shape": [3, 3], "pads": [1] * 4, **window},
    )


def _head(graph: GraphBuilder, x: Value, classes: int, random: np.random.Generator) -> Value:
    channels = x.shape[1]
    assert channels is not None
    x = graph.standard("GlobalAveragePool", "avgpool", [x], (None, channels, 1, 1))
    x = graph.standard("Flatten", "flatten", [x], (None, channels), {"axis": 1})
    weight = graph.constant("fc.weight", _normal(random, (classes, channels), 0.01))
    bias = graph.constant("fc.bias", np.zeros(classes, np.float32))
    return graph.standard("Gemm", "fc", [x, weight, bias], (None, classes), {"transB": 1}, output=names.OUTPUT)


def _block(
    graph: GraphBuilder,
    x: Value,
    name: str,
    record: BlockRecord,
    index: int,
    channel_share: float | None,
    cuts: Cuts,
    random: np.random.Generator,
) -> Value:
    masks = []
    if record.channel_groups:
        masks.append(_channel_masker(graph, x, name, record, channel_share, cuts.channel, random))
    if record.mask_groups:
        masks.append(_spatial_masker(graph, x, name, record, index, cuts.spatial))
    residual = _projection(graph, x, name, record, random) if record.projection else x
    if isinstance(record, RegNetRecord):
        return regnet_block(graph, x, residual, masks, name, record, _CARRIED, random)
    conv3 = _normal(random, (record.cout, record.width, 1, 1), 0.1 / record.width**0.5)
    conv3[:_CARRIED] = 0
    bias3 = _normal(random, (record.cout,), 0.01)
    bias3[:_CARRIED] = 0
    arrays: dict[str, Array] = {
        "conv1.weight": _normal(random, (record.width, record.cin, 1, 1), record.cin**-0.5),
        "conv1.bias": _normal(random, (record.width,), 0.1),
        "conv2.weight": _normal(random, (record.width, record.width, 3, 3), (9 * record.width) ** -0.5),
        "conv2.bias": _normal(random, (record.width,), 0.1),
        "conv3.weight": conv3,
        "conv3.bias": bias3,
    }
    weights = [graph.constant(f"{name}.{key}", array) for key, array in arrays.items()]
    kinds = {(True, False): "ChannelBottleneck", (False, True): "SpatialBottleneck", (True, True): "DynamicBottleneck"}
    op = kinds[bool(record.channel_groups), bool(record.mask_groups)]
    return graph.semantic(op, name, (x, residual, *masks, *weights), Geometry(record.stride).attributes())


def _projection(graph: GraphBuilder, x: Value, name: str, record: BlockRecord, random: np.random.Generator) -> Value:
    weight = _normal(random, (record.cout, record.cin, 1, 1), record.cin**-0.5)
    weight[:_CARRIED] = 0
    for channel in range(_CARRIED):
        weight[channel, channel] = 1
    bias = np.zeros(record.cout, np.float32)
    path = f"{name}.proj.0" if isinstance(record, RegNetRecord) else f"{name}.downsample.0"
    inputs = [x, graph.constant(f"{path}.weight", weight), graph.constant(f"{path}.bias", bias)]
    attributes: dict[str, Any] = {
        "kernel_shape": [1, 1],
        "strides": [record.stride] * 2,
        "pads": [0] * 4,
        "dilations": [1, 1],
        "group": 1,
    }
    return graph.standard("Conv", path, inputs, (None, record.cout, record.hout, record.wout), attributes)


def _spatial_masker(graph: GraphBuilder, x: Value, name: str, record: BlockRecord, index: int, cut: Array) -> Value:
    groups = record.mask_groups
    weight = np.zeros((2 * groups, record.cin, 1, 1), np.float32)
    for group in range(groups):
        weight[group, (index + group) % _CARRIED] = 1
    bias = np.concatenate([-cut, np.zeros(groups, np.float32)]).astype(np.float32)
    path = names.masker_node(name, "spatial")
    inputs = [
        x,
        graph.constant(f"{path}.pool_rows", pool_matrix(record.hin, record.mask_h)),
        graph.constant(f"{path}.pool_cols", pool_matrix(record.win, record.mask_w).T),
        graph.constant(f"{path}.conv.weight", weight),
        graph.constant(f"{path}.conv.bias", bias),
    ]
    return graph.semantic("SpatialMasker", path, inputs, output=names.mask_value(name, "spatial"))


def _channel_masker(
    graph: GraphBuilder,
    x: Value,
    name: str,
    record: BlockRecord,
    share: float | None,
    cut: Array,
    random: np.random.Generator,
) -> Value:
    """Keeps a share of the groups whatever the image; without a share, what the means of the carried channels say."""
    groups, hidden = record.channel_groups, record.masker_hidden
    first = _normal(random, (hidden, record.cin), 1.0)
    last = np.zeros((2 * groups, hidden), np.float32)
    if share is None:
        first[:, _CARRIED:] = 0
        last[:groups] = _normal(random, (groups, hidden), 1.0)
        keep = -cut
    else:
        keep = np.where(random.permutation(groups) < round(share * groups), 1, -1)
    path = names.masker_node(name, "channel")
    inputs = [
        x,
        graph.constant(f"{path}.conv.0.weight", first),
        graph.constant(f"{path}.conv.0.bias", np.zeros(hidden, np.float32)),
        graph.constant(f"{path}.conv.2.weight", last),
        graph.constant(f"{path}.conv.2.bias", np.concatenate([keep, np.zeros(groups)]).astype(np.float32)),
    ]
    return graph.semantic("ChannelMaskerMlp", path, inputs, output=names.mask_value(name, "channel"))

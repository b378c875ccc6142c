"""The parts of made-up RegNetY networks that ResNets do not have. See `laudc.calibrate.synthetic`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from laudc.ops import Geometry
from laudc.ops.regnet_block import SE_POOL

if TYPE_CHECKING:
    from laudc.export.builder import GraphBuilder, Value
    from laudc.ops.scheduled import RegNetRecord

Array = np.ndarray


def regnet_stem(graph: GraphBuilder, x: Value, channels: int, random: np.random.Generator) -> Value:
    """Conv 3×3 of stride 2 and ReLU."""
    size = x.shape[2]
    assert size is not None
    half = (size - 1) // 2 + 1
    weight = graph.constant("stem.0.weight", _normal(random, (channels, 3, 3, 3), 0.2))
    bias = graph.constant("stem.0.bias", np.full(channels, 0.5, np.float32))
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "dilations": [1, 1], "group": 1}
    x = graph.standard("Conv", "stem.0", [x, weight, bias], (None, channels, half, half), window)
    return graph.standard("Relu", "stem.2", [x], x.shape)


def regnet_block(
    graph: GraphBuilder,
    x: Value,
    residual: Value,
    masks: Sequence[Value],
    name: str,
    record: RegNetRecord,
    carried: int,
    random: np.random.Generator,
) -> Value:
    """The block op with random weights; the first `carried` channels of its residual pass unchanged."""
    width, squeeze, per_group = record.width, record.squeeze, record.width // record.group
    last = _normal(random, (record.cout, width, 1, 1), 0.1 / width**0.5)
    last[:carried] = 0
    last_bias = _normal(random, (record.cout,), 0.01)
    last_bias[:carried] = 0
    arrays: dict[str, Array] = {
        "a.weight": _normal(random, (width, record.cin, 1, 1), record.cin**-0.5),
        "a.bias": _normal(random, (width,), 0.1),
        "b.weight": _normal(random, (width, per_group, 3, 3), (9 * per_group) ** -0.5),
        "b.bias": _normal(random, (width,), 0.1),
        "se.fc1.weight": _normal(random, (squeeze, width, 1, 1), width**-0.5),
        "se.fc1.bias": _normal(random, (squeeze,), 0.1),
        "se.fc2.weight": _normal(random, (width, squeeze, 1, 1), squeeze**-0.5),
        "se.fc2.bias": _normal(random, (width,), 0.1),
        "c.weight": last,
        "c.bias": last_bias,
    }
    weights = [graph.constant(f"{name}.f.{key}", array) for key, array in arrays.items()]
    kinds = {
        (True, False): "ChannelRegNetBlock",
        (False, True): "SpatialRegNetBlock",
        (True, True): "DynamicRegNetBlock",
    }
    attributes = Geometry(record.stride, record.group).attributes()
    if record.mask_groups:
        attributes[SE_POOL] = record.se_pool
    op = kinds[bool(record.channel_groups), bool(record.mask_groups)]
    return graph.semantic(op, name, (x, residual, *masks, *weights), attributes)


def _normal(random: np.random.Generator, shape: tuple[int, ...], scale: float) -> Array:
    return random.standard_normal(shape, dtype=np.float32) * np.float32(scale)

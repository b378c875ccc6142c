"""The packed weights of one RegNetY block, laid out as `plugins/core/regnet_desc.h` says.

Matrices and sections are as in `laudc.ops.packing`. Each group of the 3×3 convolution is a panel of its own, as wide as
whole vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laudc.ops.packing import (
    ALIGN,
    Array,
    BlockWeights,
    MaskerWeights,
    Sections,
    add_maskers,
    as_matrix,
    pack_block,
    pack_panels,
)
from laudc.ops.scheduled import BlockRecord, RegNetRecord

Pair = tuple[Array, Array]


@dataclass(frozen=True)
class RegNetWeights:
    """Folded weights of one block, in PyTorch's layouts.

    a (width, cin, 1, 1), b (width, width/group, 3, 3), squeeze (q, width, 1, 1), excite (width, q, 1, 1),
    c (width, width, 1, 1), projection (width, cin, 1, 1) or None, spatial masker (2·groups, cin, 1, 1) or None.
    """

    a: Pair
    b: Pair
    squeeze: Pair
    excite: Pair
    c: Pair
    projection: Pair | None = None
    spatial_masker: Pair | None = None
    channel_masker: MaskerWeights | None = None


def pack_conv_block(record: BlockRecord, weights: BlockWeights | RegNetWeights) -> Array:
    """The packed initializer of one block, a bottleneck or RegNetY's. Raises ValueError as that of its family does."""
    if isinstance(record, RegNetRecord):
        assert isinstance(weights, RegNetWeights)
        return pack_regnet_block(record, weights)
    assert isinstance(weights, BlockWeights)
    return pack_block(record, weights)


def pack_regnet_block(record: RegNetRecord, weights: RegNetWeights) -> Array:
    """The packed initializer of one block.

    Raises:
        ValueError: the weights do not have the shapes of the record.
    """
    _check_shapes(record, weights)
    out = Sections()
    a = as_matrix(weights.a[0])
    out.add(a.T if record.channel_groups else pack_panels(a, record.panel))
    out.add(weights.a[1])
    out.add(_group_panels(weights.b[0], record.group))
    out.add(weights.b[1])
    for weight, bias in (weights.squeeze, weights.excite):
        out.add(pack_panels(as_matrix(weight), record.panel))
        out.add(bias)
    parts = np.split(weights.c[0], record.conv3_parts)
    out.add(np.concatenate([pack_panels(as_matrix(part), record.panel) for part in parts]))
    out.add(weights.c[1])
    if weights.projection is not None:
        out.add(pack_panels(as_matrix(weights.projection[0]), record.panel))
        out.add(weights.projection[1])
    add_maskers(out, record, weights.spatial_masker, weights.channel_masker)
    return out.joined()


def _group_panels(weight: Array, group: int) -> Array:
    """(width, k, 3, 3) → per group (9·k, columns) with tap-major rows, columns padded to whole vectors."""
    width, k = weight.shape[:2]
    per_group = width // group
    rows = weight.reshape(group, per_group, k, 9).transpose(0, 3, 2, 1).reshape(group, 9 * k, per_group)
    return np.pad(rows, ((0, 0), (0, 0), (0, -per_group % ALIGN)))


def _check_shapes(record: RegNetRecord, weights: RegNetWeights) -> None:
    width, cin = record.width, record.cin
    wanted = {
        "a": (weights.a[0], (width, cin, 1, 1)),
        "b": (weights.b[0], (width, width // record.group, 3, 3)),
        "squeeze": (weights.squeeze[0], (record.squeeze, width, 1, 1)),
        "excite": (weights.excite[0], (width, record.squeeze, 1, 1)),
        "c": (weights.c[0], (record.cout, width, 1, 1)),
    }
    if weights.projection is not None:
        wanted["projection"] = (weights.projection[0], (record.cout, cin, 1, 1))
    for name, (array, shape) in wanted.items():
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, the record says {shape}")
    if (weights.projection is not None) != bool(record.projection):
        raise ValueError("projection weights and record disagree")

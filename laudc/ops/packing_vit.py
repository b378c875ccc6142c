"""The packed weights of a transformer block, laid out as `plugins/core/vit_desc.h` (`VitLayout`) says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laudc.ops.packing import Sections, pack_panels
from laudc.ops.scheduled_vit import VitRecord
from laudc.ops.transformer import MlpWidth

Array = np.ndarray
Layer = tuple[Array, Array]


@dataclass(frozen=True)
class VitWeights:
    """Weights of one block as in the portable graph: (weight, bias), matrices (outputs, inputs).

    `query` includes the scale of the scores; policies have their thresholds folded into the bias, None where the block
    has none. `norm_policy` normalises what heads and sublayers are chosen from.
    """

    epsilon: float
    norm1: Layer
    norm2: Layer
    query: Layer
    key: Layer
    value: Layer
    proj: Layer
    fc1: Layer
    fc2: Layer
    token_policy: Layer | None = None
    head_policy: Layer | None = None
    layer_policy: Layer | None = None
    norm_policy: Layer | None = None


def pack_vit_block(record: VitRecord, weights: VitWeights) -> Array:
    """The packed initializer of one block.

    Raises:
        ValueError: the weights do not have the shapes of the record.
    """
    _check_shapes(record, weights)
    out = Sections()
    out.add(np.array([weights.epsilon], np.float32))
    for layer in (
        weights.norm1,
        weights.norm2,
        weights.norm_policy,
        weights.token_policy,
        weights.head_policy,
        weights.layer_policy,
    ):
        for values in layer or ():
            out.add(values)
    projections = (weights.query, weights.key, weights.value)
    out.add(np.concatenate([_in_parts(weight, record.heads, record.panel) for weight, _ in projections]))
    out.add(np.concatenate([bias for _, bias in projections]))
    parts = record.heads if record.head_width == MlpWidth.OUTPUTS else 1
    for (weight, bias), count in ((weights.proj, 1), (weights.fc1, parts), (weights.fc2, 1)):
        out.add(_in_parts(weight, count, record.panel))
        out.add(bias)
    return out.joined()


def _in_parts(weight: Array, parts: int, panel: int) -> Array:
    """(N, K) in panels, each of `parts` equal shares of the outputs by itself."""
    return np.concatenate([pack_panels(part.T, panel) for part in np.split(weight, parts)])


def _check_shapes(record: VitRecord, weights: VitWeights) -> None:
    dim, hidden = record.dim, record.hidden
    wanted = {
        "norm1": (dim,),
        "norm2": (dim,),
        "query": (dim, dim),
        "key": (dim, dim),
        "value": (dim, dim),
        "proj": (dim, dim),
        "fc1": (hidden, dim),
        "fc2": (dim, hidden),
        "token_policy": (1, dim) if record.token_policy else None,
        "head_policy": (record.heads, dim) if record.head_policy else None,
        "layer_policy": (2, dim) if record.layer_policy else None,
        "norm_policy": (dim,) if record.norm_policy else None,
    }
    for name, shape in wanted.items():
        layer: Layer | None = getattr(weights, name)
        found = None if layer is None else layer[0].shape
        if found != shape:
            raise ValueError(f"{name} has shape {found}, the record says {shape}")
        if layer is not None and shape is not None and layer[1].shape != (shape[0],):
            raise ValueError(f"the bias of {name} has shape {layer[1].shape}, the record says {(shape[0],)}")

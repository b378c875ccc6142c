"""What the masks of the measured images keep: rates, and the speed-up that the saved arithmetic allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from laudc.engine.engine import Engine
    from laudc.ops.macs import NetworkShape

Masks = dict[str, "NDArray[np.float32]"]


@dataclass(frozen=True)
class BlockActivation:
    """Means over all images: kept share per kind of mask (None: no such mask), active and dense MACs."""

    spatial_rate: float | None = None
    channel_rate: float | None = None
    token_rate: float | None = None
    head_rate: float | None = None
    layer_rate: float | None = None
    active_macs: float | None = None
    dense_macs: float | None = None

    @property
    def share(self) -> float | None:
        """Active over dense MACs."""
        return self.active_macs / self.dense_macs if self.active_macs and self.dense_macs else None


@dataclass(frozen=True)
class Activation:
    """Means over all images, of the network and by block name."""

    active_macs: float | None
    dense_macs: float | None
    blocks: Mapping[str, BlockActivation]

    @property
    def share(self) -> float | None:
        """Active over dense MACs of the whole network; None when they cannot be counted."""
        return self.active_macs / self.dense_macs if self.active_macs and self.dense_macs else None


def trace_masks(engine: Engine, batches: Iterable[NDArray[np.float32]]) -> Masks:
    """The engine's own decisions for all images, 0 and 1, by mask name (`layer1.0.mask_spatial`)."""
    import numpy as np

    from laudc.ops import names

    found: dict[str, list[NDArray[np.float32]]] = {}
    for images in batches:
        for block, margins in engine.trace(images)[1].items():
            for key, margin in margins.items():
                kind = key.removesuffix("_margin")
                value = names.mask_value(block, kind)
                found.setdefault(value, []).append(names.kept(kind, margin).astype(np.float32))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def count_activation(masks: Masks, shape: NetworkShape | None) -> Activation:
    """Rates of all masks; MACs only with `shape`, which an engine without its portable model cannot give."""
    from laudc.ops.macs import masks_of_image, network_macs

    rates = _rates(masks)
    if shape is None:
        return Activation(None, None, {name: BlockActivation(**kinds) for name, kinds in rates.items()})
    images = len(next(iter(masks.values()), ()))
    counted = [network_macs(shape, masks_of_image(masks, image)) for image in range(images)]
    blocks = {
        block.name: BlockActivation(
            **rates.get(block.name, {}),
            active_macs=_mean(macs.blocks[index].active for macs in counted),
            dense_macs=float(block.dense),
        )
        for index, block in enumerate(counted[0].blocks)
    }
    return Activation(_mean(macs.active for macs in counted), float(counted[0].dense), blocks)


def _rates(masks: Masks) -> dict[str, dict[str, Any]]:
    from laudc.ops import names

    rates: dict[str, dict[str, Any]] = {}
    for name, mask in masks.items():
        parts = names.split_mask_value(name)
        if parts is not None:
            block, kind = parts
            rates.setdefault(block, {})[f"{kind}_rate"] = float(mask.mean())
    return rates


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)

"""The networks of the authors' scripts, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from laudc.errors import UserError
from laudc.predict.geometry import BlockGeometry, BlockRates

from .blocks import BlockMode, BlockPrediction, predict_block

if TYPE_CHECKING:
    from .model import Model


@dataclass(frozen=True)
class Architecture:
    """A network of residual blocks in four stages. `bottleneck`: output over inner channels; `group_width`: channels
    of a group of the 3×3 convolution, 0 for one group; `maps`: side of each stage's output at 224×224."""

    name: str
    depths: tuple[int, ...]
    channels: tuple[int, ...]
    stem_channels: int
    strides: tuple[int, ...]
    bottleneck: int = 4
    group_width: int = 0
    squeeze: bool = False
    maps: tuple[int, ...] = (56, 28, 14, 7)


_RESNET = ((256, 512, 1024, 2048), 64, (1, 2, 2, 2))
RESNET50 = Architecture("resnet50", (3, 4, 6, 3), *_RESNET)
RESNET101 = Architecture("resnet101", (3, 4, 23, 3), *_RESNET)
_REGNET = (32, (2, 2, 2, 2), 1)
REGNETY_400MF = Architecture("regnety_400mf", (1, 3, 6, 6), (48, 104, 208, 440), *_REGNET, group_width=8, squeeze=True)
REGNETY_800MF = Architecture("regnety_800mf", (1, 3, 8, 2), (64, 144, 320, 784), *_REGNET, group_width=16, squeeze=True)


def blocks_of(
    architecture: Architecture, *, granules: Sequence[int] = (1, 1, 1, 1), channel_granule: int = 1
) -> list[BlockGeometry]:
    """All blocks at 224×224 in order, with the spatial granule of each stage.

    Raises:
        UserError: there are not as many granules as stages.
    """
    if len(granules) != len(architecture.depths):
        raise UserError(
            f"granules {'-'.join(map(str, granules))} do not fit {architecture.name}",
            f"it has {len(architecture.depths)} stages",
            "give one granule per stage",
        )
    found: list[BlockGeometry] = []
    cin = architecture.stem_channels
    stages = zip(
        architecture.depths, architecture.channels, architecture.strides, architecture.maps, granules, strict=True
    )
    for depth, cout, first_stride, side, granule in stages:
        width = cout // architecture.bottleneck
        later = BlockGeometry(
            cin=cout,
            width=width,
            cout=cout,
            stride=1,
            h=side,
            w=side,
            groups=width // architecture.group_width if architecture.group_width else 1,
            squeeze=architecture.squeeze,
            granule=granule,
            channel_granule=channel_granule,
        )
        entered = side * first_stride
        found.append(replace(later, cin=cin, stride=first_stride, h=entered, w=entered))
        found.extend([later] * (depth - 1))
        cin = cout
    return found


def predict_network(
    model: Model,
    blocks: Sequence[BlockGeometry],
    mode: BlockMode | str = BlockMode.STATIC,
    rates: BlockRates | Sequence[BlockRates] | None = None,
) -> list[BlockPrediction]:
    """Each block with its own rates, or all with the same. Stem, head, BatchNorm and ReLU cost nothing here."""
    each = [rates or BlockRates()] * len(blocks) if not isinstance(rates, Sequence) else rates
    return [predict_block(model, block, mode, rate) for block, rate in zip(blocks, each, strict=True)]

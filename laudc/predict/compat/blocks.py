"""A whole residual block (ResNet bottleneck or RegNetY block) in each dynamic mode."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laudc.predict.geometry import BlockGeometry, BlockRates

from .conv import conv
from .cost import FREE, Cost, total
from .dynamic_conv import dynamic_conv
from .dynamic_se import dynamic_se
from .maskers import channel_masker, masker_conv1
from .movement import scatter_add
from .plain import add, se

if TYPE_CHECKING:
    from .model import Model

_MASKER_LAYERS = 2
_MASKER_REDUCTION = 16


class BlockMode(str, enum.Enum):
    """What a block skips."""

    STATIC = "static"
    SPATIAL = "spatial"
    CHANNEL = "channel"
    LAYER = "layer"

    @classmethod
    def of_record(cls, record: Any) -> BlockMode:
        """The mode of a scheduled block (`laudc.ops.scheduled.BlockRecord` or anything with its fields).

        A spatial mask of a single cell skips whole layers, unless there is a channel mask too.
        """
        if not record.mask_groups:
            return cls.CHANNEL if record.channel_groups else cls.STATIC
        single = record.mask_h * record.mask_w == 1
        return cls.LAYER if single and not record.channel_groups else cls.SPATIAL


@dataclass(frozen=True)
class BlockPrediction:
    """Cost of each part of a block, in the order of execution."""

    parts: dict[str, Cost]

    @property
    def cost(self) -> Cost:
        """The whole block."""
        return total(list(self.parts.values()))

    @property
    def latency_s(self) -> float:
        """Seconds of the whole block for one call of the device's batch."""
        return self.cost.latency_s


def predict_block(
    model: Model, block: BlockGeometry, mode: BlockMode | str = BlockMode.STATIC, rates: BlockRates | None = None
) -> BlockPrediction:
    """What the authors' model says about a block.

    `mode` spatial with a channel rate below 1 is their model of both masks at once. They charge the projection shortcut
    exactly where the stride is 2, whatever the block has, and use one spatial rate for all three convolutions.
    """
    rates = rates or BlockRates()
    parts = {
        BlockMode.STATIC: _static,
        BlockMode.SPATIAL: _spatial,
        BlockMode.CHANNEL: _channel,
        BlockMode.LAYER: _layer,
    }[BlockMode(mode)](model, block, rates)
    return BlockPrediction({name: cost for name, cost in parts.items() if cost is not FREE})


def _static(model: Model, block: BlockGeometry, rates: BlockRates) -> dict[str, Cost]:
    return {**_static_body(model, block), "shortcut": _shortcut(model, block)}


def _static_body(model: Model, block: BlockGeometry) -> dict[str, Cost]:
    parts = {
        "conv1": conv(model, cin=block.cin, cout=block.width, inh=block.h, inw=block.w, ks=1),
        "conv2": conv(
            model,
            cin=block.width,
            cout=block.width,
            inh=block.h,
            inw=block.w,
            ks=3,
            groups=block.groups,
            stride=block.stride,
        ),
        "conv3": conv(model, cin=block.width, cout=block.cout, inh=block.out_h, inw=block.out_w, ks=1),
        "add": add(model, c=block.cout, h=block.out_h, w=block.out_w),
    }
    if block.squeeze:
        parts["se"] = se(model, c=block.width, h=block.out_h, w=block.out_w, squeeze_channels=block.squeeze_channels)
    return parts


def _shortcut(model: Model, block: BlockGeometry) -> Cost:
    if block.stride != 2:
        return FREE
    return conv(model, cin=block.cin, cout=block.cout, inh=block.h, inw=block.w, ks=1, stride=2)


def _spatial(model: Model, block: BlockGeometry, rates: BlockRates) -> dict[str, Cost]:
    density, share, width = rates.spatial, rates.channel, block.width
    runs = width // block.channel_granule
    return {
        "masker+conv1": masker_conv1(
            model,
            cin=block.cin,
            cout=width,
            h=block.h,
            w=block.w,
            granul_size=block.granule,
            density=density,
            nxt_layer_ks=3,
            c_density=share,
            n_c_dy_group=block.channel_granule,
            channel_masker=False,
            spatial_masker=True,
        ),
        "conv2": dynamic_conv(
            model,
            cin=width,
            cout=width,
            inh=block.h,
            inw=block.w,
            ks=3,
            groups=block.groups,
            stride=block.stride,
            granul_size=block.granule,
            density=density,
            with_indexing=True,
            ic_density=share,
            oc_density=share,
            c_n_groups=runs,
        ),
        "conv3": dynamic_conv(
            model,
            cin=width,
            cout=block.cout,
            inh=block.out_h,
            inw=block.out_w,
            ks=1,
            granul_size=block.granule,
            density=density,
            ic_density=share,
            c_n_groups=runs,
        ),
        **_ending(model, block, density),
    }


def _channel(model: Model, block: BlockGeometry, rates: BlockRates) -> dict[str, Cost]:
    share, width = rates.channel, block.width
    return {
        "conv1": conv(model, cin=block.cin, cout=width, inh=block.h, inw=block.w, ks=1, oc_density=share),
        "masker": channel_masker(
            model,
            cin=block.cin,
            h=block.h,
            w=block.w,
            n_c_dy_group=block.channel_granule,
            n_fc_layers=_MASKER_LAYERS,
            reduction_size=_MASKER_REDUCTION,
        ),
        "conv2": conv(
            model,
            cin=width,
            cout=width,
            inh=block.h,
            inw=block.w,
            ks=3,
            groups=block.groups,
            stride=block.stride,
            ic_density=share,
            oc_density=share,
        ),
        "conv3": conv(model, cin=width, cout=block.cout, inh=block.out_h, inw=block.out_w, ks=1, ic_density=share),
        **_ending(model, block, 1.0),
    }


def _ending(model: Model, block: BlockGeometry, density: float) -> dict[str, Cost]:
    """What follows the convolutions of a masked block; a channel-masked one pays for scattering all patches."""
    parts = {
        "scatter-add": scatter_add(
            model, c=block.cout, h=block.out_h, w=block.out_w, granul_size=block.granule, density=density
        ),
        "shortcut": _shortcut(model, block),
    }
    if block.squeeze:
        parts["se"] = dynamic_se(
            model,
            c=block.width,
            h=block.out_h,
            w=block.out_w,
            squeeze_channels=block.squeeze_channels,
            granul_size=block.granule,
            density=density,
        )
    return parts


def _layer(model: Model, block: BlockGeometry, rates: BlockRates) -> dict[str, Cost]:
    # In effect: reads the block's input once.
    masker = conv(model, cin=block.cin, cout=block.width + 1, inh=block.h, inw=block.w, ks=1, oc_density=0.0)
    body = {name: cost * rates.layer for name, cost in _static_body(model, block).items()}
    return {"masker": masker, "shortcut": _shortcut(model, block), **body}

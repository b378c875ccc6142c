"""Sizes and activation rates of a residual block, as the latency models need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SE_SHARE = 0.25


@dataclass(frozen=True)
class BlockGeometry:
    """Sizes of a block: `cin` → `width` → `cout` channels, the middle convolution 3×3 with `stride` and `groups`.

    `h`, `w` are the pixels of the block's input. `granule`: side of a spatial patch at the block's output.
    `channel_granule`: channels that are switched together. `squeeze` whether there is a squeeze-and-excitation.
    `projection`: whether the shortcut has a convolution; None where the input's sizes decide.
    """

    cin: int
    width: int
    cout: int
    stride: int
    h: int
    w: int
    groups: int = 1
    squeeze: bool = False
    granule: int = 1
    channel_granule: int = 1
    projection: bool | None = None

    @property
    def projected(self) -> bool:
        """Whether the shortcut has a convolution."""
        return self.stride != 1 or self.cin != self.cout if self.projection is None else self.projection

    @property
    def out_h(self) -> int:
        """Rows of the output."""
        return self.h // self.stride

    @property
    def out_w(self) -> int:
        """Columns of the output."""
        return self.w // self.stride

    @property
    def squeeze_channels(self) -> int:
        """Channels inside the squeeze-and-excitation; 0 without one."""
        return round(_SE_SHARE * self.cin) if self.squeeze else 0

    @classmethod
    def of_record(cls, record: Any) -> BlockGeometry:
        """The geometry of a scheduled block (`laudc.ops.scheduled.BlockRecord` or anything with its fields).

        Records of RegNet blocks also have `group` and `squeeze`. Where a mask does not divide the map evenly, the
        granule is the larger patch.
        """
        out_h, out_w = -(-record.hin // record.stride), -(-record.win // record.stride)
        granule = 1
        if record.mask_groups:
            granule = max(-(-out_h // record.mask_h), -(-out_w // record.mask_w))
        return cls(
            cin=record.cin,
            width=record.width,
            cout=record.cout,
            stride=record.stride,
            # Odd inputs are rounded up to what divides by the stride.
            h=out_h * record.stride,
            w=out_w * record.stride,
            groups=getattr(record, "group", 1),
            squeeze=bool(getattr(record, "squeeze", 0)),
            granule=granule,
            channel_granule=record.width // record.channel_groups if record.channel_groups else 1,
            projection=bool(record.projection),
        )


@dataclass(frozen=True)
class BlockRates:
    """Activation rates between 0 and 1: share of active patches, of channels switched on, of samples that run the
    block."""

    spatial: float = 1.0
    channel: float = 1.0
    layer: float = 1.0

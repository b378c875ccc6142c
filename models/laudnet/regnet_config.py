"""LAUD-RegNetY: what its stages look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .config import DynamicConfig, StageGeometry

STEM_CHANNELS = 32
#: Width of the squeeze-excitation bottleneck relative to the block's input.
SE_RATIO = 0.25


@dataclass(frozen=True)
class _Design:
    """Channels and blocks per stage, and channels per group of the 3x3 convolution."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    group_width: int


_DESIGNS = {
    "lad_regnet_y_400mf": _Design((48, 104, 208, 440), (1, 3, 6, 6), 8),
    "lad_regnet_y_800mf": _Design((64, 144, 320, 784), (1, 3, 8, 2), 16),
    "lad_regnet_y_1_6gf": _Design((48, 120, 336, 888), (2, 6, 17, 2), 24),
}


@dataclass(frozen=True)
class RegNetConfig(DynamicConfig):
    """Constructor arguments of a LAUD-RegNetY.

    arch: 'lad_regnet_y_400mf', 'lad_regnet_y_800mf' or 'lad_regnet_y_1_6gf'.
    se_pool: 'all' averages a block's features over all positions before squeeze-excitation, as the network was
    trained. 'active' averages over the positions that the spatial mask keeps: then nothing has to be computed
    elsewhere, but it is another network, whose outputs differ.
    """

    arch: str = "lad_regnet_y_400mf"
    layers: tuple[int, ...] = _DESIGNS["lad_regnet_y_400mf"].depths
    se_pool: str = "all"

    MODES: ClassVar[tuple[str, ...]] = ("channel", "spatial", "both")
    DEPTHS: ClassVar[Mapping[str, tuple[int, ...]]] = {name: design.depths for name, design in _DESIGNS.items()}

    @property
    def stem_channels(self) -> int:
        """Channels after the stem."""
        return STEM_CHANNELS

    def stage(self, index: int) -> StageGeometry:
        """Geometry of stage `index` (0..3)."""
        design = _DESIGNS[self.arch]
        width = design.widths[index]
        return StageGeometry(
            width=width,
            out_channels=width,
            groups=width // design.group_width,
            stride=2,
            first_dilation=1,
            dilation=1,
            output_size=self._output_size(index),
            mask_size=self._mask_size(index),
            channel_groups=self._channel_groups(index, width),
        )

    @staticmethod
    def squeeze_channels(in_channels: int) -> int:
        """Hidden channels of squeeze-excitation in a block with `in_channels` input channels."""
        return round(SE_RATIO * in_channels)

    def _check_types(self) -> None:
        super()._check_types()
        if self.se_pool not in ("all", "active"):
            raise ValueError(f"se_pool: {self.se_pool!r} is neither 'all' nor 'active'")



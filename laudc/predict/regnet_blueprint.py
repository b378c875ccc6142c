"""LAUD-RegNetY networks by description, as `laudc.predict.blueprint` has LAUD-ResNets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from laudc.ops.scheduled import ChannelMasker, RegNetRecord
from laudc.predict.blueprint import masker_hidden

_SE_RATIO = 0.25


@dataclass(frozen=True)
class RegNetBlueprint:
    """A LAUD-RegNetY by description; per-stage options have one entry for each stage.

    layers: blocks per stage. widths: channels of each stage, multiples of group_width, the channels per group of conv
    b. modes: "spatial", "channel" or "both". spatial: S, output pixels per mask cell and side. channel: G, channels per
    decision. se_pool: as the attribute of the semantic op. input_size: side of the square image in pixels.
    """

    layers: tuple[int, ...]
    widths: tuple[int, ...]
    group_width: int
    modes: tuple[str, ...]
    spatial: tuple[int, ...]
    channel: tuple[int, ...]
    se_pool: int = 0
    input_size: int = 224
    num_classes: int = 1000
    stem_channels: int = 32

    #: Side of the stem's convolution.
    stem_kernel: ClassVar[int] = 3

    def blocks(self, panel: int = 64) -> list[tuple[str, RegNetRecord]]:
        """(module path, record) of every block."""
        made = []
        cin, size = self.stem_channels, (self.input_size - 1) // 2 + 1
        for stage, layers in enumerate(self.layers):
            for index in range(layers):
                record = self._record(stage, cin, size, 1 if index else 2, panel)
                made.append((f"trunk_output.block{stage + 1}.block{stage + 1}-{index}", record))
                cin, size = record.cout, record.hout
        return made

    def _record(self, stage: int, cin: int, size: int, stride: int, panel: int) -> RegNetRecord:
        width, mode = self.widths[stage], self.modes[stage]
        cells = 0 if mode == "channel" else max(1, ((size - 1) // stride + 1) // self.spatial[stage])
        groups = 0 if mode == "spatial" else width // self.channel[stage]
        return RegNetRecord(
            cin=cin,
            width=width,
            cout=width,
            stride=stride,
            hin=size,
            win=size,
            projection=int(stride != 1 or cin != width),
            mask_groups=int(cells > 0),
            mask_h=cells,
            mask_w=cells,
            channel_groups=groups,
            channel_masker=ChannelMasker.MLP if groups else ChannelMasker.NONE,
            masker_hidden=masker_hidden(groups),
            panel=panel,
            group=width // self.group_width,
            squeeze=round(_SE_RATIO * cin),
            se_pool=self.se_pool if cells else 0,
        )

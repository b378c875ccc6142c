"""Networks by description: what a LAUD-ResNet of given depth, width, masks and input size consists of.

Needs neither weights nor torch, so that networks that do not exist yet can be predicted (`laudc search`) and made up
for measurements (`laudc calibrate`). The rules are those of LAUDNet's constructor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from laudc.ops.scheduled import BlockRecord, ChannelMasker

STAGES = 4
EXPANSION = 4
MODES = ("spatial", "channel", "layer", "both")
ARCHITECTURES = {"uni_resnet50": (3, 4, 6, 3), "uni_resnet101": (3, 4, 23, 3)}
_MIN_HIDDEN = 16
_REDUCTION = 16


def masker_hidden(groups: int) -> int:
    """Hidden channels of a channel masker for so many groups; 0 without one."""
    return max(groups // _REDUCTION, _MIN_HIDDEN) if groups else 0


@dataclass(frozen=True)
class Blueprint:
    """A LAUD-ResNet by description; per-stage options have four entries.

    layers: blocks per stage. modes: one of MODES. spatial: S, output pixels per mask cell and side. channel: G,
    channels per decision. input_size: side of the square image in pixels. width_mult: scales all channels.
    """

    layers: tuple[int, ...] = ARCHITECTURES["uni_resnet50"]
    modes: tuple[str, ...] = ("spatial",) * STAGES
    spatial: tuple[int, ...] = (1,) * STAGES
    channel: tuple[int, ...] = (1,) * STAGES
    input_size: int = 224
    width_mult: float = 1.0
    num_classes: int = 1000

    #: Side of the stem's convolution.
    stem_kernel: ClassVar[int] = 7

    @property
    def stem_channels(self) -> int:
        """Channels that the stem makes."""
        return int(64 * self.width_mult)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of conv2 in each stage."""
        return tuple(int(64 * 2**stage * self.width_mult) for stage in range(len(self.layers)))

    @property
    def stem_size(self) -> int:
        """Side of the map behind the stem, in pixels."""
        half = (self.input_size - 1) // 2 + 1
        return (half - 1) // 2 + 1

    def blocks(self, panel: int = 64) -> list[tuple[str, BlockRecord]]:
        """(module path, record) of every block, conv2 direct."""
        made = []
        cin, size = self.stem_channels, self.stem_size
        for stage, layers in enumerate(self.layers):
            for index in range(layers):
                stride = 2 if stage and not index else 1
                record = self._record(stage, index, cin, size, stride, panel)
                made.append((f"layer{stage + 1}.{index}", record))
                cin, size = record.cout, record.hout
        return made

    def _record(self, stage: int, index: int, cin: int, size: int, stride: int, panel: int) -> BlockRecord:
        width = self.widths[stage]
        mode = self.modes[stage]
        out = (size - 1) // stride + 1
        cells = {"channel": 0, "layer": 1}.get(mode, max(1, out // self.spatial[stage]))
        groups = width // self.channel[stage] if mode in ("channel", "both") else 0
        return BlockRecord(
            cin=cin,
            width=width,
            cout=width * EXPANSION,
            stride=stride,
            hin=size,
            win=size,
            projection=int(index == 0),
            mask_groups=int(cells > 0),
            mask_h=cells,
            mask_w=cells,
            channel_groups=groups,
            channel_masker=ChannelMasker.MLP if groups else ChannelMasker.NONE,
            masker_hidden=masker_hidden(groups),
            panel=panel,
        )

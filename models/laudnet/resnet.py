"""LAUD-ResNet: torchvision's ResNet (stride on the 3x3 convolution) with maskers in every block.

Parameter names equal those of the authors' checkpoints. Semantics: LAUDNet (TPAMI 2024), authors' code. Two
points decide exactness: the channel mask sits between convolution and BN, so a dropped channel carries the
constant relu(BN bias term), not zero; the spatial mask sits after bn3 and before the residual sum.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from .config import STAGES, LaudConfig
from .maskers import ChannelMasker, Decision, SpatialMasker
from .network import DynamicBlock, DynamicNetwork, make_channel, make_spatial, mask_channels, mask_positions


class Bottleneck(DynamicBlock):
    """1x1 -> 3x3 (stride) -> 1x1 with residual; maskers read the block's dense input."""

    def __init__(self, config: LaudConfig, stage_index: int, in_channels: int, first: bool) -> None:
        super().__init__()
        stage = config.stage(stage_index)
        self.mode = config.dyn_mode[stage_index]
        self.stride = stage.stride if first else 1
        self.dilation = stage.first_dilation if first else stage.dilation
        self.conv1 = nn.Conv2d(in_channels, stage.width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stage.width)
        self.conv2 = nn.Conv2d(
            stage.width,
            stage.width,
            3,
            self.stride,
            padding=self.dilation,
            dilation=self.dilation,
            groups=config.groups,
            bias=False,
        )
        self.bn2 = nn.BatchNorm2d(stage.width)
        self.conv3 = nn.Conv2d(stage.width, stage.out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(stage.out_channels)
        self.relu = nn.ReLU()
        self.downsample = self._make_downsample(in_channels, stage.out_channels)
        self.masker_spatial = make_spatial(config, stage_index, in_channels)
        self.masker_channel = make_channel(config, stage_index, in_channels)

    def deciders(self) -> tuple[ChannelMasker | None, SpatialMasker | None]:
        """See `DynamicBlock.deciders`."""
        return self.masker_channel, self.masker_spatial

    def _make_downsample(self, in_channels: int, out_channels: int) -> nn.Sequential | None:
        if self.stride == 1 and in_channels == out_channels:
            return None
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, self.stride, bias=False), nn.BatchNorm2d(out_channels)
        )

    def _compute(self, x: Tensor, channel: Decision | None, spatial: Decision | None) -> Tensor:
        y = self.relu(self.bn1(mask_channels(self.conv1(x), channel)))
        y = self.relu(self.bn2(mask_channels(self.conv2(y), channel)))
        y = mask_positions(self.bn3(self.conv3(y)), spatial)
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu(y + identity)


class ResNetTrunk(nn.Module):
    """Stem and stages of a LAUD-ResNet: what a classifier and a detector's backbone share, key by key."""

    def __init__(self, config: LaudConfig) -> None:
        super().__init__()
        channels = config.stem_channels
        self.conv1 = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        for index in range(STAGES):
            self.add_module(f"layer{index + 1}", self._make_stage(config, index, channels))
            channels = config.stage(index).out_channels
        self._initialise(config)

    @staticmethod
    def _make_stage(config: LaudConfig, index: int, in_channels: int) -> nn.Sequential:
        blocks = []
        for position in range(config.layers[index]):
            blocks.append(Bottleneck(config, index, in_channels, first=position == 0))
            in_channels = config.stage(index).out_channels
        return nn.Sequential(*blocks)

    def _initialise(self, config: LaudConfig) -> None:
        # Maskers keep the initialisation they chose themselves.
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and ".masker_" not in name:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if config.zero_init_residual:
            for _, block in self.blocks():
                nn.init.zeros_(block.bn3.weight)

    def blocks(self) -> Iterator[tuple[str, Bottleneck]]:
        """('layer1.0', block) ... in forward order."""
        for number in range(1, STAGES + 1):
            stage = self.get_submodule(f"layer{number}")
            assert isinstance(stage, nn.Sequential)
            for index, block in enumerate(stage):
                assert isinstance(block, Bottleneck)
                yield f"layer{number}.{index}", block

    def stem(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> the first stage's input."""
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))


class LaudResNet(ResNetTrunk, DynamicNetwork):
    """LAUD-ResNet built from a `LaudConfig`. See `DynamicNetwork` for how to run it."""

    config: LaudConfig

    def __init__(self, config: LaudConfig) -> None:
        super().__init__(config)
        self.config = config
        self.fc = nn.Linear(config.stage(STAGES - 1).out_channels, config.num_classes)

    def _stem(self, x: Tensor) -> Tensor:
        return self.stem(x)

    def _head(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))

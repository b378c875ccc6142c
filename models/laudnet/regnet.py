"""LAUD-RegNetY: torchvision's RegNetY with maskers in every block.

Parameter names equal those of the authors' checkpoints. Semantics: LAUDNet (TPAMI 2024), authors' code. Two points
decide exactness, and both differ from LAUD-ResNet: the channel mask comes after BN and ReLU, so a dropped channel is
zero; squeeze-excitation averages over *all* positions, whatever the spatial mask keeps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .config import STAGES
from .maskers import ChannelMasker, Decision, SpatialMasker, upsample_mask
from .network import DynamicBlock, DynamicNetwork, make_channel, make_spatial, mask_channels, mask_positions
from .regnet_config import RegNetConfig


def _conv_norm(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    padding = (kernel - 1) // 2
    conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


class SqueezeExcitation(nn.Module):
    """Mean over positions -> 1x1, ReLU, 1x1, sigmoid: a factor per channel. Keys: `fc1.*`, `fc2.*`."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """x (B, C, H, W) scaled; the mean is over `positions` (B, 1, H, W) of 0 and 1 (none at all: zero)."""
        if positions is None:
            mean = x.mean((2, 3), keepdim=True)
        else:
            mean = (x * positions).sum((2, 3), keepdim=True) / positions.sum((2, 3), keepdim=True).clamp(min=1)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(mean))))


class RegNetTransform(nn.Module):
    """The parameters of a block's branch: 1x1 (a) -> grouped 3x3 (b) -> squeeze-excitation -> 1x1 (c), and maskers."""

    def __init__(self, config: RegNetConfig, stage_index: int, in_channels: int, first: bool) -> None:
        super().__init__()
        stage = config.stage(stage_index)
        width = stage.width
        self.a = nn.Sequential(*_conv_norm(in_channels, width, 1), nn.ReLU())
        stride = stage.stride if first else 1
        self.b = nn.Sequential(*_conv_norm(width, width, 3, stride, stage.groups), nn.ReLU())
        self.se = SqueezeExcitation(width, config.squeeze_channels(in_channels))
        self.c = nn.Sequential(*_conv_norm(width, width, 1))
        self.masker_spatial = make_spatial(config, stage_index, in_channels)
        self.masker_channel = make_channel(config, stage_index, in_channels)


class RegNetBlock(DynamicBlock):
    """relu(proj(x) + branch(x)), the branch masked by channels after a and b, by positions after c."""

    def __init__(self, config: RegNetConfig, stage_index: int, in_channels: int, first: bool) -> None:
        super().__init__()
        self.mode = config.dyn_mode[stage_index]
        self.se_pool = config.se_pool
        stage = config.stage(stage_index)
        self.stride = stage.stride if first else 1
        self.proj = (
            nn.Sequential(*_conv_norm(in_channels, stage.width, 1, self.stride))
            if self.stride != 1 or in_channels != stage.width
            else None
        )
        self.f = RegNetTransform(config, stage_index, in_channels, first)
        self.relu = nn.ReLU()

    def deciders(self) -> tuple[ChannelMasker | None, SpatialMasker | None]:
        """See `DynamicBlock.deciders`."""
        return self.f.masker_channel, self.f.masker_spatial

    def _compute(self, x: Tensor, channel: Decision | None, spatial: Decision | None) -> Tensor:
        y = mask_channels(self.f.a(x), channel)
        y = mask_channels(self.f.b(y), channel)
        y = self.f.se(y, self._pooled_positions(y, spatial))
        y = mask_positions(self.f.c(y), spatial)
        return self.relu((x if self.proj is None else self.proj(x)) + y)

    def _pooled_positions(self, y: Tensor, spatial: Decision | None) -> Tensor | None:
        """Positions (B, 1, H, W) that squeeze-excitation averages over; None: all of them."""
        if spatial is None or self.se_pool == "all":
            return None
        return upsample_mask(spatial.keep, (y.shape[2], y.shape[3])).amax(1, keepdim=True)


class LaudRegNet(DynamicNetwork):
    """LAUD-RegNetY built from a `RegNetConfig`. See `DynamicNetwork` for how to run it."""

    config: RegNetConfig

    def __init__(self, config: RegNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.stem_channels
        self.stem = nn.Sequential(*_conv_norm(3, channels, 3, 2), nn.ReLU())
        self.trunk_output = nn.Sequential()
        for index in range(STAGES):
            self.trunk_output.add_module(f"block{index + 1}", self._make_stage(index, channels))
            channels = config.stage(index).out_channels
        self.fc = nn.Linear(channels, config.num_classes)
        self._initialise()

    def _make_stage(self, index: int, in_channels: int) -> nn.Sequential:
        stage = nn.Sequential()
        for position in range(self.config.layers[index]):
            block = RegNetBlock(self.config, index, in_channels, first=position == 0)
            stage.add_module(f"block{index + 1}-{position}", block)
            in_channels = self.config.stage(index).out_channels
        return stage

    def _initialise(self) -> None:
        # Maskers keep the initialisation they chose themselves.
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and ".masker_" not in name:
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)

    def blocks(self) -> Iterator[tuple[str, RegNetBlock]]:
        """('trunk_output.block1.block1-0', block) ... in forward order."""
        for stage_name, stage in self.trunk_output.named_children():
            for name, block in stage.named_children():
                assert isinstance(block, RegNetBlock)
                yield f"trunk_output.{stage_name}.{name}", block

    def _stem(self, x: Tensor) -> Tensor:
        return self.stem(x)

    def _head(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))

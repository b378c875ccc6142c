"""Parts of detectors that all images pass: MMDetection's FPN, ChannelMapper and RetinaNet head, by its keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .detector_config import DetectorConfig


class ConvModule(nn.Module):
    """MMDetection's wrapper of one convolution, by its keys: `conv.*` and, with normalisation, `gn.*`."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups_of_norm: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=not groups_of_norm)
        self.gn = nn.GroupNorm(groups_of_norm, channels) if groups_of_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in, H, W) -> (B, out, Ho, Wo)."""
        x = self.conv(x)
        return x if self.gn is None else self.gn(x)


class FeaturePyramid(nn.Module):
    """FPN. Keys: `lateral_convs.i.conv.*`, `fpn_convs.i.conv.*` (those of extra levels last)."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels = config.neck_channels
        inputs = [config.stage(stage).out_channels for stage in config.stages]
        self.extra_levels, self.extra_relu = config.extra_levels, config.extra_relu
        self.extra = config.neck_levels - len(inputs)
        self.lateral_convs = nn.ModuleList(ConvModule(count, channels, 1) for count in inputs)
        convs = [ConvModule(channels, channels, 3) for _ in inputs]
        if self.extra_levels != "pool":
            for level in range(self.extra):
                first = inputs[-1] if level == 0 and self.extra_levels == "on_input" else channels
                convs.append(ConvModule(first, channels, 3, 2))
        self.fpn_convs = nn.ModuleList(convs)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Stage maps, finest first -> `neck_levels` maps, finest first."""
        levels = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for i in range(len(levels) - 1, 0, -1):
            size = levels[i - 1].shape[2:]
            levels[i - 1] = levels[i - 1] + F.interpolate(levels[i], size=size, mode="nearest")
        outputs = [conv(x) for conv, x in zip(self.fpn_convs, levels, strict=False)]
        for level in range(self.extra):
            if self.extra_levels == "pool":
                outputs.append(outputs[-1][:, :, ::2, ::2])
                continue
            source = maps[-1] if level == 0 and self.extra_levels == "on_input" else outputs[-1]
            source = torch.relu(source) if level and self.extra_relu else source
            outputs.append(self.fpn_convs[len(maps) + level](source))
        return outputs


class ChannelMapper(nn.Module):
    """DETR-like necks: a 1x1 convolution and group norm per stage, strided 3x3 ones for extra levels."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels = config.neck_channels
        inputs = [config.stage(stage).out_channels for stage in config.stages]
        groups = min(32, channels)
        self.convs = nn.ModuleList(ConvModule(count, channels, 1, 1, groups) for count in inputs)
        extra = config.neck_levels - len(inputs)
        sources = [inputs[-1], *[channels] * extra][:extra]
        self.extra_convs = nn.ModuleList(ConvModule(count, channels, 3, 2, groups) for count in sources)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Stage maps, finest first -> `neck_levels` maps, finest first."""
        outputs = [conv(x) for conv, x in zip(self.convs, maps, strict=True)]
        for level, conv in enumerate(self.extra_convs):
            outputs.append(conv(maps[-1] if level == 0 else outputs[-1]))
        return outputs


class RetinaHead(nn.Module):
    """RetinaNet's two branches, shared by all levels. Keys: `cls_convs`, `reg_convs`, `retina_cls`, `retina_reg`."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels, depth = config.neck_channels, config.head_depth
        self.classes = config.num_classes
        self.cls_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in range(depth))
        self.reg_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in range(depth))
        self.retina_cls = nn.Conv2d(channels, config.anchors_per_position * config.num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(channels, config.anchors_per_position * 4, 3, padding=1)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """-> class logits (B, anchors of all levels, classes) and box deltas (B, anchors of all levels, 4)."""
        logits = [self._branch(self.cls_convs, self.retina_cls, x, self.classes) for x in maps]
        deltas = [self._branch(self.reg_convs, self.retina_reg, x, 4) for x in maps]
        return [torch.cat(logits, 1), torch.cat(deltas, 1)]

    @staticmethod
    def _branch(convs: nn.ModuleList, last: nn.Module, x: Tensor, values: int) -> Tensor:
        for conv in convs:
            x = torch.relu(conv(x))
        return last(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)

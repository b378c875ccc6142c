"""LAUD-ResNet: torchvision's ResNet (stride on the 3x3 convolution) with maskers in every block.

Parameter names equal those of the authors' checkpoints. Semantics: LAUDNet (TPAMI 2024), authors' code. Two
points decide exactness: the channel mask sits between convolution and BN, so a dropped channel carries the
constant relu(BN bias term), not zero; the spatial mask sits after bn3 and before the residual sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import STAGES, LaudConfig, StageGeometry
from .maskers import ChannelMasker, Decision, Masker, SpatialMasker, make_channel_masker, upsample_mask


@dataclass(frozen=True)
class BlockRun:
    """What one block decided. in_size, out_size: (H, W) of its input and output maps in pixels.

    channel: Decision (B, g) or None; spatial: Decision (B, gs, m, m) or None; gap: (B, Cout), output mean.
    """

    name: str
    channel: Decision | None
    spatial: Decision | None
    gap: Tensor
    in_size: tuple[int, int]
    out_size: tuple[int, int]


@dataclass(frozen=True)
class ModelRun:
    """logits (B, num_classes), every block's decisions in forward order, and the images' (H, W) in pixels."""

    logits: Tensor
    blocks: tuple[BlockRun, ...]
    image_size: tuple[int, int]


class Bottleneck(nn.Module):
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
        self.masker_spatial = self._make_spatial(config, stage_index, stage, in_channels)
        self.masker_channel = self._make_channel(config, stage_index, stage, in_channels)

    def _make_downsample(self, in_channels: int, out_channels: int) -> nn.Sequential | None:
        if self.stride == 1 and in_channels == out_channels:
            return None
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, self.stride, bias=False), nn.BatchNorm2d(out_channels)
        )

    def _make_spatial(
        self, config: LaudConfig, index: int, stage: StageGeometry, in_channels: int
    ) -> SpatialMasker | None:
        if self.mode == "channel":
            return None
        return SpatialMasker(in_channels, config.spatial_mask_channel_group[index], stage.mask_size)

    def _make_channel(
        self, config: LaudConfig, index: int, stage: StageGeometry, in_channels: int
    ) -> ChannelMasker | None:
        if self.mode not in ("channel", "both"):
            return None
        return make_channel_masker(
            config.channel_masker[index],
            config.channel_masker_layers[index],
            in_channels,
            stage.channel_groups,
            config.reduction_ratio[index],
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, Cin, H, W) -> (B, Cout, Ho, Wo)."""
        return self._compute(x, self._decide_channel(x), self._decide_spatial(x))

    def forward_dense(self, x: Tensor) -> Tensor:
        """As `forward` with everything kept and no masker run: the block of the static network."""
        return self._compute(x, None, None)

    def run(self, x: Tensor, name: str) -> tuple[Tensor, BlockRun]:
        """As `forward`, with the decisions taken, labelled `name`."""
        channel, spatial = self._decide_channel(x), self._decide_spatial(x)
        y = self._compute(x, channel, spatial)
        return y, BlockRun(name, channel, spatial, y.mean((2, 3)), (x.shape[2], x.shape[3]), (y.shape[2], y.shape[3]))

    def _decide_channel(self, x: Tensor) -> Decision | None:
        return None if self.masker_channel is None else self.masker_channel(x)

    def _decide_spatial(self, x: Tensor) -> Decision | None:
        return None if self.masker_spatial is None else self.masker_spatial(x)

    def _compute(self, x: Tensor, channel: Decision | None, spatial: Decision | None) -> Tensor:
        y = self.relu(self.bn1(self._mask_channels(self.conv1(x), channel)))
        y = self.relu(self.bn2(self._mask_channels(self.conv2(y), channel)))
        y = self._mask_positions(self.bn3(self.conv3(y)), spatial)
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu(y + identity)

    @staticmethod
    def _mask_channels(y: Tensor, channel: Decision | None) -> Tensor:
        if channel is None:
            return y
        per_group = y.shape[1] // channel.keep.shape[1]
        return y * channel.keep.repeat_interleave(per_group, dim=1)[:, :, None, None]

    @staticmethod
    def _mask_positions(y: Tensor, spatial: Decision | None) -> Tensor:
        if spatial is None:
            return y
        per_group = y.shape[1] // spatial.keep.shape[1]
        return y * upsample_mask(spatial.keep, (y.shape[2], y.shape[3])).repeat_interleave(per_group, dim=1)


class LaudResNet(nn.Module):
    """LAUD-ResNet built from a `LaudConfig`.

    `model(x)` returns the logits (B, num_classes) only, in training as in evaluation; `model.run(x)` returns
    the decisions as well. x: (B, 3, H, W) float; H = W = config.input_size where the model has spatial masks,
    else any size (ValueError otherwise). In training mode masks are Gumbel-softmax samples at
    `model.temperature`.
    """

    def __init__(self, config: LaudConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.stem_channels
        self.conv1 = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        for index in range(STAGES):
            self.add_module(f"layer{index + 1}", self._make_stage(index, channels))
            channels = config.stage(index).out_channels
        self.fc = nn.Linear(channels, config.num_classes)
        self._initialise()

    def _make_stage(self, index: int, in_channels: int) -> nn.Sequential:
        config, blocks = self.config, []
        for position in range(config.layers[index]):
            blocks.append(Bottleneck(config, index, in_channels, first=position == 0))
            in_channels = config.stage(index).out_channels
        return nn.Sequential(*blocks)

    def _initialise(self) -> None:
        # Maskers keep the initialisation they chose themselves.
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and ".masker_" not in name:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if self.config.zero_init_residual:
            for _, block in self.blocks():
                nn.init.zeros_(block.bn3.weight)

    def stages(self) -> Iterator[tuple[str, nn.Sequential]]:
        """('layer1', stage) ... in forward order."""
        for index in range(STAGES):
            name = f"layer{index + 1}"
            stage = self.get_submodule(name)
            assert isinstance(stage, nn.Sequential)
            yield name, stage

    def blocks(self) -> Iterator[tuple[str, Bottleneck]]:
        """('layer1.0', block) ... in forward order."""
        for name, stage in self.stages():
            for index, block in enumerate(stage):
                assert isinstance(block, Bottleneck)
                yield f"{name}.{index}", block

    def maskers(self) -> Iterator[Masker]:
        """Every masker of the model."""
        return (module for module in self.modules() if isinstance(module, Masker))

    @property
    def temperature(self) -> float:
        """Gumbel-softmax temperature of all maskers; setting it sets theirs."""
        return next((masker.temperature for masker in self.maskers()), Masker.temperature)

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not value > 0:
            raise ValueError(f"temperature must be positive, got {value}")
        for masker in self.maskers():
            masker.temperature = value

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> logits (B, num_classes)."""
        x = self._stem(x)
        for _, stage in self.stages():
            x = stage(x)
        return self._head(x)

    def forward_dense(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of the static network: everything kept, no masker run."""
        x = self._stem(x)
        for _, block in self.blocks():
            x = block.forward_dense(x)
        return self._head(x)

    def run(self, x: Tensor) -> ModelRun:
        """As `forward`, with every block's decisions (differentiable in training mode)."""
        image_size = (x.shape[2], x.shape[3])
        x, runs = self._stem(x), []
        for name, block in self.blocks():
            x, block_run = block.run(x, name)
            runs.append(block_run)
        return ModelRun(self._head(x), tuple(runs), image_size)

    def _stem(self, x: Tensor) -> Tensor:
        self._check_input(x)
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))

    def _head(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))

    def _check_input(self, x: Tensor) -> None:
        size = self.config.input_size
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"input: expected (batch, 3, height, width), got {tuple(x.shape)}")
        if self.config.has_spatial_masks and (x.shape[2] != size or x.shape[3] != size):
            raise ValueError(
                f"input: a model with spatial or layer masks takes {size}x{size} images only, "
                f"got {x.shape[2]}x{x.shape[3]}"
            )


def build_model(config: LaudConfig) -> LaudResNet:
    """A freshly initialised model of `config`, in training mode as any new module."""
    return LaudResNet(config)


@dataclass(frozen=True)
class BlockTrace:
    """Decisions of one block in eval mode.

    channel_margin (B, g) | None, spatial_margin (B, gs, m, m) | None: keep logit - drop logit. channel_keep,
    spatial_keep: the decisions themselves, bool, same shapes (keep >= drop: a tie keeps, NaN drops).
    gap (B, C): mean of the block's output over positions; tells in which block a difference starts.
    """

    name: str
    channel_margin: Tensor | None
    spatial_margin: Tensor | None
    gap: Tensor
    channel_keep: Tensor | None
    spatial_keep: Tensor | None


@dataclass(frozen=True)
class Trace:
    """logits (B, num_classes) and one BlockTrace per block in forward order."""

    logits: Tensor
    blocks: tuple[BlockTrace, ...]


def trace(model: LaudResNet, x: Tensor) -> Trace:
    """Run `model` on x (B, 3, H, W) without gradients and report every decision.

    ValueError in training mode, whose masks are random samples.
    """
    if model.training:
        raise ValueError("trace: the model is in training mode, where masks are random; call model.eval() first")
    with torch.no_grad():
        run = model.run(x)
    return Trace(run.logits, tuple(_trace_block(block) for block in run.blocks))


def _trace_block(run: BlockRun) -> BlockTrace:
    channel, spatial = run.channel, run.spatial
    return BlockTrace(
        name=run.name,
        gap=run.gap,
        channel_margin=None if channel is None else channel.margin,
        spatial_margin=None if spatial is None else spatial.margin,
        channel_keep=None if channel is None else channel.keep.bool(),
        spatial_keep=None if spatial is None else spatial.keep.bool(),
    )

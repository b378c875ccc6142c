"""What all convolutional families share: blocks that decide and compute, the network around them, and traces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .config import DynamicConfig
from .maskers import ChannelMasker, Decision, Masker, SpatialMasker, make_channel_masker, upsample_mask

if TYPE_CHECKING:
    from .vit import LaudVit, VitBlockTrace


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

    def trace(self) -> BlockTrace:
        """The decisions as plain tensors."""
        channel, spatial = self.channel, self.spatial
        return BlockTrace(
            name=self.name,
            gap=self.gap,
            channel_margin=None if channel is None else channel.margin,
            spatial_margin=None if spatial is None else spatial.margin,
            channel_keep=None if channel is None else channel.keep.bool(),
            spatial_keep=None if spatial is None else spatial.keep.bool(),
        )


@dataclass(frozen=True)
class ModelRun:
    """logits (B, num_classes), every block's decisions in forward order, and the images' (H, W) in pixels."""

    logits: Tensor
    blocks: tuple[BlockRun, ...]
    image_size: tuple[int, int]


class DynamicBlock(nn.Module):
    """A residual block whose maskers read its dense input; subclasses say what it computes."""

    def deciders(self) -> tuple[ChannelMasker | None, SpatialMasker | None]:
        """The block's maskers, over channels and over positions; None where it has none."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """x (B, Cin, H, W) -> (B, Cout, Ho, Wo)."""
        return self._compute(x, *self._decide(x))

    def forward_dense(self, x: Tensor) -> Tensor:
        """As `forward` with everything kept and no masker run: the block of the static network."""
        return self._compute(x, None, None)

    def run(self, x: Tensor, name: str) -> tuple[Tensor, BlockRun]:
        """As `forward`, with the decisions taken, labelled `name`."""
        channel, spatial = self._decide(x)
        y = self._compute(x, channel, spatial)
        return y, BlockRun(name, channel, spatial, y.mean((2, 3)), (x.shape[2], x.shape[3]), (y.shape[2], y.shape[3]))

    def _decide(self, x: Tensor) -> tuple[Decision | None, Decision | None]:
        over_channels, over_positions = self.deciders()
        channel = None if over_channels is None else over_channels(x)
        return channel, None if over_positions is None else over_positions(x)

    def _compute(self, x: Tensor, channel: Decision | None, spatial: Decision | None) -> Tensor:
        raise NotImplementedError


def make_spatial(config: DynamicConfig, stage: int, in_channels: int) -> SpatialMasker | None:
    """The masker over positions of a block with `in_channels` inputs; None in channel mode."""
    if config.dyn_mode[stage] == "channel":
        return None
    return SpatialMasker(in_channels, config.spatial_mask_channel_group[stage], config.stage(stage).mask_size)


def make_channel(config: DynamicConfig, stage: int, in_channels: int) -> ChannelMasker | None:
    """The masker over channels of a block with `in_channels` inputs; None in spatial and layer mode."""
    if config.dyn_mode[stage] not in ("channel", "both"):
        return None
    return make_channel_masker(
        config.channel_masker[stage],
        config.channel_masker_layers[stage],
        in_channels,
        config.stage(stage).channel_groups,
        config.reduction_ratio[stage],
    )


def mask_channels(y: Tensor, channel: Decision | None) -> Tensor:
    """y (B, C, H, W) with dropped groups set to zero."""
    if channel is None:
        return y
    per_group = y.shape[1] // channel.keep.shape[1]
    return y * channel.keep.repeat_interleave(per_group, dim=1)[:, :, None, None]


def mask_positions(y: Tensor, spatial: Decision | None) -> Tensor:
    """y (B, C, H, W) with dropped positions set to zero, each mask group for its share of the channels."""
    if spatial is None:
        return y
    per_group = y.shape[1] // spatial.keep.shape[1]
    return y * upsample_mask(spatial.keep, (y.shape[2], y.shape[3])).repeat_interleave(per_group, dim=1)


class DynamicNetwork(nn.Module):
    """A classifier made of a stem, dynamic blocks and a linear head.

    `model(x)` returns the logits (B, num_classes) only, in training as in evaluation; `model.run(x)` returns
    the decisions as well. x: (B, 3, H, W) float; H = W = config.input_size where the model has spatial masks,
    else any size (ValueError otherwise). In training mode masks are Gumbel-softmax samples at
    `model.temperature`.
    """

    config: DynamicConfig

    def blocks(self) -> Iterator[tuple[str, DynamicBlock]]:
        """(module path, block) in forward order."""
        raise NotImplementedError

    def _stem(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _head(self, x: Tensor) -> Tensor:
        raise NotImplementedError

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
        self._check_input(x)
        x = self._stem(x)
        for _, block in self.blocks():
            x = block(x)
        return self._head(x)

    def forward_dense(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of the static network: everything kept, no masker run."""
        self._check_input(x)
        x = self._stem(x)
        for _, block in self.blocks():
            x = block.forward_dense(x)
        return self._head(x)

    def run(self, x: Tensor) -> ModelRun:
        """As `forward`, with every block's decisions (differentiable in training mode)."""
        self._check_input(x)
        image_size = (x.shape[2], x.shape[3])
        x, runs = self._stem(x), []
        for name, block in self.blocks():
            x, block_run = block.run(x, name)
            runs.append(block_run)
        return ModelRun(self._head(x), tuple(runs), image_size)

    def _check_input(self, x: Tensor) -> None:
        size = self.config.input_size
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"input: expected (batch, 3, height, width), got {tuple(x.shape)}")
        if self.config.has_spatial_masks and (x.shape[2] != size or x.shape[3] != size):
            raise ValueError(
                f"input: a model with spatial or layer masks takes {size}x{size} images only, "
                f"got {x.shape[2]}x{x.shape[3]}"
            )


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
    """logits (B, num_classes) and one record per block in forward order, of the family's kind."""

    logits: Tensor
    blocks: tuple[BlockTrace | VitBlockTrace, ...]


def trace(model: DynamicNetwork | LaudVit, x: Tensor) -> Trace:
    """Run `model` on x (B, 3, H, W) without gradients and report every decision.

    ValueError in training mode, whose masks are random samples.
    """
    if model.training:
        raise ValueError("trace: the model is in training mode, where masks are random; call model.eval() first")
    with torch.no_grad():
        run = model.run(x)
    return Trace(run.logits, tuple(block.trace() for block in run.blocks))

"""MACs bookkeeping of LAUD-ResNet, differentiable, as in LAUDNet (TPAMI 2024), authors' code semantics.

A block costs its masker, its three convolutions scaled by the kept shares, and its dense downsample branch.
conv1's share is the 3x3 dilation of the mask on the input grid, conv2's the union of the mask over its
groups, conv3's the mask itself. Shares are batch means, and conv2 uses the *squared batch mean* of the
channel share: that is what the authors train against and report, so it is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .config import LaudConfig
from .maskers import upsample_mask
from .network import BlockRun, ModelRun
from .resnet import Bottleneck, LaudResNet

_STEM_TAPS = 3 * 7 * 7
_MAXPOOL_TAPS = 9
_CONV2_TAPS = 9


@dataclass(frozen=True)
class BlockMacs:
    """MACs of one block for one sample with everything kept."""

    masker: int
    conv1: int
    conv2: int
    conv3: int
    downsample: int

    @property
    def dense(self) -> int:
        return self.masker + self.conv1 + self.conv2 + self.conv3 + self.downsample


@dataclass(frozen=True)
class BlockShares:
    """Kept shares (B,) in 0..1: of channels, and of the positions that conv1, conv2 and conv3 compute."""

    channel: Tensor
    conv1: Tensor
    conv2: Tensor
    conv3: Tensor


@dataclass(frozen=True)
class Flops:
    """total: MACs of the network (scalar, batch mean); dense: the same with everything kept.

    block_share: (blocks,) MACs of each block relative to its dense MACs; shares: kept shares per block.
    """

    total: Tensor
    dense: int
    block_share: Tensor
    shares: tuple[BlockShares, ...]


def count(model: LaudResNet, run: ModelRun) -> Flops:
    """MACs that `model` spent in `run`; gradients flow to the maskers where the run was made in training
    mode."""
    macs, shares, sparse = [], [], []
    for (_, block), block_run in zip(model.blocks(), run.blocks, strict=True):
        macs.append(block_macs(block, block_run.in_size, block_run.out_size))
        shares.append(block_shares(block, block_run))
        sparse.append(_sparse(macs[-1], shares[-1]))
    outside = _outside_blocks(model, run)
    block_macs_sparse = torch.stack(sparse)
    dense = block_macs_sparse.new_tensor([block.dense for block in macs])
    return Flops(
        total=block_macs_sparse.sum() + outside,
        dense=sum(block.dense for block in macs) + outside,
        block_share=block_macs_sparse / dense,
        shares=tuple(shares),
    )


def block_macs(block: Bottleneck, in_size: tuple[int, int], out_size: tuple[int, int]) -> BlockMacs:
    """Dense MACs of one block; sizes are (H, W) in pixels."""
    in_pixels, out_pixels = in_size[0] * in_size[1], out_size[0] * out_size[1]
    width, out_channels = block.conv1.out_channels, block.conv3.out_channels
    return BlockMacs(
        masker=_channel_masker_macs(block, in_pixels) + _spatial_masker_macs(block),
        conv1=block.conv1.in_channels * width * in_pixels,
        conv2=_CONV2_TAPS * width * width // block.conv2.groups * out_pixels,
        conv3=width * out_channels * out_pixels,
        downsample=0 if block.downsample is None else block.conv1.in_channels * out_channels * out_pixels,
    )


def _channel_masker_macs(block: Bottleneck, in_pixels: int) -> int:
    masker, in_channels = block.masker_channel, block.conv1.in_channels
    if masker is None:
        return 0
    decisions = 2 * masker.groups
    if masker.kind == "linear":
        return in_channels * in_pixels + in_channels * decisions
    linear = in_channels * masker.hidden + masker.hidden * decisions
    # In 'conv' maskers the authors count the 1x1 convolution once, not per pixel; its outputs are averaged.
    averaged = in_channels if masker.kind == "mlp" else masker.hidden
    return averaged * in_pixels + linear


def _spatial_masker_macs(block: Bottleneck) -> int:
    masker, in_channels = block.masker_spatial, block.conv1.in_channels
    if masker is None:
        return 0
    cells = masker.mask_size**2
    return in_channels * cells + (2 * masker.groups * in_channels + in_channels) * cells


def block_shares(block: Bottleneck, run: BlockRun) -> BlockShares:
    """Kept shares of one block per sample, (B,) each; all ones where the block has no such masker."""
    ones = run.gap.new_ones(run.gap.shape[0])
    channel = ones if run.channel is None else run.channel.keep.mean(1)
    if run.spatial is None:
        return BlockShares(channel, ones, ones, ones)
    conv3 = upsample_mask(run.spatial.keep, run.out_size)
    conv2 = conv3.amax(1, keepdim=True)
    conv1 = conv1_mask(conv2, block.stride, block.dilation)
    return BlockShares(channel, conv1.mean((1, 2, 3)), conv2.mean((1, 2, 3)), conv3.mean((1, 2, 3)))


def conv1_mask(conv2: Tensor, stride: int, dilation: int = 1) -> Tensor:
    """Positions conv1 must compute for conv2's mask (B, 1, H, W) -> (B, 1, H*stride, W*stride), 0/1.

    Output i of the 3x3 convolution reads inputs stride*i - dilation, stride*i and stride*i + dilation. A
    maximum rather than a thresholded sum, so that gradients reach the mask; the values are the same.
    """
    batch, _, height, width = conv2.shape
    grid = conv2
    if stride > 1:
        grid = conv2.new_zeros(batch, 1, height * stride, width * stride)
        grid[:, :, ::stride, ::stride] = conv2
    return F.max_pool2d(grid, 3, stride=1, padding=1) if dilation == 1 else _dilate(grid, dilation)


def _dilate(grid: Tensor, dilation: int) -> Tensor:
    height, width = grid.shape[2:]
    padded = F.pad(grid, (dilation,) * 4)
    taps = [
        padded[:, :, row : row + height, column : column + width]
        for row in (0, dilation, 2 * dilation)
        for column in (0, dilation, 2 * dilation)
    ]
    return torch.stack(taps).amax(0)


def _sparse(macs: BlockMacs, shares: BlockShares) -> Tensor:
    channel = shares.channel.mean()
    return (
        macs.masker
        + macs.conv1 * channel * shares.conv1.mean()
        + macs.conv2 * channel**2 * shares.conv2.mean()
        + macs.conv3 * channel * shares.conv3.mean()
        + macs.downsample
    )


def _outside_blocks(model: LaudResNet, run: ModelRun) -> int:
    """Stem, head and (as the authors count) one MAC per max-pool tap and per feature of the global mean."""
    stem_channels, features = model.conv1.out_channels, model.fc.in_features
    stem_pixels = _halve(run.image_size[0]) * _halve(run.image_size[1])
    pooled_pixels = run.blocks[0].in_size[0] * run.blocks[0].in_size[1]
    return (
        _STEM_TAPS * stem_channels * stem_pixels
        + _MAXPOOL_TAPS * stem_channels * pooled_pixels
        + features
        + features * model.config.num_classes
    )


def _halve(size: int) -> int:
    return (size + 1) // 2


def static_macs(config: LaudConfig) -> int:
    """MACs of the static network that `config` extends: convolutions, classifier, one per ReLU output and
    per element of the last map (the global mean).

    This is the denominator of the authors' FLOPs target (4.0989 G for ResNet-50 at 224, 7.8162 G for
    ResNet-101).
    """
    size = config.input_size // 2
    channels = config.stem_channels
    total = (_STEM_TAPS + 1) * channels * size**2
    size //= 2
    for index, blocks in enumerate(config.layers):
        stage = config.stage(index)
        for position in range(blocks):
            first = position == 0
            out = stage.output_size
            total += stage.width * (channels + 1) * size**2
            total += stage.width * (_CONV2_TAPS * stage.width // config.groups + 1) * out**2
            total += stage.out_channels * (stage.width + 1) * out**2
            total += channels * stage.out_channels * out**2 if first else 0
            size, channels = out, stage.out_channels
    return total + channels * size**2 + channels * config.num_classes

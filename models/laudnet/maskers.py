"""Maskers: small networks that decide, per sample, which channels and positions of a block to compute.

Every masker yields two logits per decision, keep and drop; the decision keeps when keep >= drop (a tie keeps,
NaN drops). In training the choice is a Gumbel-softmax sample, hard in the forward pass and soft in the
backward pass.
Semantics: LAUDNet (TPAMI 2024), authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

_MIN_HIDDEN = 16
#: Initial (keep, drop) biases: a fresh masker mostly keeps, so that training starts from the static network.
_CHANNEL_BIAS = (2.0, -2.0)
_SPATIAL_BIAS = (5.0, 0.0)


@dataclass(frozen=True)
class Decision:
    """keep: 0/1 floats (straight-through in training); margin: keep - drop logit. Shaped as the mask."""

    keep: Tensor
    margin: Tensor


class Masker(nn.Module):
    """Turns keep/drop logits into decisions.

    temperature (of the softmax) and noise (factor on the Gumbel noise: 1 samples, 0 decides as in evaluation
    but with gradients) only matter in training.
    """

    temperature: float = 5.0
    noise: float = 1.0

    def decide(self, logits: Tensor) -> Decision:
        """logits (B, 2, ...), keep first -> Decision of shape (B, ...)."""
        keep, drop = logits[:, 0], logits[:, 1]
        margin = keep - drop
        if self.training:
            return Decision(self._sample(margin), margin)
        return Decision((keep >= drop).to(logits.dtype), margin)

    def _sample(self, margin: Tensor) -> Tensor:
        """Gumbel-softmax over two choices, hard forward, soft backward.

        The softmax of two logits is the sigmoid of their difference, and the difference of two Gumbel
        variables is logistic: one variable does for both.
        """
        uniform = torch.rand_like(margin).clamp(1e-6, 1 - 1e-6)
        noisy = margin + self.noise * torch.logit(uniform)
        soft = torch.sigmoid(noisy / self.temperature)
        hard = (noisy >= 0).to(soft.dtype)
        return hard - soft.detach() + soft


def _bias_towards_keep(bias: Tensor, values: tuple[float, float]) -> None:
    # The authors' slice leaves the first drop entry at its random value; here all of them start alike.
    half = bias.numel() // 2
    with torch.no_grad():
        bias[:half] = values[0]
        bias[half:] = values[1]


class LinearChannelMasker(Masker):
    """Global mean -> one linear layer. Keys: `conv.weight` (2g, Cin), `conv.bias`."""

    kind: Literal["linear"] = "linear"

    def __init__(self, in_channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.conv = nn.Linear(in_channels, 2 * groups)
        _bias_towards_keep(self.conv.bias, _CHANNEL_BIAS)

    def forward(self, x: Tensor) -> Decision:
        """x (B, Cin, H, W) -> Decision (B, g)."""
        return self.decide(self.conv(x.mean((2, 3))).view(x.shape[0], 2, self.groups))


class MlpChannelMasker(Masker):
    """Mean -> linear, ReLU, linear; h = max(g // r, 16). Keys: `conv.0.*` (h, Cin), `conv.2.*` (2g, h)."""

    kind: Literal["mlp"] = "mlp"

    def __init__(self, in_channels: int, groups: int, reduction: int) -> None:
        super().__init__()
        self.groups = groups
        self.hidden = max(groups // reduction, _MIN_HIDDEN)
        last = nn.Linear(self.hidden, 2 * groups)
        self.conv = nn.Sequential(nn.Linear(in_channels, self.hidden), nn.ReLU(), last)
        _bias_towards_keep(last.bias, _CHANNEL_BIAS)

    def forward(self, x: Tensor) -> Decision:
        """x (B, Cin, H, W) -> Decision (B, g)."""
        return self.decide(self.conv(x.mean((2, 3))).view(x.shape[0], 2, self.groups))


class ConvChannelMasker(Masker):
    """1x1 convolution, BN, ReLU everywhere -> mean -> linear. Keys: `conv.0`, `conv.1.*` (BN), `linear.*`."""

    kind: Literal["conv"] = "conv"

    def __init__(self, in_channels: int, groups: int, reduction: int) -> None:
        super().__init__()
        self.groups = groups
        hidden = self.hidden = in_channels // reduction
        self.conv = nn.Sequential(nn.Conv2d(in_channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU())
        self.linear = nn.Linear(hidden, 2 * groups)
        _bias_towards_keep(self.linear.bias, _CHANNEL_BIAS)

    def forward(self, x: Tensor) -> Decision:
        """x (B, Cin, H, W) -> Decision (B, g)."""
        return self.decide(self.linear(self.conv(x).mean((2, 3))).view(x.shape[0], 2, self.groups))


ChannelMasker = LinearChannelMasker | MlpChannelMasker | ConvChannelMasker


def make_channel_masker(kind: str, layers: int, in_channels: int, groups: int, reduction: int) -> ChannelMasker:
    """kind, layers: `channel_masker` and `channel_masker_layers` of the configuration."""
    if kind == "conv_linear":
        return ConvChannelMasker(in_channels, groups, reduction)
    if layers == 1:
        return LinearChannelMasker(in_channels, groups)
    return MlpChannelMasker(in_channels, groups, reduction)


class SpatialMasker(Masker):
    """Adaptive average pool to the mask's size, 1x1 convolution. Keys: `conv.weight` (2gs, Cin, 1, 1), bias.

    Only the height is compared with the mask's size: a map as high as the mask is used as it is.
    """

    def __init__(self, in_channels: int, groups: int, mask_size: int) -> None:
        super().__init__()
        self.groups = groups
        self.mask_size = mask_size
        self.conv = nn.Conv2d(in_channels, 2 * groups, 1)
        assert self.conv.bias is not None
        _bias_towards_keep(self.conv.bias, _SPATIAL_BIAS)

    def forward(self, x: Tensor) -> Decision:
        """x (B, Cin, H, W) -> Decision (B, gs, m, m)."""
        pooled = F.adaptive_avg_pool2d(x, self.mask_size) if self.mask_size < x.shape[2] else x
        logits = self.conv(pooled)
        return self.decide(logits.view(logits.shape[0], 2, self.groups, *logits.shape[2:]))


def upsample_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """mask (B, gs, m, m) -> (B, gs, *size), nearest: `nearest_index(m, size)[i]` decides row or column i."""
    return F.interpolate(mask, size=size, mode="nearest")


def nearest_index(mask_size: int, out_size: int) -> NDArray[np.int64]:
    """Mask cell of each output row (out_size,): floor(i * scale), scale = mask_size / out_size *as float32*.

    This is torch's 'nearest' and ONNX Resize's nearest + asymmetric + floor. The float32 product matters:
    where out_size does not divide evenly it may differ from the integer quotient i * mask_size // out_size.
    """
    if mask_size < 1 or out_size < 1:
        raise ValueError(f"sizes must be positive, got mask {mask_size} and output {out_size}")
    scale = np.float32(mask_size) / np.float32(out_size)
    index = np.floor(np.arange(out_size, dtype=np.float32) * scale).astype(np.int64)
    return np.minimum(index, mask_size - 1)

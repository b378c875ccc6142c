"""Batch normalisation folded into the convolution before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

Array = np.ndarray


def to_array(tensor: Tensor | Array) -> Array:
    """The values of a parameter or buffer as float32."""
    array = tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu().float().numpy()
    return np.ascontiguousarray(array, np.float32)


def to_wide_array(tensor: Tensor | Array) -> Array:
    """The values of a parameter or buffer as float64."""
    array = tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu().double().numpy()
    return np.asarray(array, np.float64)


def _wide(tensor: Tensor | None, default: float, channels: int) -> Array:
    return np.full(channels, default, np.float64) if tensor is None else to_wide_array(tensor)


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Array, Array]:
    """Weight (Cout, Cin/group, k, k) and bias (Cout) of one convolution equal to conv, then norm in eval
    mode.

    Computed in float64 and rounded once to float32: bn(v) = v·a + (bias − mean·a) with a = weight/sqrt(var +
    eps).

    Raises:
        ValueError: the normalisation keeps no running statistics.
    """
    channels = conv.out_channels
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch normalisation without running statistics cannot be folded")
    scale = _wide(norm.weight, 1.0, channels) / np.sqrt(_wide(norm.running_var, 1.0, channels) + norm.eps)
    shift = _wide(norm.bias, 0.0, channels) - _wide(norm.running_mean, 0.0, channels) * scale
    weight = _wide(conv.weight, 0.0, channels) * scale[:, None, None, None]
    bias = _wide(conv.bias, 0.0, channels) * scale + shift
    return weight.astype(np.float32), bias.astype(np.float32)

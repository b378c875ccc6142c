"""The NumPy arithmetic from which the references of all semantic ops are made.

Everything is NCHW and keeps the dtype it is given, so that a float64 input gives a float64 reference.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from laudc.ops.spec import Array


def relu(x: Array) -> Array:
    """max(x, 0) element by element."""
    return np.maximum(x, 0)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(−x)) element by element."""
    return np.asarray(1 / (1 + np.exp(-x)), x.dtype)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    group: int = 1,
) -> Array:
    """Cross-correlation as in ONNX Conv.

    Args:
        x: (B, Cin, H, W).
        weight: (Cout, Cin/group, k, k).
        bias: (Cout) or None.

    Returns:
        (B, Cout, Ho, Wo) with Ho = (H + 2·padding − dilation·(k−1) − 1) // stride + 1.
    """
    batch, cin = x.shape[:2]
    cout, per_group, kernel_h, kernel_w = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    reach = (dilation * (kernel_h - 1) + 1, dilation * (kernel_w - 1) + 1)
    windows = sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride, ::dilation, ::dilation]
    height, width = windows.shape[2:4]
    # (group, B·Ho·Wo, Cin/group·k·k) @ (group, Cin/group·k·k, Cout/group): one matrix product per group.
    rows = windows.reshape(batch, group, cin // group, height, width, kernel_h * kernel_w)
    rows = rows.transpose(1, 0, 3, 4, 2, 5).reshape(group, batch * height * width, -1)
    columns = weight.reshape(group, cout // group, per_group * kernel_h * kernel_w).transpose(0, 2, 1)
    out = (rows @ columns).reshape(group, batch, height, width, cout // group)
    out = out.transpose(1, 0, 4, 2, 3).reshape(batch, cout, height, width)
    return out if bias is None else out + bias.reshape(-1, 1, 1)


def pool_matrix(size: int, cells: int) -> Array:
    """The row-stochastic matrix of one-dimensional adaptive average pooling, float32.

    Cell i averages the inputs floor(i·size/cells) up to but not including ceil((i+1)·size/cells), as PyTorch
    does; windows overlap where `cells` does not divide `size`. With cells == size it is the identity.

    Returns:
        (cells, size).
    """
    matrix = np.zeros((cells, size), np.float32)
    for cell in range(cells):
        start = cell * size // cells
        stop = -(-(cell + 1) * size // cells)
        matrix[cell, start:stop] = 1.0 / (stop - start)
    return matrix


def nearest_index(cells: int, size: int) -> Array:
    """For each of `size` positions the cell it reads in nearest (asymmetric, floor) interpolation, int64.

    The scale is a float32, as in PyTorch: in a few cases (44 positions over 26 cells, 46 over 14)
    exact integer arithmetic would give another cell. The product cannot reach `cells` for sizes below 2**22.
    """
    scale = np.float32(cells) / np.float32(size)
    return np.floor(np.arange(size, dtype=np.float32) * scale).astype(np.int64)


def upsample_mask(mask: Array, height: int, width: int) -> Array:
    """Nearest interpolation of a mask (B, gs, mh, mw) to (B, gs, height, width)."""
    rows = nearest_index(mask.shape[2], height)
    columns = nearest_index(mask.shape[3], width)
    return mask[:, :, rows][:, :, :, columns]


def expand_groups(values: Array, channels: int) -> Array:
    """Repeat (B, g, ...) to (B, channels, ...): channel c reads group c // (channels/g)."""
    return np.repeat(values, channels // values.shape[1], axis=1)


def margin(scores: Array) -> Array:
    """keep − drop of a masker's scores (B, 2n, ...), whose first half along axis 1 is keep: (B, n, ...)."""
    keep, drop = np.split(scores, 2, axis=1)
    return keep - drop


def decide(scores: Array) -> Array:
    """1 where keep >= drop, else 0, for scores (B, 2n, ...) with keep first: (B, n, ...). A NaN drops."""
    keep, drop = np.split(scores, 2, axis=1)
    return (keep >= drop).astype(scores.dtype)

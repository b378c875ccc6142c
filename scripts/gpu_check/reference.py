"""The block in plain PyTorch: what the kernels are compared with, and what they are measured against."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .weights import Block


def tensors(block: Block, device: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The folded weights by name."""
    w = block.weights
    pairs = {"conv1": w.conv1, "conv2": w.conv2, "conv3": w.conv3, "projection": w.projection}
    return {
        f"{name}.{part}": torch.from_numpy(np.ascontiguousarray(value)).to(device, dtype)
        for name, pair in pairs.items()
        if pair is not None
        for part, value in zip("wb", pair, strict=True)
    }


def masked_block(block: Block, x: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
    """The dense-masked result for the decisions that `margins` (B, total) made; x (B,C,H,W), in its precision."""
    record, w = block.record, tensors(block, x.device, x.dtype)
    cells = record.spatial_cells
    residual = x
    if record.projection:
        residual = functional.conv2d(x, w["projection.w"], w["projection.b"], stride=record.stride)
    channels = _channel_mask(block, margins[:, cells:], x)
    y = functional.conv2d(x, w["conv1.w"]) * channels
    y = functional.relu(y + w["conv1.b"][:, None, None])
    y = functional.conv2d(y, w["conv2.w"], stride=record.stride, padding=1) * channels
    y = functional.relu(y + w["conv2.b"][:, None, None])
    y = functional.conv2d(y, w["conv3.w"], w["conv3.b"])
    if cells:
        mask = (margins[:, :cells] >= 0).to(x.dtype).reshape(-1, record.mask_groups, record.mask_h, record.mask_w)
        y = y * functional.interpolate(mask, size=y.shape[2:], mode="nearest")
    return functional.relu(y + residual)


def _channel_mask(block: Block, margins: torch.Tensor, x: torch.Tensor) -> torch.Tensor | float:
    record = block.record
    if not record.channel_groups:
        return 1.0
    kept = (margins >= 0).to(x.dtype).repeat_interleave(record.width // record.channel_groups, dim=1)
    return kept[:, :, None, None]


def exact_margins(block: Block, x: torch.Tensor) -> torch.Tensor:
    """Every decision's margin in double precision, (B, total)."""
    record, w = block.record, block.weights
    parts = []
    exact = x.double()
    if w.spatial_masker is not None:
        pooled = functional.adaptive_avg_pool2d(exact, (record.mask_h, record.mask_w))
        weight, bias = (torch.from_numpy(value).to(x.device).double() for value in w.spatial_masker)
        logits = functional.conv2d(pooled, weight, bias)
        half = record.mask_groups
        parts.append((logits[:, :half] - logits[:, half:]).flatten(1))
    if w.channel_masker is not None:
        weight, bias = (torch.from_numpy(v).to(x.device).double() for v in (w.channel_masker.w, w.channel_masker.b))
        logits = exact.mean((2, 3)) @ weight.T + bias
        parts.append(logits[:, : record.channel_groups] - logits[:, record.channel_groups :])
    return torch.cat(parts, 1)


class DenseBlock(torch.nn.Module):
    """The block without masks and maskers, as a dense network would run it."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        record = block.record
        self.stride = record.stride
        for name, value in tensors(block, "cpu", torch.float32).items():
            self.register_buffer(name.replace(".", "_"), value)
        self.projects = bool(record.projection)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = x
        if self.projects:
            residual = functional.conv2d(x, self.projection_w, self.projection_b, stride=self.stride)
        y = functional.relu(functional.conv2d(x, self.conv1_w, self.conv1_b))
        y = functional.relu(functional.conv2d(y, self.conv2_w, self.conv2_b, stride=self.stride, padding=1))
        return functional.relu(functional.conv2d(y, self.conv3_w, self.conv3_b) + residual)

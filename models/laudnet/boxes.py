"""Anchors, box deltas, suppression and RoIAlign in plain PyTorch: the reference of two-stage detectors.

A box is (x1, y1, x2, y2) in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .detector_rules import AnchorRule

#: |log(16 / 1000)|: deltas of sides stay within it.
LARGEST_LOG_RATIO = 4.135166556742356


def anchors_of(
    rule: AnchorRule, maps: Sequence[tuple[int, int]], strides: Sequence[int], image: tuple[int, int]
) -> list[Tensor]:
    """Anchors (rows·columns·A, 4) of every level, position by position, ratios before sizes.

    maps: (height, width) of each level; strides: their nominal strides; image: (height, width).
    """
    roots = torch.tensor(rule.ratios, dtype=torch.float64).sqrt()
    levels = []
    for sizes, grid, stride in zip(rule.sizes, maps, strides, strict=True):
        sides = torch.tensor(sizes, dtype=torch.float64)
        widths, heights = (sides / roots[:, None]).flatten(), (sides * roots[:, None]).flatten()
        shapes = torch.stack([-widths, -heights, widths, heights], 1) / 2
        shapes = shapes.round() if rule.rounded else shapes
        measured = rule.strides == "measured"
        down, across = (side // cells if measured else stride for side, cells in zip(image, grid, strict=True))
        rows, columns = torch.meshgrid(torch.arange(grid[0]) * down, torch.arange(grid[1]) * across, indexing="ij")
        corners = torch.stack([columns, rows, columns, rows], -1).reshape(-1, 1, 4)
        levels.append((corners + shapes).reshape(-1, 4).float())
    return levels


def decode(boxes: Tensor, deltas: Tensor, image: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) moved by deltas (dx, dy, dw, dh) (..., 4), clipped to the image (height, width)."""
    sides = boxes[..., 2:] - boxes[..., :2]
    middles = boxes[..., :2] + sides / 2 + deltas[..., :2] * sides
    half = sides * deltas[..., 2:].clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp() / 2
    limits = boxes.new_tensor([image[1], image[0]] * 2)
    return torch.minimum(torch.cat([middles - half, middles + half], -1).clamp(min=0), limits)


def longer_than(boxes: Tensor, side: float) -> Tensor:
    """Whether both sides of each box (..., 4) are longer than `side` pixels."""
    return ((boxes[..., 2:] - boxes[..., :2]) > side).all(-1)


def suppress(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Greedy non-maximum suppression: indices that stay, best first."""
    order = scores.argsort(descending=True, stable=True)
    ordered = boxes[order]
    low = torch.maximum(ordered[:, None, :2], ordered[None, :, :2])
    shared = (torch.minimum(ordered[:, None, 2:], ordered[None, :, 2:]) - low).clamp(min=0).prod(2)
    areas = (ordered[:, 2:] - ordered[:, :2]).prod(1)
    meet = (shared > overlap * (areas[:, None] + areas[None] - shared)).cpu().numpy()
    gone = np.zeros(len(ordered), bool)
    for i, others in enumerate(meet):
        if not gone[i]:
            gone[i + 1 :] |= others[i + 1 :]
    return order[torch.from_numpy(~gone).to(order.device)]


def roi_align(x: Tensor, regions: Tensor, cells: int, scale: float, sampling: int, aligned: bool) -> Tensor:
    """Features (n, C, cells, cells) of regions (n, 4) in pixels of the image, from one map x (C, H, W).

    scale: map pixels per image pixel; sampling, aligned: as in `RegionRule`. Samples are bilinear and averaged per
    cell, which for a rectangle is a product of one matrix per axis.
    """
    places = regions * scale - (0.5 if aligned else 0.0)
    lengths = places[:, 2:] - places[:, :2]
    lengths = lengths if aligned else lengths.clamp(min=1)
    # In the precision of the boxes, as every implementation counts: one more sample is another average.
    counts = (lengths / cells).ceil().clamp(min=1) if sampling == 0 else torch.full_like(lengths, sampling)
    results = [x.new_zeros(0, x.shape[0], cells, cells)]
    for (x1, y1, *_), (width, height), (across, down) in zip(
        places.tolist(), lengths.tolist(), counts.int().tolist(), strict=True
    ):
        first_row, rows = _samples(y1, height, cells, down, x.shape[1])
        first_column, columns = _samples(x1, width, cells, across, x.shape[2])
        part = x[:, first_row : first_row + rows.shape[1], first_column : first_column + columns.shape[1]]
        results.append((rows.to(x) @ part @ columns.to(x).T)[None])
    return torch.cat(results)


def _samples(start: float, length: float, cells: int, count: int, size: int) -> tuple[int, Tensor]:
    """Along one axis of `size` pixels: the first pixel that is read, and each cell's weights (cells, pixels)."""
    steps = torch.arange(cells, dtype=torch.float64)[:, None] + (torch.arange(count, dtype=torch.float64) + 0.5) / count
    places = start + length / cells * steps
    inside = ((places >= -1) & (places <= size)).double() / count
    places = places.clamp(0, size - 1)
    low = places.floor().long()
    high = (low + 1).clamp(max=size - 1)
    share = places - low
    first, last = int(low.min()), int(high.max())
    weights = torch.zeros(cells, last - first + 1, dtype=torch.float64)
    weights.scatter_add_(1, low - first, (1 - share) * inside)
    return first, weights.scatter_add_(1, high - first, share * inside)

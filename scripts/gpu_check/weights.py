"""Random blocks whose maskers keep a chosen share of a given input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from laudc.ops.packing import BlockWeights, MaskerWeights, pack_block
from laudc.ops.scheduled import BlockRecord

# Clear of rounding, so that no precision flips a decision of a layer or channel masker.
_DECIDED = 4.0


@dataclass(frozen=True)
class Block:
    """A block's record and folded weights."""

    record: BlockRecord
    weights: BlockWeights

    @property
    def packed(self) -> np.ndarray:
        """Its packed initializer."""
        return pack_block(self.record, self.weights)


def make_block(record: BlockRecord, rate: float, x: torch.Tensor, seed: int = 0, *, keep_layer: bool = True) -> Block:
    """Weights that keep activations in range, and maskers that keep `rate` of what they decide on `x` (B,C,H,W).

    Equal seeds give equal convolutions, whatever the masks are. A layer masker decides all images alike if there is one
    (`keep_layer` says how), else by image.
    """
    random = np.random.default_rng(seed)

    def conv(out: int, inside: int, kernel: int) -> tuple[np.ndarray, np.ndarray]:
        scale = np.sqrt(1.0 / (inside * kernel * kernel))
        weight = random.standard_normal((out, inside, kernel, kernel), dtype=np.float32) * np.float32(scale)
        return weight, 0.1 * random.standard_normal(out, dtype=np.float32)

    r = record
    weights = BlockWeights(
        conv1=conv(r.width, r.cin, 1),
        conv2=conv(r.width, r.width, 3),
        conv3=conv(r.cout, r.width, 1),
        projection=conv(r.cout, r.cin, 1) if r.projection else None,
        spatial_masker=_spatial_masker(r, rate, x, random, keep_layer) if r.mask_groups else None,
        channel_masker=_channel_masker(r, rate, random) if r.channel_groups else None,
    )
    return Block(r, weights)


def _spatial_masker(
    r: BlockRecord, rate: float, x: torch.Tensor, random: Any, keep_layer: bool
) -> tuple[np.ndarray, np.ndarray]:
    weight = np.zeros((2, r.cin, 1, 1), np.float32)
    weight[0, :, 0, 0] = random.standard_normal(r.cin).astype(np.float32)
    pooled = functional.adaptive_avg_pool2d(x.float(), (r.mask_h, r.mask_w)).double()
    margins = (pooled * torch.from_numpy(weight[0]).to(pooled)).sum(1).flatten().cpu().numpy()
    if margins.size == 1:
        threshold = margins[0] - (_DECIDED if keep_layer else -_DECIDED)
    else:
        ordered = np.sort(margins)[::-1]
        kept = min(max(round(rate * margins.size), 0), margins.size)
        above = ordered[kept - 1] if kept else ordered[0] + _DECIDED
        below = ordered[kept] if kept < margins.size else ordered[-1] - _DECIDED
        threshold = (above + below) / 2
    return weight, np.array([-threshold, 0.0], np.float32)


def _channel_masker(r: BlockRecord, rate: float, random: Any) -> MaskerWeights:
    groups = r.channel_groups
    keep = random.permutation(groups) < max(1, round(rate * groups))
    weight = 1e-3 * random.standard_normal((2 * groups, r.cin)).astype(np.float32)
    bias = np.concatenate([np.where(keep, _DECIDED, -_DECIDED), np.zeros(groups)]).astype(np.float32)
    return MaskerWeights(weight, bias)

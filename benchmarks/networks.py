"""Networks with a chosen activation rate: random weights, maskers biased so that one image keeps a given share.

Latency does not depend on what the weights are, only on what the masks keep, so a benchmark needs no training.
Spatial masks keep the best-scoring share of the patches, channel masks a random share of the groups, layer masks
every n-th block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from laudnet import Bottleneck, DynamicBlock, DynamicNetwork, RegNetBlock, build_model, config_from_dict
from laudnet.maskers import Decision, Masker, SpatialMasker
from torch import nn

MODES = {
    "channel-G1": {
        "dyn_mode": ("channel",) * 4,
        "channel_dyn_granularity": (1,) * 4,
        "channel_masker_layers": (2,) * 4,
    },
    "channel-G2": {
        "dyn_mode": ("channel",) * 4,
        "channel_dyn_granularity": (2,) * 4,
        "channel_masker_layers": (2,) * 4,
    },
    "spatial-4421": {"dyn_mode": ("spatial",) * 4, "mask_spatial_granularity": (4, 4, 2, 1)},
    "spatial-8471": {"dyn_mode": ("spatial",) * 4, "mask_spatial_granularity": (8, 4, 7, 1)},
    "spatial-1111": {"dyn_mode": ("spatial",) * 4, "mask_spatial_granularity": (1, 1, 1, 1)},
    "layer": {"dyn_mode": ("layer",) * 4},
    "both-4421-G2": {
        "dyn_mode": ("both",) * 4,
        "mask_spatial_granularity": (4, 4, 2, 1),
        "channel_dyn_granularity": (2,) * 4,
        "channel_masker_layers": (2,) * 4,
    },
}


@dataclass(frozen=True)
class Network:
    """A network and the image its masks were set on: (1, 3, H, W), normalised."""

    name: str
    model: DynamicNetwork
    image: np.ndarray


class _RateSetter:
    """Sets the biases of each masker, in forward order, so that its decisions keep `rate` on the image at hand."""

    def __init__(self, rate: float, seed: int) -> None:
        self.rate = rate
        self.random = np.random.default_rng(seed)
        self.layers = 0

    def __call__(self, masker: Masker, _inputs: tuple[torch.Tensor, ...], decision: Decision) -> Decision:
        bias = self._last_bias(masker)
        margin = decision.margin[0]
        shift = self._spatial(margin) if isinstance(masker, SpatialMasker) else self._channel(margin)
        with torch.no_grad():
            bias[: bias.numel() // 2] += shift
        moved = decision.margin + shift.reshape(1, -1, *[1] * (margin.ndim - 1))
        return Decision((moved >= 0).to(margin.dtype), moved)

    def _spatial(self, margin: torch.Tensor) -> torch.Tensor:
        if margin[0].numel() == 1:
            # Spread evenly: block i is kept when the running total of kept blocks falls behind the rate.
            keep = math.floor((self.layers + 1) * self.rate + 1e-9) > math.floor(self.layers * self.rate + 1e-9)
            self.layers += 1
            return (1.0 if keep else -1.0) - margin.flatten(1).mean(1)
        flat = margin.flatten(1).sort(dim=1, descending=True).values
        kept = max(1, round(self.rate * flat.shape[1]))
        after = flat[:, min(kept, flat.shape[1] - 1)] if kept < flat.shape[1] else flat[:, -1] - 2
        return -(flat[:, kept - 1] + after) / 2

    def _channel(self, margin: torch.Tensor) -> torch.Tensor:
        groups = margin.numel()
        keep = self.random.permutation(groups) < max(1, round(self.rate * groups))
        return torch.as_tensor(np.where(keep, 1.0, -1.0), dtype=margin.dtype) - margin

    @staticmethod
    def _last_bias(masker: Masker) -> torch.nn.Parameter:
        return [parameter for name, parameter in masker.named_parameters() if name.endswith("bias")][-1]


def _branch_norm(block: DynamicBlock) -> nn.Module:
    """The normalisation that a block's branch ends with."""
    if isinstance(block, RegNetBlock):
        return block.f.c[1]
    assert isinstance(block, Bottleneck)
    return block.bn3


def build(
    mode: str, rate: float, *, arch: str = "uni_resnet101", size: tuple[int, int] = (224, 224), seed: int = 0
) -> Network:
    """A network of `mode` (a key of MODES) whose masks keep `rate` on its image."""
    torch.manual_seed(seed)
    model = build_model(config_from_dict({"arch": arch, **MODES[mode]})).eval()
    with torch.no_grad():
        for _, block in model.blocks():
            _branch_norm(block).weight.fill_(0.2)  # keeps activations of 33 residual blocks in range
    image = torch.randn(1, 3, *size)
    setter = _RateSetter(rate, seed)
    hooks = [masker.register_forward_hook(setter) for masker in model.maskers()]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return Network(f"{arch} {mode} {rate:.0%}", model, image.numpy())

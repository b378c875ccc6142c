"""LAUD-T2T-ViTs with chosen activation rates: random weights, policies biased so that one image keeps given shares.

Token policies keep the best-scoring share of the patches, head policies a random share of the heads, layer policies
every n-th sublayer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from laudnet.maskers import Decision
from laudnet.vit import LaudVit, Policy, build_vit
from laudnet.vit_config import VitConfig


@dataclass(frozen=True)
class Rates:
    """Kept shares; 1 keeps everything but still runs the policy, None has no such policy."""

    token: float | None = None
    head: float | None = None
    layer: float | None = None

    @property
    def switches(self) -> dict[str, bool]:
        """AdaViT's switches."""
        return {
            "ada_token": self.token is not None,
            "ada_token_with_mlp": self.token is not None,
            "ada_head": self.head is not None,
            "ada_layer": self.layer is not None,
        }


MODES = {
    "token": Rates(token=0.7),
    "head": Rates(head=0.7),
    "layer": Rates(layer=0.8),
    "token+head+layer": Rates(0.7, 0.7, 0.8),
    "token+head+layer 50%": Rates(0.5, 0.5, 0.5),
    "token+head+layer 100%": Rates(1.0, 1.0, 1.0),
}


@dataclass(frozen=True)
class VitNetwork:
    """A network and the image its policies were set on: (1, 3, H, W), normalised."""

    name: str
    model: LaudVit
    image: np.ndarray


class _RateSetter:
    """Sets the bias of each policy, in forward order, so that its decisions keep a share on the image at hand."""

    def __init__(self, rates: Rates, seed: int) -> None:
        self.rates = rates
        self.random = np.random.default_rng(seed)
        self.sublayers = 0

    def token(self, policy: Policy, _inputs: object, decision: Decision) -> Decision:
        margin = decision.margin[0, :, 0]
        ordered = margin.sort(descending=True).values
        kept = max(1, round((self.rates.token or 0) * len(ordered)))
        below = ordered[kept] if kept < len(ordered) else ordered[-1] - 2
        return self._shift(policy, decision, -(ordered[kept - 1] + below).reshape(1) / 2)

    def head(self, policy: Policy, _inputs: object, decision: Decision) -> Decision:
        count = decision.margin.shape[1]
        # The rate is that of the whole network: the number of heads alternates between the integers around it.
        kept = int(self.random.binomial(1, ((self.rates.head or 0) * count) % 1)) + int((self.rates.head or 0) * count)
        keep = torch.from_numpy(self.random.permutation(count) < max(1, kept))
        return self._shift(policy, decision, torch.where(keep, 1.0, -1.0) - decision.margin[0])

    def layer(self, policy: Policy, _inputs: object, decision: Decision) -> Decision:
        keep = torch.tensor([self._next_sublayer() for _ in range(decision.margin.shape[1])])
        return self._shift(policy, decision, torch.where(keep, 1.0, -1.0) - decision.margin[0])

    def _next_sublayer(self) -> bool:
        """Spread evenly: kept when the running total of kept ones falls behind the rate."""
        rate = self.rates.layer or 0
        keep = math.floor((self.sublayers + 1) * rate + 1e-9) > math.floor(self.sublayers * rate + 1e-9)
        self.sublayers += 1
        return keep

    @staticmethod
    def _shift(policy: Policy, decision: Decision, shift: torch.Tensor) -> Decision:
        with torch.no_grad():
            policy.mlp_head.bias += shift
        moved = decision.margin + shift
        return Decision((moved > 0).to(moved.dtype), moved)


def build(mode: str, *, arch: str = "ada_step_t2t_vit_19_lnorm", size: int = 224, seed: int = 0) -> VitNetwork:
    """A network whose policies keep the rates of `mode` (a key of MODES) on its image."""
    torch.manual_seed(seed)
    rates = MODES[mode]
    model = build_vit(VitConfig.for_arch(arch, input_size=size, **rates.switches)).eval()
    setter = _RateSetter(rates, seed)
    hooks = []
    for _, block in model.named_blocks():
        for policy, hook in (
            (block.attn.token_select, setter.token),
            (block.head_select, setter.head),
            (block.layer_select, setter.layer),
        ):
            if policy is not None:
                hooks.append(policy.register_forward_hook(hook))
    image = torch.randn(1, 3, size, size)
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return VitNetwork(f"{arch} {mode}", model, image.numpy())

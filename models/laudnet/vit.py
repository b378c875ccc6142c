"""LAUD-T2T-ViT: a vision transformer that chooses tokens, heads and sublayers per image.

Parameter names equal those of AdaViT's checkpoints. Semantics: AdaViT (CVPR 2022), authors' code; LAUDNet (TPAMI
2024) takes its transformer from there. Choices are not cumulative: a token that one block leaves out is there again
for the next. This forward pass computes everything and masks, as the authors' does; the engine computes only what is
kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .maskers import Decision
from .vit_config import VitConfig

#: A token stays where its sigmoid exceeds 0.6, that is where its logit exceeds ln 1.5. Heads and sublayers: 0.5.
TOKEN_THRESHOLD = math.log(1.5)
_PERFORMER_EPS = 1e-8


class Policy(nn.Module):
    """One linear layer that decides: kept where the logit exceeds `threshold` (strictly; NaN drops).

    In training a decision is a Gumbel-sigmoid sample at `temperature`, hard forward and soft backward.
    """

    temperature: float = 5.0
    noise: float = 1.0

    def __init__(self, features: int, decisions: int, threshold: float = 0.0) -> None:
        super().__init__()
        self.threshold = threshold
        self.mlp_head = nn.Linear(features, decisions)

    def forward(self, x: Tensor) -> Decision:
        """x (B, ..., features) -> Decision (B, ..., decisions); its margin is logit - threshold."""
        logits = self.mlp_head(x)
        margin = logits - self.threshold
        if not self.training:
            return Decision((margin > 0).to(margin.dtype), margin)
        uniform = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
        # The difference of two Gumbel variables is logistic. The threshold applies to the tempered sigmoid.
        tempered = (logits + self.noise * torch.logit(uniform)) / self.temperature
        soft = torch.sigmoid(tempered)
        hard = (tempered > self.threshold).to(soft.dtype)
        return Decision(hard - soft.detach() + soft, margin)


@dataclass(frozen=True)
class VitBlockTrace:
    """Decisions of one block in eval mode, None where it has no such policy.

    token_*: (B, tokens - 1), patches only, the class token always stays. head_*: (B, heads). layer_*: (B, 2),
    attention and MLP. *_margin: logit - threshold, kept where positive; *_keep: bool. gap (B, D): mean of the
    block's output over tokens; tells in which block a difference starts.
    """

    name: str
    gap: Tensor
    token_margin: Tensor | None
    token_keep: Tensor | None
    head_margin: Tensor | None
    head_keep: Tensor | None
    layer_margin: Tensor | None
    layer_keep: Tensor | None


@dataclass(frozen=True)
class VitBlockRun:
    """What one block decided, shaped as in `VitBlockTrace`."""

    name: str
    token: Decision | None
    head: Decision | None
    layer: Decision | None
    gap: Tensor

    def trace(self) -> VitBlockTrace:
        """The decisions as plain tensors."""
        found: dict[str, Tensor | None] = {}
        for kind in ("token", "head", "layer"):
            decision: Decision | None = getattr(self, kind)
            found[f"{kind}_margin"] = None if decision is None else decision.margin
            found[f"{kind}_keep"] = None if decision is None else decision.keep.bool()
        return VitBlockTrace(self.name, self.gap, **found)


@dataclass(frozen=True)
class VitRun:
    """logits (B, num_classes), every block's decisions in forward order, and the images' (H, W) in pixels."""

    logits: Tensor
    blocks: tuple[VitBlockRun, ...]
    image_size: tuple[int, int]


class Attention(nn.Module):
    """Self-attention among the kept tokens, of the kept heads."""

    def __init__(self, config: VitConfig, index: int) -> None:
        super().__init__()
        dim = config.embed_dim
        self.heads = config.num_heads
        self.scale = config.scale
        self.identity_heads = config.ada_head_attn and config.chooses_heads(index)
        self.query = nn.Linear(dim, dim, bias=config.qkv_bias)
        self.key = nn.Linear(dim, dim, bias=config.qkv_bias)
        self.value = nn.Linear(dim, dim, bias=config.qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.token_select = Policy(dim, 1, TOKEN_THRESHOLD) if config.chooses_tokens(index) else None

    def forward(self, u: Tensor, tokens: Tensor | None, heads: Tensor | None) -> Tensor:
        """u (B, L, D) normalised; tokens (B, L) and heads (B, h) of 0 and 1, None: all -> (B, L, D)."""
        q, k, v = (self._by_head(layer(u)) for layer in (self.query, self.key, self.value))
        scores = q @ k.transpose(-2, -1) * self.scale
        if tokens is not None:
            scores = scores.masked_fill(~self._open(tokens), -torch.inf)
        out = scores.softmax(-1) @ v
        if heads is not None:
            kept = heads[:, :, None, None]
            out = out * kept + (v * (1 - kept) if self.identity_heads else 0)
        y = self.proj(out.transpose(1, 2).flatten(2))
        return y if tokens is None else y * tokens[:, :, None]

    def _by_head(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    @staticmethod
    def _open(tokens: Tensor) -> Tensor:
        """(B, 1, L, L): kept tokens see kept tokens; a dropped one sees itself, so that its row is defined."""
        both = tokens[:, :, None] * tokens[:, None, :] > 0
        eye = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)
        return (both | eye)[:, None]


class Mlp(nn.Module):
    """fc1, exact GELU, fc2; dropped heads leave out inputs or hidden units of fc1."""

    def __init__(self, config: VitConfig, index: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.embed_dim)
        self.width = _mlp_width(config, index)

    def forward(self, v: Tensor, heads: Tensor | None) -> Tensor:
        """v (B, L, D) normalised; heads (B, h) of 0 and 1, None: all -> (B, L, D)."""
        if heads is not None and self.width == "inputs":
            v = v * _spread(heads, v.shape[2])
        hidden = self.fc1(v)
        if heads is not None and self.width == "outputs":
            hidden = hidden * _spread(heads, hidden.shape[2])
        return self.fc2(F.gelu(hidden))


def _mlp_width(config: VitConfig, index: int) -> str:
    """What dropped heads leave out of fc1 in block `index`: "inputs", "outputs" or "nothing"."""
    if not config.chooses_heads(index) or config.ada_head_attn:
        return "nothing"
    return "outputs" if config.ada_head_v2 else "inputs"


def _spread(heads: Tensor, features: int) -> Tensor:
    """(B, h) -> (B, 1, features): each head's decision for its contiguous share."""
    return heads.repeat_interleave(features // heads.shape[1], dim=1)[:, None]


class Block(nn.Module):
    """Attention and MLP, each with its residual; policies read the class token and the normalised tokens."""

    def __init__(self, config: VitConfig, index: int) -> None:
        super().__init__()
        dim, eps = config.embed_dim, config.layer_norm_eps
        chooses = config.chooses_heads(index), config.chooses_layers(index)
        self.tokens_in_mlp = config.ada_token_with_mlp
        self.norm_policy = nn.LayerNorm(dim, eps) if config.norm_policy and any(chooses) else None
        self.norm1 = nn.LayerNorm(dim, eps)
        self.attn = Attention(config, index)
        self.norm2 = nn.LayerNorm(dim, eps)
        self.mlp = Mlp(config, index)
        self.head_select = Policy(dim, config.num_heads) if chooses[0] else None
        self.layer_select = Policy(dim, 2) if chooses[1] else None

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, D) -> (B, L, D)."""
        return self.run(x, "")[0]

    def forward_dense(self, x: Tensor) -> Tensor:
        """As `forward` with everything kept and no policy run: the block of the static network."""
        x = x + self.attn(self.norm1(x), None, None)
        return x + self.mlp(self.norm2(x), None)

    def run(self, x: Tensor, name: str) -> tuple[Tensor, VitBlockRun]:
        """As `forward`, with the decisions taken, labelled `name`."""
        policy = x[:, 0] if self.norm_policy is None else self.norm_policy(x[:, 0])
        layer = None if self.layer_select is None else self.layer_select(policy)
        head = None if self.head_select is None else self.head_select(policy)
        u = self.norm1(x)
        token = self._choose_tokens(u)
        tokens = None if token is None else F.pad(token.keep, (1, 0), value=1.0)
        heads = None if head is None else head.keep
        on = (1, 1) if layer is None else layer.keep.unbind(1)
        x = x + _scaled(self.attn(u, tokens, heads), on[0])
        branch = self.mlp(self.norm2(x), heads)
        if tokens is not None and self.tokens_in_mlp:
            branch = branch * tokens[:, :, None]
        x = x + _scaled(branch, on[1])
        return x, VitBlockRun(name, token, head, layer, x.mean(1))

    def _choose_tokens(self, u: Tensor) -> Decision | None:
        if self.attn.token_select is None:
            return None
        decision = self.attn.token_select(u[:, 1:])
        return Decision(decision.keep[..., 0], decision.margin[..., 0])


def _scaled(branch: Tensor, on: Tensor | int) -> Tensor:
    return branch if isinstance(on, int) else branch * on[:, None, None]


class Performer(nn.Module):
    """One layer of the T2T stem: attention with positive random features, then an MLP."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.kqv = nn.Linear(features, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(features)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        random_features = dim // 2
        self.w = nn.Parameter(torch.empty(random_features, dim), requires_grad=False)
        if not self.w.is_meta:
            nn.init.orthogonal_(self.w)
            self.w.data.mul_(math.sqrt(random_features))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, features) -> (B, T, dim)."""
        k, q, v = self.kqv(self.norm1(x)).chunk(3, dim=-1)
        kp, qp = self._features(k), self._features(q)
        norm = qp @ kp.sum(1)[:, :, None]
        y = qp @ (kp.transpose(1, 2) @ v) / (norm + _PERFORMER_EPS)
        y = v + self.proj(y)
        return y + self.mlp(self.norm2(y))

    def _features(self, x: Tensor) -> Tensor:
        """exp(w·x - |x|²/2) / sqrt(m): (B, T, dim) -> (B, T, m)."""
        squared = (x * x).sum(-1, keepdim=True) / 2
        return torch.exp(x @ self.w.T - squared) / math.sqrt(self.w.shape[0])


class TokensToToken(nn.Module):
    """The T2T stem: three overlapping splits with a performer after each of the first two."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        dim = config.token_dim
        self.attention1 = Performer(3 * 7 * 7, dim)
        self.attention2 = Performer(dim * 3 * 3, dim)
        self.project = nn.Linear(dim * 3 * 3, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, H) -> tokens (B, (H/16)², D)."""
        x = self.attention1(F.unfold(x, 7, stride=4, padding=2).transpose(1, 2))
        x = self.attention2(self._split(x))
        return self.project(self._split(x))

    @staticmethod
    def _split(x: Tensor) -> Tensor:
        side = math.isqrt(x.shape[1])
        image = x.transpose(1, 2).reshape(x.shape[0], -1, side, side)
        return F.unfold(image, 3, stride=2, padding=1).transpose(1, 2)


class PatchEmbed(nn.Module):
    """The plain stem: one convolution, one token per patch."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.embed_dim, config.patch_size, config.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, H) -> tokens (B, (H/patch)², D)."""
        return self.proj(x).flatten(2).transpose(1, 2)


class LaudVit(nn.Module):
    """LAUD-T2T-ViT, or a plain ViT with the same policies, built from a `VitConfig`.

    `model(x)` returns the logits (B, num_classes); `model.run(x)` the decisions as well. x: (B, 3, H, H) with H =
    config.input_size (ValueError otherwise). In training mode decisions are samples at `model.temperature`.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        if config.tokens_to_token:
            self.tokens_to_token = TokensToToken(config)
        else:
            self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(sinusoids(config.tokens, dim), requires_grad=False)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.norm = nn.LayerNorm(dim, config.layer_norm_eps)
        self.head = nn.Linear(dim, config.num_classes)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def named_blocks(self) -> Iterator[tuple[str, Block]]:
        """('blocks.0', block) ... in forward order."""
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            yield f"blocks.{index}", block

    def policies(self) -> Iterator[Policy]:
        """Every policy of the model."""
        return (module for module in self.modules() if isinstance(module, Policy))

    @property
    def temperature(self) -> float:
        """Gumbel-sigmoid temperature of all policies; setting it sets theirs."""
        return next((policy.temperature for policy in self.policies()), Policy.temperature)

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not value > 0:
            raise ValueError(f"temperature must be positive, got {value}")
        for policy in self.policies():
            policy.temperature = value

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, H) -> logits (B, num_classes)."""
        return self.run(x).logits

    def forward_dense(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of the static network: everything kept, no policy run."""
        x = self._embed(x)
        for _, block in self.named_blocks():
            x = block.forward_dense(x)
        return self._classify(x)

    def run(self, x: Tensor) -> VitRun:
        """As `forward`, with every block's decisions (differentiable in training mode)."""
        image_size = (x.shape[2], x.shape[3]) if x.dim() == 4 else (0, 0)
        x, runs = self._embed(x), []
        for name, block in self.named_blocks():
            x, block_run = block.run(x, name)
            runs.append(block_run)
        return VitRun(self._classify(x), tuple(runs), image_size)

    def _embed(self, x: Tensor) -> Tensor:
        size = self.config.input_size
        if x.dim() != 4 or tuple(x.shape[1:]) != (3, size, size):
            raise ValueError(f"input: expected (batch, 3, {size}, {size}), got {tuple(x.shape)}")
        x = self.tokens_to_token(x) if self.config.tokens_to_token else self.patch_embed(x)
        return torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed

    def _classify(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x[:, 0]))


def sinusoids(positions: int, features: int) -> Tensor:
    """(1, positions, features): the fixed sine and cosine embedding of transformers."""
    rates = np.power(10000.0, -2 * (np.arange(features) // 2) / features)
    angles = np.arange(positions)[:, None] * rates
    table = np.where(np.arange(features) % 2 == 0, np.sin(angles), np.cos(angles))
    return torch.tensor(table, dtype=torch.float32)[None]


def build_vit(config: VitConfig) -> LaudVit:
    """A freshly initialised model of `config`, in training mode as any new module."""
    return LaudVit(config)

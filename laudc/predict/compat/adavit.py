"""AdaViT on T2T-ViT-19, block by block. The batch is part of the shapes: use a device of batch 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cost import FREE, Cost, total
from .plain import add
from .transformer import dynamic_linear, elementwise, layernorm, matmul, softmax, unfold

if TYPE_CHECKING:
    from .model import Model

TOKENS = 197
WIDTH = 448
HEADS = 7
HEAD_WIDTH = 64
MLP_WIDTH = 3 * WIDTH
CLASSES = 1000


@dataclass(frozen=True)
class AdaVitMode:
    """Rates of what is kept; None: the block has no such policy and keeps all."""

    tokens: float | None = None
    heads: float | None = None
    attention: float | None = None
    mlp: float | None = None


def adavit_block(model: Model, mode: AdaVitMode | None = None, *, batch: int = 1) -> Cost:
    """One encoder block."""
    mode = mode or AdaVitMode()
    head_share = 1.0 if mode.heads is None else mode.heads
    tokens = math.floor(TOKENS * _kept(mode.tokens))
    kept_width = math.floor(WIDTH * head_share)
    normed = layernorm(model, shape=(batch, TOKENS, WIDTH))
    attention = [
        normed,
        _attention(model, mode, tokens, head_share, batch),
        add(model, c=batch, h=tokens, w=kept_width),
    ]
    mlp = [normed, _mlp(model, tokens, head_share, batch), add(model, c=batch, h=tokens, w=WIDTH)]
    return _policies(model, mode, batch) + total(attention) * _kept(mode.attention) + total(mlp) * _kept(mode.mlp)


def _kept(rate: float | None) -> float:
    return 1.0 if rate is None else rate


def _policies(model: Model, mode: AdaVitMode, batch: int) -> Cost:
    cost = FREE
    if mode.attention is not None or mode.mlp is not None:
        cost = cost + matmul(model, rows=batch, inner=WIDTH, outer=2)
    if mode.heads is not None:
        cost = cost + matmul(model, rows=batch, inner=WIDTH, outer=HEADS)
    return cost


def _attention(model: Model, mode: AdaVitMode, tokens: int, head_share: float, batch: int) -> Cost:
    heads = math.floor(HEADS * head_share)
    # Queries, keys and values are computed for all tokens.
    project = dynamic_linear(model, rows=batch * TOKENS, inner=WIDTH, outer=WIDTH, oc_density=head_share)
    parts = [project, project, project]
    if mode.tokens is not None:
        parts.append(dynamic_linear(model, rows=batch * TOKENS, inner=WIDTH, outer=1, ic_density=head_share))
    rows = batch * heads * tokens
    parts += [
        matmul(model, rows=rows, inner=HEAD_WIDTH, outer=tokens),
        softmax(model, shape=(batch, heads, tokens, tokens)),
        matmul(model, rows=rows, inner=tokens, outer=HEAD_WIDTH),
        dynamic_linear(
            model, rows=batch * tokens, inner=WIDTH, outer=WIDTH, ic_density=head_share, oc_density=head_share
        ),
    ]
    return total(parts)


def _mlp(model: Model, tokens: int, head_share: float, batch: int) -> Cost:
    rows = batch * tokens
    return total(
        [
            dynamic_linear(model, rows=rows, inner=WIDTH, outer=MLP_WIDTH, ic_density=head_share),
            elementwise(model, shape=(batch, tokens, MLP_WIDTH)),
            matmul(model, rows=rows, inner=MLP_WIDTH, outer=WIDTH),
        ]
    )


def adavit_stem(model: Model, *, batch: int = 1) -> Cost:
    """The tokens-to-token stem at 224×224."""
    return total(
        [
            unfold(model, elements_in=batch * 3 * 224 * 224, elements_out=batch * 147 * 56 * 56),
            _performer(model, 3136, 147, 64, batch),
            unfold(model, elements_in=batch * 64 * 56 * 56, elements_out=batch * 576 * 28 * 28),
            _performer(model, 784, 576, 64, batch),
            unfold(model, elements_in=batch * 64 * 28 * 28, elements_out=batch * 576 * 14 * 14),
            matmul(model, rows=batch * 196, inner=576, outer=WIDTH),
        ]
    )


def _performer(model: Model, length: int, inner: int, width: int, batch: int) -> Cost:
    """Linear attention over `length` tokens of `inner` features, to `width` features."""
    rows, features = batch * length, width // 2

    def lin(rows: int, inner: int, outer: int) -> Cost:
        return matmul(model, rows=rows, inner=inner, outer=outer)

    feature_map = [
        elementwise(model, shape=(batch, length, width)),
        lin(rows, width, features),
        add(model, c=batch, h=length, w=features),
        elementwise(model, shape=(batch, length, features)),
    ]
    return total(
        [
            layernorm(model, shape=(batch, length, inner)),
            lin(rows, inner, 3 * width),
            *feature_map,
            *feature_map,
            lin(rows, features, 1),
            lin(batch * width, length, features),
            lin(rows, features, width),
            lin(rows, width, width),
            layernorm(model, shape=(batch, length, width)),
            lin(rows, width, width),
            elementwise(model, shape=(batch, length, width)),
            lin(rows, width, width),
        ]
    )


def adavit_head(model: Model, *, batch: int = 1) -> Cost:
    """The last normalisation and the classifier."""
    return layernorm(model, shape=(batch, TOKENS, WIDTH)) + matmul(model, rows=batch, inner=WIDTH, outer=CLASSES)

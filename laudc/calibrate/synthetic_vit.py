"""Transformers made for measuring: random weights, and policies that keep exactly what is asked for.

Heads and sublayers are chosen by the biases of their policies alone. Tokens are told apart by features that the
position embedding sets and no block changes: one for each block, 1 where it keeps a token and −1 where it does not. A
policy compares its feature with one that is 0 everywhere, which no normalisation can reverse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from laudc.ops import names
from laudc.ops.spec import DEFAULT_OPSET
from laudc.ops.transformer import DroppedHead, MlpWidth
from laudc.predict.vit_blueprint import PATCH, VitBlueprint

if TYPE_CHECKING:
    import onnx

    from laudc.ops.scheduled_vit import VitRecord

Array = np.ndarray
Masks = dict[str, dict[str, Array]]

_EPSILON = 1e-5
_WIDTHS = {MlpWidth.FULL: "nothing", MlpWidth.INPUTS: "inputs", MlpWidth.OUTPUTS: "outputs"}


@dataclass(frozen=True)
class VitDrawn:
    """What a made-up transformer shall keep, by block: share of tokens and of heads, and whether attention and MLP
    run; entries of policies that a block does not have are ignored."""

    token: tuple[float, ...]
    head: tuple[float, ...]
    attends: tuple[bool, ...]
    transforms: tuple[bool, ...]


def vit_masks(blueprint: VitBlueprint, drawn: VitDrawn, seed: int) -> Masks:
    """The decisions by block and kind, bool: token (1, tokens − 1), head (1, heads), layer (1, 2). At least one head
    stays."""
    random = np.random.default_rng(seed)
    found: Masks = {}
    for index, (name, record) in enumerate(blueprint.blocks()):
        tokens, heads = record.tokens - 1, record.heads
        chosen = {
            "token": random.permutation(tokens) < round(drawn.token[index] * tokens),
            "head": random.permutation(heads) < max(1, round(drawn.head[index] * heads)),
            "layer": np.asarray([drawn.attends[index], drawn.transforms[index]]),
        }
        found[name] = {kind: chosen[kind][None] for kind in record.decisions}
    return found


def synthetic_vit(blueprint: VitBlueprint, masks: Mapping[str, Mapping[str, Array]], seed: int) -> onnx.ModelProto:
    """A portable model whose policies decide as `masks` says (`vit_masks`), whatever the image; `seed`: of the
    weights."""
    from laudc.export import vit_emitters
    from laudc.export.builder import GraphBuilder

    random = np.random.default_rng(seed)
    blocks = blueprint.blocks()
    reserved = len(blocks) + 1
    graph = GraphBuilder()
    vit_emitters.index_of_first_token(graph)
    x = graph.input(names.INPUT, (None, 3, blueprint.input_size, blueprint.input_size))
    if blueprint.t2t:
        x = vit_emitters.tokens_to_token(graph, _t2t(random, blueprint, reserved), "tokens_to_token", x)
    else:
        x = vit_emitters.patch_embed(graph, _patches(random, blueprint, reserved), "patch_embed", x)
    x = vit_emitters.with_class_token(graph, _positions(random, blueprint, masks), x)
    for index, (name, record) in enumerate(blocks):
        module = _block(random, record, masks.get(name, {}), 1 + index, reserved)
        x = vit_emitters.transformer_block(graph, module, name, x)
    head = SimpleNamespace(norm=_norm(blueprint.dim), head=_linear(random, blueprint.dim, blueprint.num_classes))
    return graph.finish([vit_emitters.token_head(graph, head, x)], "synthetic", DEFAULT_OPSET)


def _normal(random: np.random.Generator, shape: tuple[int, ...], scale: float) -> Array:
    return random.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def _linear(random: np.random.Generator, inputs: int, outputs: int, reserved: int = 0) -> Any:
    """A layer that adds nothing to the first `reserved` outputs."""
    weight, bias = _normal(random, (outputs, inputs), inputs**-0.5), _normal(random, (outputs,), 0.1)
    weight[:reserved], bias[:reserved] = 0, 0
    return SimpleNamespace(weight=weight, bias=bias)


def _norm(features: int) -> Any:
    ones, zeros = np.ones(features, np.float32), np.zeros(features, np.float32)
    return SimpleNamespace(weight=ones, bias=zeros, eps=_EPSILON)


def _t2t(random: np.random.Generator, blueprint: VitBlueprint, reserved: int) -> Any:
    dim = blueprint.token_dim
    return SimpleNamespace(
        attention1=_performer(random, 3 * 7 * 7, dim),
        attention2=_performer(random, dim * 3 * 3, dim),
        project=_linear(random, dim * 3 * 3, blueprint.dim, reserved),
    )


def _performer(random: np.random.Generator, features: int, dim: int) -> Any:
    return SimpleNamespace(
        norm1=_norm(features),
        norm2=_norm(dim),
        kqv=_linear(random, features, 3 * dim),
        proj=_linear(random, dim, dim),
        mlp=(_linear(random, dim, dim), None, _linear(random, dim, dim)),
        w=_normal(random, (dim // 2, dim), 1.0),
    )


def _patches(random: np.random.Generator, blueprint: VitBlueprint, reserved: int) -> Any:
    weight = _normal(random, (blueprint.dim, 3, PATCH, PATCH), 0.05)
    weight[:reserved] = 0
    return SimpleNamespace(proj=SimpleNamespace(weight=weight, bias=np.zeros(blueprint.dim, np.float32)))


def _positions(random: np.random.Generator, blueprint: VitBlueprint, masks: Mapping[str, Mapping[str, Array]]) -> Any:
    table = _normal(random, (1, blueprint.tokens, blueprint.dim), 0.1)
    blocks = blueprint.blocks()
    table[:, :, : len(blocks) + 1] = 0
    for index, (name, _) in enumerate(blocks):
        kept = masks.get(name, {}).get("token")
        if kept is not None:
            table[0, 1:, 1 + index] = np.where(kept[0], 1.0, -1.0)
    return SimpleNamespace(pos_embed=table, cls_token=np.zeros((1, 1, blueprint.dim), np.float32))


def _block(
    random: np.random.Generator, record: VitRecord, masks: Mapping[str, Array], feature: int, reserved: int
) -> Any:
    """`feature`: what the position embedding tells the block's tokens apart by."""
    dim = record.dim
    compared = np.zeros((1, dim), np.float32)
    compared[0, feature], compared[0, 0] = 1.0, -1.0
    nothing = {kind: np.zeros((number, dim), np.float32) for kind, number in record.decisions.items()}
    return SimpleNamespace(
        norm1=_norm(dim),
        norm2=_norm(dim),
        norm_policy=None,
        head_select=_policy(nothing["head"], masks["head"][0]) if "head" in masks else None,
        layer_select=_policy(nothing["layer"], masks["layer"][0]) if "layer" in masks else None,
        tokens_in_mlp=bool(record.tokens_in_mlp),
        attn=SimpleNamespace(
            query=_linear(random, dim, dim),
            key=_linear(random, dim, dim),
            value=_linear(random, dim, dim),
            proj=_linear(random, dim, dim, reserved),
            heads=record.heads,
            scale=record.head_dim**-0.5,
            token_select=_policy(compared, None) if "token" in masks else None,
            identity_heads=record.dropped_heads == DroppedHead.VALUES,
        ),
        mlp=SimpleNamespace(
            fc1=_linear(random, dim, record.hidden),
            fc2=_linear(random, record.hidden, dim, reserved),
            width=_WIDTHS[MlpWidth(record.head_width)],
        ),
    )


def _policy(weight: Array, kept: Array | None) -> Any:
    """Decides by its bias as `kept` says, or by its weight alone."""
    bias = np.zeros(len(weight), np.float32) if kept is None else np.where(kept, 1.0, -1.0).astype(np.float32)
    return SimpleNamespace(mlp_head=SimpleNamespace(weight=weight, bias=bias), threshold=0.0)

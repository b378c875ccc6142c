"""AdaViT's checkpoints: what their tensors and their printed arguments say about the network.

A file is a dict of epoch, arch, state_dict, optimizer, version and, as far as the run had them, args (the argument
namespace), state_dict_ema and metric. Sizes and the presence of policies follow from the tensors. Which of AdaViT's
variants the policies mean leaves no trace there; it is read from args, and without args it is LAUDNet's definition
of a LAUD-T2T-ViT: tokens that attention drops skip the MLP too, and a dropped head's features are left out of fc1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from .errors import CheckpointError
from .untrusted import PlainNamespace
from .vit_config import CUSTOM_VIT, VIT_ARCHS, VitConfig

Tensors = Mapping[str, Tensor]

_VARIANTS = ("ada_head_v2", "ada_head_attn", "ada_token_with_mlp")
_T2T_EPS, _PATCH_EPS = 1e-5, 1e-6


def split_qkv(tensors: Tensors) -> dict[str, Tensor]:
    """The tensors with every joint `qkv` layer (static T2T-ViT and DeiT) split into query, key and value."""
    split: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if ".attn.qkv." in key and value.dim() > 0 and value.shape[0] % 3 == 0:
            for part, values in zip(("query", "key", "value"), value.chunk(3), strict=True):
                # A copy of its own: the file's tensor is larger than what is wanted of it.
                split[key.replace(".qkv.", f".{part}.")] = values.clone()
        else:
            split[key] = value
    return split


def read_config(content: Mapping[Any, Any], tensors: Tensors) -> VitConfig:
    """Configuration of an AdaViT checkpoint or of its bare state dict.

    Raises CheckpointError for variants that are not known, ValueError for tensors that make no network.
    """
    args = _arguments(content.get("args"))
    if args.get("ada_token_nonstep"):
        raise CheckpointError(
            "args",
            "ada_token_nonstep is set: all blocks share the tokens that one of them chose",
            "use a checkpoint whose blocks choose their own tokens",
        )
    sizes = options_from_shapes(tensors)
    if not sizes:
        raise ValueError("a vision transformer without cls_token or head.weight is no classifier")
    options = {**sizes, "num_heads": _heads(sizes, content.get("arch"), args), **_policies(tensors)}
    options["ada_token_with_mlp"] = options["ada_token"]
    # A switch without its policy (block 0 has no heads to choose from) is of no consequence.
    wanted = {name: bool(args[name]) for name in _VARIANTS if name in args}
    options.update({name: on and options[_policy_of(name)] for name, on in wanted.items()})
    if args.get("pretrained"):
        options["qk_scale"] = options["embed_dim"] ** -0.5
    return VitConfig.for_arch(_arch(options), **options)


def _policy_of(variant: str) -> str:
    return "ada_token" if variant.startswith("ada_token") else "ada_head"


def _arguments(args: object) -> Mapping[str, Any]:
    if isinstance(args, PlainNamespace):
        return args.values
    return {str(key): value for key, value in args.items()} if isinstance(args, Mapping) else {}


def options_from_shapes(tensors: Tensors) -> dict[str, Any]:
    """The sizes that tensor shapes give away; nothing for tensors of another family."""
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    cls, head = shapes.get("cls_token", ()), shapes.get("head.weight", ())
    if len(cls) != 3 or len(head) != 2:
        return {}
    dim, depth = cls[2], max(_blocks(tensors, ""), default=-1) + 1
    t2t = any(key.startswith("tokens_to_token.") for key in tensors)
    hidden = shapes.get("blocks.0.mlp.fc1.weight", (0,))[0]
    patch = shapes.get("patch_embed.proj.weight", (0, 0, 0, 16))[-1]
    options: dict[str, Any] = {
        "embed_dim": dim,
        "depth": depth,
        "mlp_ratio": hidden / max(1, dim),
        "qkv_bias": "blocks.0.attn.query.bias" in tensors,
        "tokens_to_token": t2t,
        "layer_norm_eps": _T2T_EPS if t2t else _PATCH_EPS,
        "num_classes": head[0],
    }
    chosen = next((shape[0] for key, shape in shapes.items() if key.endswith("head_select.mlp_head.weight")), None)
    if chosen is not None:
        options["num_heads"] = chosen
    positions = shapes.get("pos_embed", ())
    if len(positions) == 3 and positions[1] > 1:
        options["input_size"] = math.isqrt(positions[1] - 1) * (16 if t2t else patch)
    if t2t:
        options["token_dim"] = shapes.get("tokens_to_token.attention1.proj.weight", (64,))[0]
    else:
        options["patch_size"] = patch
    return options


def _heads(sizes: Mapping[str, Any], arch: object, args: Mapping[str, Any]) -> int:
    """Of the head policy; without one those of the published network. Weights of attention leave no trace of heads."""
    dim, depth = sizes["embed_dim"], sizes["depth"]
    published = [s["num_heads"] for s in VIT_ARCHS.values() if (s["embed_dim"], s["depth"]) == (dim, depth)]
    named = VIT_ARCHS.get(arch, {}) if isinstance(arch, str) else {}
    found = sizes.get("num_heads") or args.get("num_heads") or next(iter(published), None)
    if found is None and named.get("embed_dim") == dim:
        found = named["num_heads"]
    if isinstance(found, int):
        return found
    raise CheckpointError(
        "tensors",
        f"they do not say how many heads share the {dim} features (no block chooses heads)",
        "say arch, sizes and num_heads with --config FILE",
    )


def _blocks(tensors: Tensors, part: str) -> Iterable[int]:
    """Numbers of the blocks that have a parameter whose name in the block begins with `part`."""
    pattern = re.compile(rf"blocks\.(\d{{1,4}})\.{re.escape(part)}")
    return (int(match.group(1)) for match in map(pattern.match, tensors) if match)


def _policies(tensors: Tensors) -> dict[str, Any]:
    heads, layers = set(_blocks(tensors, "head_select.")), set(_blocks(tensors, "layer_select."))
    tokens = set(_blocks(tensors, "attn.token_select."))
    return {
        "ada_head": bool(heads),
        "ada_layer": bool(layers),
        "ada_token": bool(tokens),
        "norm_policy": any(True for _ in _blocks(tensors, "norm_policy.")),
        "keep_layers": max(1, min(heads | layers, default=1)),
        "ada_token_start_layer": min(tokens, default=0),
    }


def _arch(options: Mapping[str, Any]) -> str:
    """The published architecture that these sizes are, else the free one."""
    defaults = {"mlp_ratio": 3.0, "qkv_bias": False, "tokens_to_token": True, "layer_norm_eps": _T2T_EPS}
    for arch, sizes in VIT_ARCHS.items():
        if all(options.get(name) == value for name, value in {**defaults, **sizes}.items()):
            return arch
    return CUSTOM_VIT

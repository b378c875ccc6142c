"""Emitters of LAUD-T2T-ViT.

The soft splits of the T2T stem are made of slices and concatenations of channels-last maps, so their features come in
the order (row, column, channel) where the network has (channel, row, column); the layers that read them have their
weights in the same order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from laudc.errors import UserError
from laudc.export.builder import GraphBuilder, Value
from laudc.export.emitters import emit, emits
from laudc.export.fold import to_array, to_wide_array
from laudc.ops import names
from laudc.ops.spec import Shape
from laudc.ops.transformer import DroppedHead, MlpWidth

Array = np.ndarray

_FIRST_TOKEN = "first_token"
_MLP_WIDTH = {"nothing": MlpWidth.FULL, "inputs": MlpWidth.INPUTS, "outputs": MlpWidth.OUTPUTS}


@emits("laudnet.vit.LaudVit")
def _vit(graph: GraphBuilder, model: Any, path: str, x: Value) -> Value:
    if not model.config.is_dynamic:
        raise UserError(
            "the model cannot be exported",
            "it has no policy, so nothing in it is dynamic",
            "Export a network with ada_head, ada_layer or ada_token",
        )
    index_of_first_token(graph)
    stem = model.tokens_to_token if model.config.tokens_to_token else model.patch_embed
    x = emit(graph, stem, "tokens_to_token" if model.config.tokens_to_token else "patch_embed", x)
    x = with_class_token(graph, model, x)
    for name, block in model.named_blocks():
        x = emit(graph, block, name, x)
    return token_head(graph, model, x)


def token_head(graph: GraphBuilder, model: Any, x: Value) -> Value:
    """Normalisation and linear layer on the class token: the graph's logits."""
    first = first_token(graph, "class_token", x)
    first = _layer_norm(graph, model.norm, "norm", first)
    weight = graph.constant("head.weight", to_array(model.head.weight))
    inputs = (first, weight, graph.constant("head.bias", to_array(model.head.bias)))
    shape = (x.shape[0], weight.shape[0])
    return graph.standard("Gemm", "head", inputs, shape, {"transB": 1}, output=names.OUTPUT)


def index_of_first_token(graph: GraphBuilder) -> None:
    """The constant that every look at the class token reads; comes before all of them."""
    graph.constant(_FIRST_TOKEN, np.array(0, np.int64))


def with_class_token(graph: GraphBuilder, model: Any, x: Value) -> Value:
    """The class token before the others and the position embedding on all of them, in one addition."""
    length = _known(x.shape[1]) + 1
    shape: Shape = (x.shape[0], length, x.shape[2])
    pads = graph.constant("pos_embed.pads", np.array([0, 1, 0, 0, 0, 0], np.int64))
    padded = graph.standard("Pad", "pos_embed.pad", (x, pads), shape)
    table = to_array(model.pos_embed).copy()
    table[:, 0] += to_array(model.cls_token)[:, 0]
    return graph.standard("Add", "pos_embed", (padded, graph.constant("pos_embed.table", table)), shape)


def _known(dim: int | None) -> int:
    assert dim is not None
    return dim


def first_token(graph: GraphBuilder, name: str, x: Value) -> Value:
    index = Value(_FIRST_TOKEN, ())
    return graph.standard("Gather", name, (x, index), (x.shape[0], x.shape[2]), {"axis": 1})


def _layer_norm(graph: GraphBuilder, norm: Any, path: str, x: Value, order: Array | None = None) -> Value:
    """`order`: how the features of x are permuted against those of `norm`."""
    weight, bias = to_array(norm.weight), to_array(norm.bias)
    if order is not None:
        weight, bias = weight[order], bias[order]
    inputs = (x, graph.constant(f"{path}.weight", weight), graph.constant(f"{path}.bias", bias))
    return graph.standard("LayerNormalization", path, inputs, x.shape, {"axis": -1, "epsilon": norm.eps})


def _linear(graph: GraphBuilder, layer: Any, path: str, x: Value, order: Array | None = None) -> Value:
    """x·Wᵀ + b of the last axis; the initializer holds Wᵀ."""
    weight = to_array(layer.weight)
    turned = (weight if order is None else weight[:, order]).T
    shape = (*x.shape[:-1], weight.shape[0])
    product = graph.standard("MatMul", path, (x, graph.constant(f"{path}.weight", turned)), shape)
    bias = graph.constant(f"{path}.bias", to_array(layer.bias))
    return graph.standard("Add", f"{path}.add", (product, bias), shape)


def _scalar(graph: GraphBuilder, name: str, value: float) -> Value:
    return graph.constant(name, np.array(value, np.float32))


def _gelu(graph: GraphBuilder, path: str, x: Value) -> Value:
    """x·Φ(x) in the form that runtimes recognise."""
    root = _scalar(graph, f"{path}.root", math.sqrt(2.0))
    scaled = graph.standard("Div", f"{path}.div", (x, root), x.shape)
    erf = graph.standard("Erf", f"{path}.erf", (scaled,), x.shape)
    shifted = graph.standard("Add", f"{path}.add", (erf, _scalar(graph, f"{path}.one", 1.0)), x.shape)
    doubled = graph.standard("Mul", f"{path}.mul", (x, shifted), x.shape)
    return graph.standard("Mul", path, (doubled, _scalar(graph, f"{path}.half", 0.5)), x.shape)


# ---- stems -----------------------------------------------------------------------------------------------------------


@emits("laudnet.vit.PatchEmbed")
def patch_embed(graph: GraphBuilder, stem: Any, path: str, x: Value) -> Value:
    """The plain stem: tokens (B, L − 1, D) of an image."""
    conv = stem.proj
    out_channels, _, side, _ = to_array(conv.weight).shape
    rows, columns = (_known(size) // side for size in x.shape[2:])
    inputs = (
        x,
        graph.constant(f"{path}.proj.weight", to_array(conv.weight)),
        graph.constant(f"{path}.proj.bias", to_array(conv.bias)),
    )
    attributes = {"kernel_shape": [side, side], "strides": [side, side]}
    shape: Shape = (x.shape[0], out_channels, rows, columns)
    patches = graph.standard("Conv", f"{path}.proj", inputs, shape, attributes)
    flat = _reshape(graph, f"{path}.flat", patches, (x.shape[0], out_channels, rows * columns))
    return _transpose(graph, f"{path}.tokens", flat, [0, 2, 1])


@emits("laudnet.vit.TokensToToken")
def tokens_to_token(graph: GraphBuilder, stem: Any, path: str, x: Value) -> Value:
    """The T2T stem: tokens (B, L − 1, D) of an image."""
    x = _transpose(graph, f"{path}.nhwc", x, [0, 2, 3, 1])
    x, order = _soft_split(graph, f"{path}.soft_split0", x, 4)
    x = _performer(graph, stem.attention1, f"{path}.attention1", x, order)
    x, order = _soft_split(graph, f"{path}.soft_split1", _as_map(graph, f"{path}.map1", x), 2)
    x = _performer(graph, stem.attention2, f"{path}.attention2", x, order)
    x, order = _soft_split(graph, f"{path}.soft_split2", _as_map(graph, f"{path}.map2", x), 2)
    return _linear(graph, stem.project, f"{path}.project", x, order)


def _as_map(graph: GraphBuilder, name: str, x: Value) -> Value:
    side = math.isqrt(_known(x.shape[1]))
    return _reshape(graph, name, x, (x.shape[0], side, side, x.shape[2]))


def _soft_split(graph: GraphBuilder, path: str, x: Value, stride: int) -> tuple[Value, Array]:
    """Unfolds windows of 2·stride−1 pixels of (B, H, W, C), zero-padded by stride/2.

    A window is one block of `stride` pixels and all but the last of the next, first along columns, then along rows.

    Returns:
        Tokens (B, H/stride · W/stride, window² · C) with features (row, column, channel), and the index of each of
        them among the network's (channel, row, column).
    """
    batch, height, width, channels = x.shape[0], *(_known(size) for size in x.shape[1:])
    window, pad = 2 * stride - 1, stride // 2
    rows, columns = height // stride, width // stride
    pads = graph.constant(f"{path}.pads", np.array([0, pad, pad, 0] * 2, np.int64))
    x = graph.standard("Pad", f"{path}.pad", (x, pads), (batch, height + stride, width + stride, channels))
    x = _reshape(graph, f"{path}.columns", x, (batch, height + stride, columns + 1, stride * channels))
    x = _overlap(graph, f"{path}.columns", x, 2, (window - stride) * channels)
    x = _reshape(graph, f"{path}.rows", x, (batch, rows + 1, stride, columns * window * channels))
    x = _overlap(graph, f"{path}.rows", x, 1, window - stride, along=2)
    x = _reshape(graph, f"{path}.windows", x, (batch, rows, window, columns, window * channels))
    x = _transpose(graph, f"{path}.windows.turned", x, [0, 1, 3, 2, 4])
    tokens = _reshape(graph, path, x, (batch, rows * columns, window * window * channels))
    order = np.arange(window * window * channels).reshape(channels, window * window).T.ravel()
    return tokens, order


def _overlap(graph: GraphBuilder, path: str, x: Value, axis: int, more: int, along: int | None = None) -> Value:
    """Appends to every cell along `axis` the first `more` entries (of axis `along`, the last one) of the next cell."""
    along = len(x.shape) - 1 if along is None else along
    cells = _known(x.shape[axis]) - 1
    own = _slice(graph, f"{path}.own", x, {axis: (0, cells)})
    following = _slice(graph, f"{path}.following", x, {axis: (1, cells + 1), along: (0, more)})
    shape = list(own.shape)
    shape[along] = _known(own.shape[along]) + more
    return graph.standard("Concat", f"{path}.joined", (own, following), tuple(shape), {"axis": along})


def _slice(graph: GraphBuilder, name: str, x: Value, ranges: dict[int, tuple[int, int]]) -> Value:
    columns = {
        "starts": [start for start, _ in ranges.values()],
        "ends": [end for _, end in ranges.values()],
        "axes": list(ranges),
    }
    constants = [graph.constant(f"{name}.{key}", np.array(values, np.int64)) for key, values in columns.items()]
    shape = tuple(ranges[axis][1] - ranges[axis][0] if axis in ranges else size for axis, size in enumerate(x.shape))
    return graph.standard("Slice", name, (x, *constants), shape)


def _reshape(graph: GraphBuilder, name: str, x: Value, shape: Shape) -> Value:
    """Batch stays, everything else is known."""
    target = np.array([0, *(_known(size) for size in shape[1:])], np.int64)
    return graph.standard("Reshape", name, (x, graph.constant(f"{name}.shape", target)), shape)


def _transpose(graph: GraphBuilder, name: str, x: Value, perm: list[int]) -> Value:
    return graph.standard("Transpose", name, (x,), tuple(x.shape[axis] for axis in perm), {"perm": perm})


def _performer(graph: GraphBuilder, layer: Any, path: str, x: Value, order: Array) -> Value:
    """`order`: of the features of x, as `_soft_split` returns it."""
    x = _layer_norm(graph, layer.norm1, f"{path}.norm1", x, order)
    kqv = _linear(graph, layer.kqv, f"{path}.kqv", x, order)
    dim = to_array(layer.proj.weight).shape[1]
    tokens: Shape = (x.shape[0], x.shape[1], dim)
    parts = {
        part: _slice(graph, f"{path}.{part}", kqv, {2: (index * dim, (index + 1) * dim)})
        for index, part in enumerate("kqv")
    }
    kp = _random_features(graph, layer, f"{path}.kp", parts["k"])
    qp = _random_features(graph, layer, f"{path}.qp", parts["q"])
    turned = _transpose(graph, f"{path}.kp.turned", kp, [0, 2, 1])
    features = kp.shape[2]
    kept = graph.standard("MatMul", f"{path}.kptv", (turned, parts["v"]), (x.shape[0], features, dim))
    axes = graph.constant(f"{path}.norm.axes", np.array([2], np.int64))
    sums = graph.standard("ReduceSum", f"{path}.kp.sum", (turned, axes), (x.shape[0], features, 1))
    norm_shape: Shape = (*tokens[:2], 1)
    norm = graph.standard("MatMul", f"{path}.norm", (qp, sums), norm_shape)
    eps = _scalar(graph, f"{path}.epsilon", 1e-8)
    norm = graph.standard("Add", f"{path}.norm.safe", (norm, eps), norm_shape)
    y = graph.standard("MatMul", f"{path}.mix", (qp, kept), tokens)
    y = graph.standard("Div", f"{path}.attention", (y, norm), tokens)
    y = _linear(graph, layer.proj, f"{path}.proj", y)
    y = graph.standard("Add", f"{path}.values", (parts["v"], y), tokens)
    hidden = _linear(graph, layer.mlp[0], f"{path}.mlp.0", _layer_norm(graph, layer.norm2, f"{path}.norm2", y))
    hidden = _linear(graph, layer.mlp[2], f"{path}.mlp.2", _gelu(graph, f"{path}.mlp.1", hidden))
    return graph.standard("Add", path, (y, hidden), tokens)


def _random_features(graph: GraphBuilder, layer: Any, path: str, x: Value) -> Value:
    """exp(x·wᵀ − |x|²/2) / √m."""
    w = to_array(layer.w)
    shape = (*x.shape[:2], w.shape[0])
    thin = (*x.shape[:2], 1)
    product = graph.standard("MatMul", f"{path}.product", (x, graph.constant(f"{path}.w", w.T)), shape)
    axes = graph.constant(f"{path}.axes", np.array([2], np.int64))
    squares = graph.standard("Mul", f"{path}.squares", (x, x), x.shape)
    norm = graph.standard("ReduceSum", f"{path}.norm", (squares, axes), thin)
    half = graph.standard("Mul", f"{path}.half_norm", (norm, _scalar(graph, f"{path}.half", 0.5)), thin)
    exponent = graph.standard("Sub", f"{path}.exponent", (product, half), shape)
    grown = graph.standard("Exp", f"{path}.exp", (exponent,), shape)
    return graph.standard("Mul", path, (grown, _scalar(graph, f"{path}.scale", w.shape[0] ** -0.5)), shape)


# ---- blocks ----------------------------------------------------------------------------------------------------------


@emits("laudnet.vit.Block")
def transformer_block(graph: GraphBuilder, block: Any, path: str, x: Value) -> Value:
    """One block: its policies and its two sublayers."""
    u = _layer_norm(graph, block.norm1, f"{path}.norm1", x)
    tokens, heads, sublayers = _masks(graph, block, path, x, u)
    weights = [value for part in ("query", "key", "value") for value in _projection(graph, block.attn, path, part)]
    weights += _parameters(graph, block.attn.proj, f"{path}.attn.proj")
    dropped = DroppedHead.VALUES if block.attn.identity_heads else DroppedHead.NOTHING
    x = graph.semantic(
        "DynamicAttention",
        names.attention_node(path),
        (x, u, tokens, heads, sublayers, *weights),
        {"dropped_heads": int(dropped)},
    )
    v = _layer_norm(graph, block.norm2, f"{path}.norm2", x)
    in_mlp = tokens if block.tokens_in_mlp else _all(graph, f"{path}.all_tokens.mlp", _known(x.shape[1]) - 1)
    weights = _parameters(graph, block.mlp.fc1, f"{path}.mlp.fc1")
    weights += _parameters(graph, block.mlp.fc2, f"{path}.mlp.fc2")
    return graph.semantic(
        "DynamicMlp",
        names.mlp_node(path),
        (x, v, in_mlp, heads, sublayers, *weights),
        {"head_width": int(_MLP_WIDTH[block.mlp.width])},
    )


def _masks(graph: GraphBuilder, block: Any, path: str, x: Value, u: Value) -> tuple[Value, Value, Value]:
    """Masks of tokens, heads and sublayers; ones where the block does not choose."""
    select = block.attn.token_select
    if select is None:
        tokens = _all(graph, f"{path}.all_tokens", _known(x.shape[1]) - 1)
    else:
        tokens = _policy(graph, "TokenMasker", select, path, "token", u, f"{path}.attn.token_select")
    policy: Value | None = None
    if block.head_select is not None or block.layer_select is not None:
        policy = first_token(graph, f"{path}.policy_token", x)
        if block.norm_policy is not None:
            policy = _layer_norm(graph, block.norm_policy, f"{path}.norm_policy", policy)
    return (
        tokens,
        _choice(graph, block.head_select, path, "head", policy, block.attn.heads),
        _choice(graph, block.layer_select, path, "layer", policy, 2),
    )


def _choice(graph: GraphBuilder, select: Any, path: str, kind: str, policy: Value | None, count: int) -> Value:
    if select is None or policy is None:
        return _all(graph, f"{path}.all_{kind}s", count)
    return _policy(graph, "PolicyMasker", select, path, kind, policy, f"{path}.{kind}_select")


def _policy(graph: GraphBuilder, op: str, select: Any, path: str, kind: str, x: Value, module: str) -> Value:
    weight = graph.constant(f"{module}.mlp_head.weight", to_array(select.mlp_head.weight))
    # Kept where the logit exceeds the threshold: kept where what is left of it is positive.
    shifted = to_wide_array(select.mlp_head.bias) - select.threshold
    bias = graph.constant(f"{module}.mlp_head.bias", shifted.astype(np.float32))
    return graph.semantic(op, names.masker_node(path, kind), (x, weight, bias), output=names.mask_value(path, kind))


def _all(graph: GraphBuilder, name: str, count: int) -> Value:
    return graph.constant(name, np.ones((1, count), np.float32))


def _projection(graph: GraphBuilder, attention: Any, path: str, part: str) -> list[Value]:
    """Weight and bias of query, key or value; the query's include the scale of the scores."""
    layer = getattr(attention, part)
    scale = attention.scale if part == "query" else 1.0
    weight = to_wide_array(layer.weight) * scale
    bias = np.zeros(weight.shape[0]) if layer.bias is None else to_wide_array(layer.bias) * scale
    module = f"{path}.attn.{part}"
    return [
        graph.constant(f"{module}.weight", weight.astype(np.float32)),
        graph.constant(f"{module}.bias", bias.astype(np.float32)),
    ]


def _parameters(graph: GraphBuilder, layer: Any, path: str) -> list[Value]:
    return [
        graph.constant(f"{path}.weight", to_array(layer.weight)),
        graph.constant(f"{path}.bias", to_array(layer.bias)),
    ]

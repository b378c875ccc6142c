"""DynamicAttention, DynamicMlp: the two sublayers of a transformer block with their masks given.

Masks: T (B, L-1) of the tokens but the first, which always stays; H (B, h) of the heads; S (B, 2) of attention and
MLP. A policy that a block lacks is a row of ones with batch 1. X is the residual stream, U and V its normalised forms:

    Y = X + S[0] · T · (proj(attention among kept tokens of the kept heads of U))
    Z = Y + S[1] · T · (fc2(gelu(fc1(V))))

Kept tokens see kept tokens only. What a dropped head means differs between AdaViT's variants: see the attributes.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

import numpy as np

from laudc.ops.spec import (
    Array,
    Attributes,
    AttributeSpec,
    Dim,
    OpSpec,
    Shape,
    expect_rank,
    expect_shape,
    require,
)


class DroppedHead(enum.IntEnum):
    """Attribute `dropped_heads` of DynamicAttention: what a dropped head gives."""

    NOTHING = 0
    VALUES = 1  # its values pass through, token by token


class MlpWidth(enum.IntEnum):
    """Attribute `head_width` of DynamicMlp: what dropped heads leave out of fc1."""

    FULL = 0
    INPUTS = 1  # their features
    OUTPUTS = 2  # their share of the hidden units, bias included


def attention(
    x: Array,
    u: Array,
    tokens: Array,
    heads: Array,
    sublayers: Array,
    wq: Array,
    bq: Array,
    wk: Array,
    bk: Array,
    wv: Array,
    bv: Array,
    wp: Array,
    bp: Array,
    *,
    dropped_heads: int,
) -> Array:
    """NumPy reference of DynamicAttention.

    Args:
        x, u: (B, L, D).
        tokens: (B, L-1); heads: (B, h); sublayers: (B, 2), of 0 and 1, batch 1 for all samples alike.
        wq, wk, wv, wp: (D, D), rows are outputs; wq includes the scale of the scores. bq, bk, bv, bp: (D).
        dropped_heads: see `DroppedHead`.

    Returns:
        (B, L, D).
    """
    batch, length, dim = x.shape
    count = heads.shape[1]
    q, k, v = (_by_head(u @ w.T + b, count) for w, b in ((wq, bq), (wk, bk), (wv, bv)))
    kept = np.pad(tokens, ((0, 0), (1, 0)), constant_values=1)
    visible = (kept[:, :, None] * kept[:, None, :] > 0) | np.eye(length, dtype=bool)
    raw = np.where(visible[:, None], q @ k.transpose(0, 1, 3, 2), -np.inf)
    weights = np.exp(raw - raw.max(axis=-1, keepdims=True))
    out = weights / weights.sum(axis=-1, keepdims=True) @ v
    on = heads[:, :, None, None]
    out = on * out + (1 - on) * v * dropped_heads
    y = out.transpose(0, 2, 1, 3).reshape(batch, length, dim) @ wp.T + bp
    return x + sublayers[:, :1, None] * kept[:, :, None] * y


def mlp(
    x: Array,
    v: Array,
    tokens: Array,
    heads: Array,
    sublayers: Array,
    w1: Array,
    b1: Array,
    w2: Array,
    b2: Array,
    *,
    head_width: int,
) -> Array:
    """NumPy reference of DynamicMlp.

    Args:
        x, v, tokens, heads, sublayers: as of `attention`.
        w1: (F, D); b1: (F); w2: (D, F); b2: (D).
        head_width: see `MlpWidth`.

    Returns:
        (B, L, D).
    """
    kept = np.pad(tokens, ((0, 0), (1, 0)), constant_values=1)
    hidden = (v * _share(heads, v.shape[2], head_width == MlpWidth.INPUTS)) @ w1.T + b1
    hidden = hidden * _share(heads, hidden.shape[2], head_width == MlpWidth.OUTPUTS)
    return x + sublayers[:, 1:, None] * kept[:, :, None] * (gelu(hidden) @ w2.T + b2)


def gelu(x: Array) -> Array:
    """x · Φ(x), exact (erf), element by element."""
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return (0.5 * x * (1.0 + erf(x.astype(np.float64) / math.sqrt(2.0)))).astype(x.dtype)


def _by_head(x: Array, heads: int) -> Array:
    batch, length, dim = x.shape
    return x.reshape(batch, length, heads, dim // heads).transpose(0, 2, 1, 3)


def _share(heads: Array, features: int, applies: bool) -> Array:
    """(B, 1, features): the decision of each head for its contiguous share; ones where it does not apply."""
    spread = np.repeat(heads, features // heads.shape[1], axis=1)[:, None]
    return spread if applies else np.ones_like(spread)


def _expect_masks(stream: Shape, tokens: Shape, heads: Shape, sublayers: Shape) -> Dim:
    """Check the masks against the residual stream and return the number of heads."""
    batch, length, dim = stream
    expect_rank("H", heads, 2)
    rest = None if length is None else length - 1
    for name, mask, wanted in (("T", tokens, rest), ("H", heads, heads[1]), ("S", sublayers, 2)):
        expect_rank(name, mask, 2)
        if mask[0] != 1:
            expect_shape(name, mask, (batch, mask[1]))
        expect_shape(name, mask, (mask[0], wanted))
    count = heads[1]
    require(
        count is None or dim is None or (count > 0 and dim % count == 0),
        f"H has {count} heads, which do not divide the {dim} features of a token",
    )
    return count


def _expect_choice(name: str, attributes: Attributes, known: Sequence[int]) -> None:
    value = attributes.get(name)
    require(value in known, f"attribute {name} is {value}, known are {', '.join(str(int(k)) for k in known)}")


def infer_attention(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of DynamicAttention."""
    x, u, tokens, heads, sublayers, *weights = shapes
    _expect_choice("dropped_heads", attributes, list(DroppedHead))
    expect_rank("X", x, 3)
    expect_shape("U", u, x)
    _expect_masks(x, tokens, heads, sublayers)
    dim = x[2]
    for name, matrix, bias in zip("qkvp", weights[::2], weights[1::2], strict=True):
        expect_shape(f"W{name}", matrix, (dim, dim))
        expect_shape(f"B{name}", bias, (dim,))
    return x


def infer_mlp(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of DynamicMlp."""
    x, v, tokens, heads, sublayers, w1, b1, w2, b2 = shapes
    _expect_choice("head_width", attributes, list(MlpWidth))
    expect_rank("X", x, 3)
    expect_shape("V", v, x)
    count = _expect_masks(x, tokens, heads, sublayers)
    expect_rank("W1", w1, 2)
    hidden, dim = w1[0], x[2]
    expect_shape("W1", w1, (hidden, dim))
    expect_shape("B1", b1, (hidden,))
    expect_shape("W2", w2, (dim, hidden))
    expect_shape("B2", b2, (dim,))
    require(
        count is None or hidden is None or hidden % count == 0,
        f"W1 makes {hidden} hidden units, which the {count} heads cannot share",
    )
    return x


_KEPT = """
        axis1 = Constant <value_ints = [1]> ()
        axis2 = Constant <value_ints = [2]> ()
        zero = Constant <value_float = 0.0> ()
        one = Constant <value_float = 1.0> ()
        first = Constant <value_ints = [0, 1, 0, 0]> ()
        kept = Pad (T, first, one)
        kept_rows = Unsqueeze (kept, axis2)
        attention_on, mlp_on = Split <axis = 1, num_outputs = 2> (S)
        head_count = Shape <start = 1, end = 2> (H)
        copied = Constant <value_ints = [0, 0]> ()
        inferred = Constant <value_ints = [-1]> ()
        by_head = Concat <axis = 0> (copied, head_count, inferred)
        whole = Constant <value_ints = [0, 0, -1]> ()"""


def _projection(letter: str) -> str:
    """`LETTER4` (B, h, L, D/h) = the linear layer LETTER of U, head by head."""
    p = letter
    return f"""
        {p}_turned = Transpose <perm = [1, 0]> (W{p})
        {p}_product = MatMul (U, {p}_turned)
        {p}_rows = Add ({p}_product, B{p})
        {p}_heads = Reshape ({p}_rows, by_head)
        {p}4 = Transpose <perm = [0, 2, 1, 3]> ({p}_heads)"""


def _add_branch(branch: str, on: str) -> str:
    """`Y` = X plus `branch` for the kept tokens, if the sublayer is on."""
    return f"""
        masked = Mul ({branch}, kept_rows)
        on = Unsqueeze ({on}, axis2)
        added = Mul (masked, on)
        Y = Add (X, added)"""


_ATTENTION = f"""
        {_KEPT}
        {_projection("q")}
        {_projection("k")}
        {_projection("v")}
        kept_columns = Unsqueeze (kept, axis1)
        both = Mul (kept_rows, kept_columns)
        length = Shape <start = 1, end = 2> (X)
        square = Concat <axis = 0> (length, length)
        blank = ConstantOfShape (square)
        eye = EyeLike (blank)
        reach = Max (both, eye)
        seen = Greater (reach, zero)
        visible = Unsqueeze (seen, axis1)
        keys = Transpose <perm = [0, 1, 3, 2]> (k4)
        raw = MatMul (q4, keys)
        never = Constant <value_float = -inf> ()
        open = Where (visible, raw, never)
        weights = Softmax <axis = -1> (open)
        mixed = MatMul (weights, v4)
        map_axes = Constant <value_ints = [2, 3]> ()
        on4 = Unsqueeze (H, map_axes)
        off4 = Sub (one, on4)
        passes = Constant <value_int: int = @dropped_heads> ()
        share = CastLike (passes, X)
        passed = Mul (off4, share)
        chosen = Mul (mixed, on4)
        straight = Mul (v4, passed)
        heads4 = Add (chosen, straight)
        tokens4 = Transpose <perm = [0, 2, 1, 3]> (heads4)
        joined = Reshape (tokens4, whole)
        p_turned = Transpose <perm = [1, 0]> (Wp)
        p_product = MatMul (joined, p_turned)
        projected = Add (p_product, Bp)
        {_add_branch("projected", "attention_on")}"""


def _masked_share(values: str, code: MlpWidth, output: str) -> str:
    """`output` = `values` with each head's contiguous share times its decision, if `head_width` is `code`."""
    p = f"{output}_"
    return f"""
        {p}code = Constant <value_int = {int(code)}> ()
        {p}same = Equal (width, {p}code)
        {p}applies = CastLike ({p}same, X)
        {p}off = Sub (one, H)
        {p}lost = Mul ({p}off, {p}applies)
        {p}factor = Sub (one, {p}lost)
        {p}axes = Constant <value_ints = [1, 3]> ()
        {p}factor4 = Unsqueeze ({p}factor, {p}axes)
        {p}split = Reshape ({values}, by_head)
        {p}scaled = Mul ({p}split, {p}factor4)
        {output} = Reshape ({p}scaled, whole)"""


_MLP = f"""
        {_KEPT}
        width = Constant <value_int: int = @head_width> ()
        {_masked_share("V", MlpWidth.INPUTS, "inputs")}
        turned1 = Transpose <perm = [1, 0]> (W1)
        product1 = MatMul (inputs, turned1)
        sum1 = Add (product1, B1)
        {_masked_share("sum1", MlpWidth.OUTPUTS, "hidden")}
        root = Constant <value_float = 1.4142135381698608> ()
        scaled = Div (hidden, root)
        erf = Erf (scaled)
        shifted = Add (erf, one)
        doubled = Mul (hidden, shifted)
        half = Constant <value_float = 0.5> ()
        active = Mul (doubled, half)
        turned2 = Transpose <perm = [1, 0]> (W2)
        product2 = MatMul (active, turned2)
        branch = Add (product2, B2)
        {_add_branch("branch", "mlp_on")}"""


DYNAMIC_ATTENTION = OpSpec(
    name="DynamicAttention",
    doc="Self-attention sublayer, residual included, among kept tokens and of kept heads.",
    inputs=("X", "U", "T", "H", "S", "Wq", "Bq", "Wk", "Bk", "Wv", "Bv", "Wp", "Bp"),
    output="Y",
    attributes=(AttributeSpec("dropped_heads", False, "a dropped head gives nothing (0) or its values (1)"),),
    body_text=_ATTENTION,
    reference=attention,
    infer=infer_attention,
)

DYNAMIC_MLP = OpSpec(
    name="DynamicMlp",
    doc="MLP sublayer, residual included, for kept tokens; dropped heads may leave out inputs or outputs of fc1.",
    inputs=("X", "V", "T", "H", "S", "W1", "B1", "W2", "B2"),
    output="Y",
    attributes=(
        AttributeSpec("head_width", False, "dropped heads leave out of fc1: nothing (0), inputs (1), outputs (2)"),
    ),
    body_text=_MLP,
    reference=mlp,
    infer=infer_mlp,
)

"""TokenMasker, PolicyMasker: which tokens, heads and sublayers of a transformer block are computed.

AdaViT's policies are one linear layer with one logit per decision: kept where it exceeds a threshold, strictly (NaN
drops). The threshold is folded into the bias, so that every decision here is "kept where positive".
"""

from __future__ import annotations

from collections.abc import Sequence

from laudc.ops.spec import Array, Attributes, OpSpec, Shape, expect_rank, expect_shape, require


def scores(x: Array, weight: Array, bias: Array) -> Array:
    """x (..., D), weight (n, D), bias (n) -> (..., n): kept where positive."""
    return x @ weight.T + bias


def reference_token(u: Array, weight: Array, bias: Array) -> Array:
    """T (B, L-1) of 0 and 1 from u (B, L, D), weight (1, D), bias (1): all tokens but the first are judged."""
    return (scores(u[:, 1:], weight, bias)[..., 0] > 0).astype(u.dtype)


def reference_policy(p: Array, weight: Array, bias: Array) -> Array:
    """M (B, n) of 0 and 1 from p (B, D), weight (n, D), bias (n)."""
    return (scores(p, weight, bias) > 0).astype(p.dtype)


def infer_token(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of TokenMasker."""
    u, weight, bias = shapes
    expect_rank("U", u, 3)
    expect_shape("W", weight, (1, u[2]))
    expect_shape("B", bias, (1,))
    length = u[1]
    require(length is None or length >= 2, f"U has {length} tokens, wanted is the class token and at least one more")
    return (u[0], None if length is None else length - 1)


def infer_policy(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of PolicyMasker."""
    p, weight, bias = shapes
    expect_rank("P", p, 2)
    expect_rank("W", weight, 2)
    expect_shape("W", weight, (weight[0], p[1]))
    expect_shape("B", bias, (weight[0],))
    return (p[0], weight[0])


TOKEN_MASKER = OpSpec(
    name="TokenMasker",
    doc="Tokens a transformer block computes: one linear layer, 1 where positive; the first token is not judged.",
    inputs=("U", "W", "B"),
    output="T",
    attributes=(),
    body_text="""
        one = Constant <value_ints = [1]> ()
        end = Constant <value_ints = [9223372036854775807]> ()
        rest = Slice (U, one, end, one)
        turned = Transpose <perm = [1, 0]> (W)
        product = MatMul (rest, turned)
        biased = Add (product, B)
        last = Constant <value_ints = [2]> ()
        margin = Squeeze (biased, last)
        zero = Constant <value_float = 0.0> ()
        kept = Greater (margin, zero)
        T = CastLike (kept, U)""",
    reference=reference_token,
    infer=infer_token,
)

POLICY_MASKER = OpSpec(
    name="PolicyMasker",
    doc="Heads or sublayers a transformer block computes: one linear layer on the class token, 1 where positive.",
    inputs=("P", "W", "B"),
    output="M",
    attributes=(),
    body_text="""
        margin = Gemm <transB = 1> (P, W, B)
        zero = Constant <value_float = 0.0> ()
        kept = Greater (margin, zero)
        M = CastLike (kept, P)""",
    reference=reference_policy,
    infer=infer_policy,
)

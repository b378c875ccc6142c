"""ChannelMaskerLinear, ChannelMaskerMlp, ChannelMaskerConv: which channel groups of a block are computed.

LAUDNet's channel maskers: the block input is averaged over its map (the conv form first reduces its channels
with a 1×1 convolution and ReLU), then one or two linear layers give a keep and a drop score per group.
"""

from __future__ import annotations

from collections.abc import Sequence

from laudc.ops import fragments, numeric
from laudc.ops.spec import Array, Attributes, Dim, OpSpec, Shape, expect_rank, expect_shape, require


def _mean(x: Array) -> Array:
    return x.mean(axis=(2, 3), dtype=x.dtype)


def scores_linear(x: Array, weight: Array, bias: Array) -> Array:
    """Keep scores, then drop scores: (B, 2g). Arguments as `reference_linear`."""
    return _mean(x) @ weight.T + bias


def scores_mlp(x: Array, weight1: Array, bias1: Array, weight2: Array, bias2: Array) -> Array:
    """Keep scores, then drop scores: (B, 2g). Arguments as `reference_mlp`."""
    return numeric.relu(_mean(x) @ weight1.T + bias1) @ weight2.T + bias2


def scores_conv(x: Array, conv_weight: Array, conv_bias: Array, weight: Array, bias: Array) -> Array:
    """Keep scores, then drop scores: (B, 2g). Arguments as `reference_conv`."""
    hidden = numeric.relu(numeric.conv2d(x, conv_weight, conv_bias))
    return scores_linear(hidden, weight, bias)


def reference_linear(x: Array, weight: Array, bias: Array) -> Array:
    """C (B, g) of 0 and 1 from x (B, Cin, H, W), weight (2g, Cin), bias (2g)."""
    return numeric.decide(scores_linear(x, weight, bias))


def reference_mlp(x: Array, weight1: Array, bias1: Array, weight2: Array, bias2: Array) -> Array:
    """C (B, g) of 0 and 1 from x (B, Cin, H, W), weight1 (h, Cin), bias1 (h), weight2 (2g, h), bias2 (2g)."""
    return numeric.decide(scores_mlp(x, weight1, bias1, weight2, bias2))


def reference_conv(x: Array, conv_weight: Array, conv_bias: Array, weight: Array, bias: Array) -> Array:
    """C (B, g) of 0 and 1 from x (B, Cin, H, W).

    conv_weight (h, Cin, 1, 1), conv_bias (h), weight (2g, h), bias (2g).
    """
    return numeric.decide(scores_conv(x, conv_weight, conv_bias, weight, bias))


def _check_scores(weight: Shape, bias: Shape, inputs: Dim, name: str) -> Dim:
    """Check the last linear layer and return the number of groups."""
    expect_rank(name, weight, 2)
    expect_shape(name, weight, (weight[0], inputs))
    expect_shape(f"the bias of {name}", bias, (weight[0],))
    outputs = weight[0]
    require(
        outputs is None or (outputs > 0 and outputs % 2 == 0),
        f"{name} has {outputs} outputs, wanted is an even number",
    )
    return None if outputs is None else outputs // 2


def infer_linear(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of ChannelMaskerLinear."""
    x, weight, bias = shapes
    expect_rank("X", x, 4)
    return (x[0], _check_scores(weight, bias, x[1], "W"))


def infer_mlp(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of ChannelMaskerMlp."""
    x, weight1, bias1, weight2, bias2 = shapes
    expect_rank("X", x, 4)
    expect_rank("W1", weight1, 2)
    expect_shape("W1", weight1, (weight1[0], x[1]))
    expect_shape("B1", bias1, (weight1[0],))
    return (x[0], _check_scores(weight2, bias2, weight1[0], "W2"))


def infer_conv(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of ChannelMaskerConv."""
    x, conv_weight, conv_bias, weight, bias = shapes
    expect_rank("X", x, 4)
    expect_rank("Wc", conv_weight, 4)
    expect_shape("Wc", conv_weight, (conv_weight[0], x[1], 1, 1))
    expect_shape("Bc", conv_bias, (conv_weight[0],))
    return (x[0], _check_scores(weight, bias, conv_weight[0], "W"))


def _mean_text(source: str, output: str) -> str:
    return f"{output}_map = GlobalAveragePool ({source}) {output} = Flatten <axis = 1> ({output}_map)"


CHANNEL_MASKER_LINEAR = OpSpec(
    name="ChannelMaskerLinear",
    doc="Channel mask of a block: global mean, one linear layer, 1 where keep >= drop.",
    inputs=("X", "W", "B"),
    output="C",
    attributes=(),
    body_text=f"""
        {_mean_text("X", "mean")}
        scores = Gemm <transB = 1> (mean, W, B)
        {fragments.decision("scores", "C", "X")}""",
    reference=reference_linear,
    infer=infer_linear,
)

CHANNEL_MASKER_MLP = OpSpec(
    name="ChannelMaskerMlp",
    doc="Channel mask of a block: global mean, two linear layers with ReLU between, 1 where keep >= drop.",
    inputs=("X", "W1", "B1", "W2", "B2"),
    output="C",
    attributes=(),
    body_text=f"""
        {_mean_text("X", "mean")}
        sum1 = Gemm <transB = 1> (mean, W1, B1)
        hidden = Relu (sum1)
        scores = Gemm <transB = 1> (hidden, W2, B2)
        {fragments.decision("scores", "C", "X")}""",
    reference=reference_mlp,
    infer=infer_mlp,
)

CHANNEL_MASKER_CONV = OpSpec(
    name="ChannelMaskerConv",
    doc="Channel mask of a block: 1x1 convolution, ReLU, global mean, a linear layer, 1 where keep >= drop.",
    inputs=("X", "Wc", "Bc", "W", "B"),
    output="C",
    attributes=(),
    body_text=f"""
        sum1 = Conv (X, Wc, Bc)
        hidden = Relu (sum1)
        {_mean_text("hidden", "mean")}
        scores = Gemm <transB = 1> (mean, W, B)
        {fragments.decision("scores", "C", "X")}""",
    reference=reference_conv,
    infer=infer_conv,
)

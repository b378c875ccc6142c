"""SpatialMasker: which cells of a block's output map are computed.

LAUDNet's spatial masker: adaptive average pooling of the block input to the mask size, a 1×1 convolution to
two scores per mask group and cell, keep where the first is not below the second. Layer skipping is the same
op with a mask of one cell. The pooling is given as two matrices, so that windows which overlap or do not
divide the map are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

from laudc.ops import fragments, numeric
from laudc.ops.spec import Array, Attributes, OpSpec, Shape, expect_rank, expect_shape, require


def scores(x: Array, pool_rows: Array, pool_cols: Array, weight: Array, bias: Array) -> Array:
    """Keep scores, then drop scores: (B, 2·gs, mh, mw). Arguments as the inputs of the op."""
    pooled = pool_rows @ (x @ pool_cols)
    return numeric.conv2d(pooled, weight, bias)


def reference(x: Array, pool_rows: Array, pool_cols: Array, weight: Array, bias: Array) -> Array:
    """M (B, gs, mh, mw) of 0 and 1.

    Args:
        x: block input (B, Cin, H, W).
        pool_rows: (mh, H), rows sum to 1.
        pool_cols: (W, mw), columns sum to 1.
        weight: (2·gs, Cin, 1, 1), keep scores first.
        bias: (2·gs).
    """
    return numeric.decide(scores(x, pool_rows, pool_cols, weight, bias))


def infer(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of the op."""
    x, rows, cols, weight, bias = shapes
    expect_rank("X", x, 4)
    expect_rank("W", weight, 4)
    expect_rank("PoolRows", rows, 2)
    expect_rank("PoolCols", cols, 2)
    expect_shape("PoolRows", rows, (rows[0], x[2]))
    expect_shape("PoolCols", cols, (x[3], cols[1]))
    expect_shape("W", weight, (weight[0], x[1], 1, 1))
    expect_shape("B", bias, (weight[0],))
    outputs = weight[0]
    require(
        outputs is None or (outputs > 0 and outputs % 2 == 0),
        f"W has {outputs} outputs, wanted is an even number",
    )
    return (x[0], None if outputs is None else outputs // 2, rows[0], cols[1])


SPATIAL_MASKER = OpSpec(
    name="SpatialMasker",
    doc="Spatial (or, with one cell, layer) mask of a block from its input: 1 where keep >= drop.",
    inputs=("X", "PoolRows", "PoolCols", "W", "B"),
    output="M",
    attributes=(),
    body_text=f"""
        narrow = MatMul (X, PoolCols)
        pooled = MatMul (PoolRows, narrow)
        scores = Conv (pooled, W, B)
        {fragments.decision("scores", "M", "X")}""",
    reference=reference,
    infer=infer,
)

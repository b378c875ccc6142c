"""SpatialRegNetBlock, ChannelRegNetBlock, DynamicRegNetBlock: LAUD-RegNetY's residual block with its masks given.

Batch normalisation is folded into the convolutions. The channel mask comes after the ReLU, so a dropped channel is zero
and stays zero through squeeze-excitation; the spatial mask multiplies the last convolution's branch only.

    a = C · relu(convA(X) + BA)
    b = C · relu(convB(a) + BB)                                   3×3, grouped
    s = b · sigmoid(WE · relu(WS · mean(b) + BS) + BE)            squeeze-excitation
    Y = relu(M · (convC(s) + BC) + R)

The mean is over all positions, whatever M keeps (attribute se_pool = 0): that is the network as it was trained, and
means that convA and convB must be computed everywhere. With se_pool = 1 it is over the positions that some mask group
keeps (of none: zero), which is another network, cheaper and not exact.
"""

from __future__ import annotations

from collections.abc import Sequence

from laudc.ops import fragments, numeric
from laudc.ops.attributes import BOTTLENECK_ATTRIBUTES, Geometry
from laudc.ops.mask_shapes import check_channel_mask, check_spatial_mask, divides
from laudc.ops.spec import Array, Attributes, AttributeSpec, Dim, OpSpec, Shape, expect_rank, expect_shape, require

_WEIGHTS = ("WA", "BA", "WB", "BB", "WS", "BS", "WE", "BE", "WC", "BC")
WEIGHT_COUNT = len(_WEIGHTS)

SE_POOL = "se_pool"
_SE_POOL_SPEC = AttributeSpec(
    SE_POOL, False, "0: squeeze-excitation averages over all positions; 1: over those that the spatial mask keeps"
)


def regnet_block(
    x: Array,
    residual: Array,
    channel_mask: Array | None,
    spatial_mask: Array | None,
    *weights: Array,
    geometry: Geometry,
    se_pool: int = 0,
) -> Array:
    """The block with any combination of masks.

    Args:
        x: block input (B, Cin, H, W).
        residual: (B, C, Ho, Wo): x itself or the projection of it.
        channel_mask: (B, g) of 0 and 1, or None.
        spatial_mask: (B, gs, mh, mw) of 0 and 1, or None.
        weights: WA (C, Cin, 1, 1), BA (C), WB (C, C/group, 3, 3), BB (C), WS (q, C, 1, 1), BS (q),
            WE (C, q, 1, 1), BE (C), WC (C, C, 1, 1), BC (C).
        geometry: stride, groups and dilation of convB.
        se_pool: as the attribute.

    Returns:
        (B, C, Ho, Wo).
    """
    wa, ba, wb, bb, ws, bs, we, be, wc, bc = weights
    a = _masked(numeric.relu(numeric.conv2d(x, wa, ba)), channel_mask)
    conv_b = numeric.conv2d(
        a,
        wb,
        bb,
        stride=geometry.stride,
        padding=geometry.dilation,
        dilation=geometry.dilation,
        group=geometry.group,
    )
    b = _masked(numeric.relu(conv_b), channel_mask)
    on_map = None if spatial_mask is None else numeric.upsample_mask(spatial_mask, *b.shape[2:])
    mean = _mean(b, on_map if se_pool else None)
    gate = numeric.sigmoid(numeric.conv2d(numeric.relu(numeric.conv2d(mean, ws, bs)), we, be))
    branch = numeric.conv2d(b * gate, wc, bc)
    if on_map is not None:
        branch = branch * numeric.expand_groups(on_map, branch.shape[1])
    return numeric.relu(branch + residual)


def _masked(values: Array, channel_mask: Array | None) -> Array:
    if channel_mask is None:
        return values
    return values * numeric.expand_groups(channel_mask, values.shape[1])[:, :, None, None]


def _mean(values: Array, on_map: Array | None) -> Array:
    if on_map is None:
        return values.mean(axis=(2, 3), keepdims=True, dtype=values.dtype)
    kept = on_map.max(axis=1, keepdims=True)
    count = kept.sum(axis=(2, 3), keepdims=True)
    return (values * kept).sum(axis=(2, 3), keepdims=True) / count.clip(min=1)


def reference_spatial(x: Array, r: Array, m: Array, *weights: Array, **attributes: int | Sequence[int]) -> Array:
    """NumPy reference of SpatialRegNetBlock; arguments as its inputs and attributes."""
    return _reference(x, r, None, m, weights, attributes)


def reference_channel(x: Array, r: Array, c: Array, *weights: Array, **attributes: int | Sequence[int]) -> Array:
    """NumPy reference of ChannelRegNetBlock; arguments as its inputs and attributes."""
    return _reference(x, r, c, None, weights, attributes)


def reference_dynamic(
    x: Array, r: Array, c: Array, m: Array, *weights: Array, **attributes: int | Sequence[int]
) -> Array:
    """NumPy reference of DynamicRegNetBlock; arguments as its inputs and attributes."""
    return _reference(x, r, c, m, weights, attributes)


def _reference(
    x: Array, r: Array, c: Array | None, m: Array | None, weights: Sequence[Array], attributes: Attributes
) -> Array:
    geometry = Geometry.from_attributes(attributes)
    return regnet_block(x, r, c, m, *weights, geometry=geometry, se_pool=se_pool_of(attributes))


def se_pool_of(attributes: Attributes) -> int:
    """The attribute se_pool; 0 for the op that has none. Raises ShapeError for another value than 0 and 1."""
    value = attributes.get(SE_POOL, 0)
    require(value in (0, 1), f"attribute {SE_POOL} is {value}, wanted is 0 or 1")
    return int(value)  # type: ignore[arg-type]


def infer_regnet_block(x: Shape, residual: Shape, weights: Sequence[Shape], attributes: Attributes) -> Shape:
    """Output shape of a block after checking everything but its masks."""
    geometry = Geometry.from_attributes(attributes)
    se_pool_of(attributes)
    wa, ba, wb, bb, ws, bs, we, be, wc, bc = weights
    for name, shape in zip(("X", "WA", "WB", "WS", "WE", "WC"), (x, wa, wb, ws, we, wc), strict=True):
        expect_rank(name, shape, 4)
    width, hidden = wa[0], ws[0]
    require(divides(geometry.group, width), f"group {geometry.group} does not divide the {width} channels of convB")
    per_group: Dim = None if width is None else width // geometry.group
    for name, shape, wanted in (
        ("WA", wa, (width, x[1], 1, 1)),
        ("WB", wb, (width, per_group, 3, 3)),
        ("WS", ws, (hidden, width, 1, 1)),
        ("WE", we, (width, hidden, 1, 1)),
        ("WC", wc, (width, width, 1, 1)),
        ("BA", ba, (width,)),
        ("BB", bb, (width,)),
        ("BS", bs, (hidden,)),
        ("BE", be, (width,)),
        ("BC", bc, (width,)),
    ):
        expect_shape(name, shape, wanted)
    height, columns = (None if size is None else geometry.out_size(size) for size in x[2:])
    out = (x[0], width, height, columns)
    expect_shape("R", residual, out)
    return out


def infer_spatial(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of SpatialRegNetBlock."""
    x, residual, mask, *weights = shapes
    out = infer_regnet_block(x, residual, weights, attributes)
    check_spatial_mask(mask, out)
    return out


def infer_channel(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of ChannelRegNetBlock."""
    x, residual, mask, *weights = shapes
    out = infer_regnet_block(x, residual, weights, attributes)
    check_channel_mask(mask, x[0], out[1])
    return out


def infer_dynamic(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of DynamicRegNetBlock."""
    x, residual, channel_mask, spatial_mask, *weights = shapes
    out = infer_regnet_block(x, residual, weights, attributes)
    check_channel_mask(channel_mask, x[0], out[1])
    check_spatial_mask(spatial_mask, out)
    return out


_CONV_B = "Conv <strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations, group: int = @group>"

_DENSE_CONVS = f"""
        conva = Conv (X, WA, BA)
        a = Relu (conva)
        convb = {_CONV_B} (a, WB, BB)
        b = Relu (convb)"""

_CHANNEL_CONVS = f"""
        mask_axes = Constant <value_ints = [2, 3, 4]> ()
        mask = Unsqueeze (C, mask_axes)
        conva = Conv (X, WA, BA)
        relua = Relu (conva)
        {fragments.scale_groups("relua", "mask", "a")}
        convb = {_CONV_B} (a, WB, BB)
        relub = Relu (convb)
        {fragments.scale_groups("relub", "mask", "b")}"""

_MEAN = """
        mean = GlobalAveragePool (b)"""

_MASK_MAP = f"""
        {fragments.nearest_rows("M", "b", 2, "mask_rows")}
        {fragments.nearest_rows("mask_rows", "b", 3, "mask_map")}"""

# weights = se_pool = 0 ? 1 : union of the mask groups; mean = sum(b · weights) / max(sum(weights), 1)
_MASKED_MEAN = """
        union_axis = Constant <value_ints = [1]> ()
        union = ReduceMax <keepdims = 1> (mask_map, union_axis)
        active_int = Constant <value_int: int = @se_pool> ()
        active = Cast <to = 9> (active_int)
        one_int = Constant <value_int = 1> ()
        one = CastLike (one_int, X)
        weights = Where (active, union, one)
        map_axes = Constant <value_ints = [2, 3]> ()
        map_like = Shape <start = 2, end = 4> (b)
        ones_shape_head = Constant <value_ints = [1, 1]> ()
        ones_shape = Concat <axis = 0> (ones_shape_head, map_like)
        weights_map = Expand (weights, ones_shape)
        kept_b = Mul (b, weights_map)
        sum_b = ReduceSum <keepdims = 1> (kept_b, map_axes)
        count = ReduceSum <keepdims = 1> (weights_map, map_axes)
        least_one = Max (count, one)
        mean = Div (sum_b, least_one)"""

_EXCITE = """
        squeezed = Conv (mean, WS, BS)
        hidden = Relu (squeezed)
        excited = Conv (hidden, WE, BE)
        gate = Sigmoid (excited)
        s = Mul (b, gate)
        convc = Conv (s, WC, BC)"""

_SPATIAL_MASK = f"""
        group_axis = Constant <value_ints = [2]> ()
        map_groups = Unsqueeze (mask_map, group_axis)
        {fragments.scale_groups("convc", "map_groups", "branch")}"""


def _residual(branch: str) -> str:
    return f"""
        total = Add ({branch}, R)
        Y = Relu (total)"""


SPATIAL_REGNET_BLOCK = OpSpec(
    name="SpatialRegNetBlock",
    doc="RegNetY block whose branch is added only where the spatial mask keeps.",
    inputs=("X", "R", "M", *_WEIGHTS),
    output="Y",
    attributes=(*BOTTLENECK_ATTRIBUTES, _SE_POOL_SPEC),
    body_text=_DENSE_CONVS + _MASK_MAP + _MASKED_MEAN + _EXCITE + _SPATIAL_MASK + _residual("branch"),
    reference=reference_spatial,
    infer=infer_spatial,
)

CHANNEL_REGNET_BLOCK = OpSpec(
    name="ChannelRegNetBlock",
    doc="RegNetY block whose first two convolutions make only their kept channel groups.",
    inputs=("X", "R", "C", *_WEIGHTS),
    output="Y",
    attributes=BOTTLENECK_ATTRIBUTES,
    body_text=_CHANNEL_CONVS + _MEAN + _EXCITE + _residual("convc"),
    reference=reference_channel,
    infer=infer_channel,
)

DYNAMIC_REGNET_BLOCK = OpSpec(
    name="DynamicRegNetBlock",
    doc="RegNetY block with a channel mask on its first two convolutions and a spatial one on its branch.",
    inputs=("X", "R", "C", "M", *_WEIGHTS),
    output="Y",
    attributes=(*BOTTLENECK_ATTRIBUTES, _SE_POOL_SPEC),
    body_text=_CHANNEL_CONVS + _MASK_MAP + _MASKED_MEAN + _EXCITE + _SPATIAL_MASK + _residual("branch"),
    reference=reference_dynamic,
    infer=infer_dynamic,
)

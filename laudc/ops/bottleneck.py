"""SpatialBottleneck, ChannelBottleneck, DynamicBottleneck: LAUD-ResNet's residual block with its masks given.

Batch normalisation is folded into the convolutions. LAUD-ResNet multiplies the channel mask in *before* the
normalisation, so a dropped channel is not zero afterwards but carries relu(bias) over the whole map; the
spatial mask multiplies the last convolution's branch, so a dropped position is relu(R).

    y1 = relu(C · conv1(X) + B1)
    y2 = relu(C · conv2(y1) + B2)
    Y  = relu(M · (conv3(y2) + B3) + R)
"""

from __future__ import annotations

from collections.abc import Sequence

from laudc.ops import fragments, numeric
from laudc.ops.attributes import BOTTLENECK_ATTRIBUTES, Geometry
from laudc.ops.mask_shapes import check_channel_mask, check_spatial_mask, divides
from laudc.ops.spec import Array, Attributes, OpSpec, Shape, expect_rank, expect_shape, require

_WEIGHTS = ("W1", "B1", "W2", "B2", "W3", "B3")


def bottleneck(
    x: Array,
    residual: Array,
    channel_mask: Array | None,
    spatial_mask: Array | None,
    *weights: Array,
    geometry: Geometry,
) -> Array:
    """The block with any combination of masks.

    Args:
        x: block input (B, Cin, H, W).
        residual: (B, Cout, Ho, Wo): x itself or the projection of it.
        channel_mask: (B, g) of 0 and 1, or None.
        spatial_mask: (B, gs, mh, mw) of 0 and 1, or None.
        weights: W1 (C, Cin, 1, 1), B1 (C), W2 (C, C/group, 3, 3), B2 (C), W3 (Cout, C, 1, 1), B3 (Cout).
        geometry: stride, groups and dilation of conv2.

    Returns:
        (B, Cout, Ho, Wo).
    """
    w1, b1, w2, b2, w3, b3 = weights
    y1 = _masked(numeric.conv2d(x, w1), channel_mask, b1)
    conv2 = numeric.conv2d(
        y1,
        w2,
        stride=geometry.stride,
        padding=geometry.dilation,
        dilation=geometry.dilation,
        group=geometry.group,
    )
    y2 = _masked(conv2, channel_mask, b2)
    branch = numeric.conv2d(y2, w3, b3)
    if spatial_mask is not None:
        on_map = numeric.upsample_mask(spatial_mask, *branch.shape[2:])
        branch = branch * numeric.expand_groups(on_map, branch.shape[1])
    return numeric.relu(branch + residual)


def _masked(values: Array, channel_mask: Array | None, bias: Array) -> Array:
    if channel_mask is not None:
        values = values * numeric.expand_groups(channel_mask, values.shape[1])[:, :, None, None]
    return numeric.relu(values + bias.reshape(-1, 1, 1))


def reference_spatial(
    x: Array, r: Array, m: Array, *weights: Array, **attributes: int | Sequence[int]
) -> Array:
    """NumPy reference of SpatialBottleneck; arguments as its inputs and attributes."""
    return bottleneck(x, r, None, m, *weights, geometry=Geometry.from_attributes(attributes))


def reference_channel(
    x: Array, r: Array, c: Array, *weights: Array, **attributes: int | Sequence[int]
) -> Array:
    """NumPy reference of ChannelBottleneck; arguments as its inputs and attributes."""
    return bottleneck(x, r, c, None, *weights, geometry=Geometry.from_attributes(attributes))


def reference_dynamic(
    x: Array, r: Array, c: Array, m: Array, *weights: Array, **attributes: int | Sequence[int]
) -> Array:
    """NumPy reference of DynamicBottleneck; arguments as its inputs and attributes."""
    return bottleneck(x, r, c, m, *weights, geometry=Geometry.from_attributes(attributes))


def infer_bottleneck(x: Shape, residual: Shape, weights: Sequence[Shape], geometry: Geometry) -> Shape:
    """Output shape of a bottleneck after checking everything but its masks."""
    w1, b1, w2, b2, w3, b3 = weights
    for name, shape in (("X", x), ("W1", w1), ("W2", w2), ("W3", w3)):
        expect_rank(name, shape, 4)
    width, cout = w1[0], w3[0]
    require(
        divides(geometry.group, width),
        f"group {geometry.group} does not divide the {width} channels of conv2",
    )
    expect_shape("W1", w1, (width, x[1], 1, 1))
    expect_shape("W2", w2, (width, None if width is None else width // geometry.group, 3, 3))
    expect_shape("W3", w3, (cout, width, 1, 1))
    for name, bias, channels in (("B1", b1, width), ("B2", b2, width), ("B3", b3, cout)):
        expect_shape(name, bias, (channels,))
    height, columns = (None if size is None else geometry.out_size(size) for size in x[2:])
    out = (x[0], cout, height, columns)
    expect_shape("R", residual, out)
    return out


def infer_spatial(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of SpatialBottleneck."""
    x, residual, mask, *weights = shapes
    out = infer_bottleneck(x, residual, weights, Geometry.from_attributes(attributes))
    check_spatial_mask(mask, out)
    return out


def infer_channel(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of ChannelBottleneck."""
    x, residual, mask, *weights = shapes
    out = infer_bottleneck(x, residual, weights, Geometry.from_attributes(attributes))
    check_channel_mask(mask, x[0], weights[0][0])
    return out


def infer_dynamic(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Shape rule of DynamicBottleneck."""
    x, residual, channel_mask, spatial_mask, *weights = shapes
    out = infer_bottleneck(x, residual, weights, Geometry.from_attributes(attributes))
    check_channel_mask(channel_mask, x[0], weights[0][0])
    check_spatial_mask(spatial_mask, out)
    return out


_CONV2 = (
    "Conv <strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations, group: int = @group>"
)

_DENSE_CONVS = f"""
        conv1 = Conv (X, W1, B1)
        y1 = Relu (conv1)
        conv2 = {_CONV2} (y1, W2, B2)
        y2 = Relu (conv2)"""

_CHANNEL_CONVS = f"""
        mask_axes = Constant <value_ints = [2, 3, 4]> ()
        mask = Unsqueeze (C, mask_axes)
        bias_axes = Constant <value_ints = [1, 2]> ()
        bias1 = Unsqueeze (B1, bias_axes)
        bias2 = Unsqueeze (B2, bias_axes)
        conv1 = Conv (X, W1)
        {fragments.scale_groups("conv1", "mask", "masked1")}
        sum1 = Add (masked1, bias1)
        y1 = Relu (sum1)
        conv2 = {_CONV2} (y1, W2)
        {fragments.scale_groups("conv2", "mask", "masked2")}
        sum2 = Add (masked2, bias2)
        y2 = Relu (sum2)"""

_CONV3 = """
        conv3 = Conv (y2, W3, B3)"""

_SPATIAL_MASK = f"""
        {fragments.nearest_rows("M", "conv3", 2, "mask_rows")}
        {fragments.nearest_rows("mask_rows", "conv3", 3, "mask_map")}
        group_axis = Constant <value_ints = [2]> ()
        map_groups = Unsqueeze (mask_map, group_axis)
        {fragments.scale_groups("conv3", "map_groups", "branch")}"""


def _residual(branch: str) -> str:
    return f"""
        total = Add ({branch}, R)
        Y = Relu (total)"""


SPATIAL_BOTTLENECK = OpSpec(
    name="SpatialBottleneck",
    doc="Bottleneck block whose residual branch is added only where the spatial mask keeps.",
    inputs=("X", "R", "M", *_WEIGHTS),
    output="Y",
    attributes=BOTTLENECK_ATTRIBUTES,
    body_text=_DENSE_CONVS + _CONV3 + _SPATIAL_MASK + _residual("branch"),
    reference=reference_spatial,
    infer=infer_spatial,
)

CHANNEL_BOTTLENECK = OpSpec(
    name="ChannelBottleneck",
    doc="Bottleneck block whose first two convolutions contribute only their kept channel groups.",
    inputs=("X", "R", "C", *_WEIGHTS),
    output="Y",
    attributes=BOTTLENECK_ATTRIBUTES,
    body_text=_CHANNEL_CONVS + _CONV3 + _residual("conv3"),
    reference=reference_channel,
    infer=infer_channel,
)

DYNAMIC_BOTTLENECK = OpSpec(
    name="DynamicBottleneck",
    doc="Bottleneck block with a channel mask on its first two convolutions and a spatial one on its branch.",
    inputs=("X", "R", "C", "M", *_WEIGHTS),
    output="Y",
    attributes=BOTTLENECK_ATTRIBUTES,
    body_text=_CHANNEL_CONVS + _CONV3 + _SPATIAL_MASK + _residual("branch"),
    reference=reference_dynamic,
    infer=infer_dynamic,
)

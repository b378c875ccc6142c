"""Shape rules of the masks that blocks of every family take."""

from __future__ import annotations

from laudc.ops.spec import Dim, Shape, expect_rank, expect_shape, require


def divides(groups: Dim, total: Dim) -> bool:
    """Whether `groups` can be equal shares of `total`; unknown numbers can."""
    return groups is None or total is None or (groups > 0 and total % groups == 0)


def check_channel_mask(mask: Shape, batch: Dim, width: Dim) -> None:
    """Raise ShapeError unless C (B, g) fits a block with `width` channels between its convolutions."""
    expect_rank("C", mask, 2)
    expect_shape("C", mask, (batch, mask[1]))
    require(
        divides(mask[1], width), f"C has {mask[1]} groups, which do not divide the {width} channels of conv1"
    )


def check_spatial_mask(mask: Shape, out: Shape) -> None:
    """Raise ShapeError unless M (B, gs, mh, mw) fits the output (B, Cout, Ho, Wo) of a block."""
    expect_rank("M", mask, 4)
    expect_shape("M", mask, (out[0], *mask[1:]))
    require(
        divides(mask[1], out[1]), f"M has {mask[1]} groups, which do not divide the {out[1]} output channels"
    )
    for name, cells, size in zip(("rows", "columns"), mask[2:], out[2:], strict=True):
        fits = cells is None or size is None or 1 <= cells <= size
        require(fits, f"M has {cells} {name} for an output map of {size}")

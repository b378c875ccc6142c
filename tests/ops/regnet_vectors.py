"""Test vectors of the RegNetY blocks, for the semantic ops and for whatever replaces them.

Everything is seeded; arrays are float32, contiguous, NCHW. Expected values come from the NumPy references in float64.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from laudc.ops import SEMANTIC, Geometry
from tests.ops.vectors import Array, channel_mask, rng_of, spatial_mask

TOLERANCE = 3e-6


@dataclass(frozen=True)
class Shape:
    """Sizes of a block: input (batch, cin, height, width), `mid` channels after it, `squeeze` hidden ones."""

    name: str
    batch: int
    cin: int
    mid: int
    height: int
    width: int
    geometry: Geometry
    squeeze: int
    groups: int = 1
    shares: int = 1
    mask: tuple[int, int] = (1, 1)

    @property
    def identity(self) -> bool:
        """Whether the residual is the input itself."""
        return self.cin == self.mid and self.geometry.stride == 1

    @property
    def cout(self) -> int:
        """Channels of the output."""
        return self.mid

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the output map."""
        return self.geometry.out_size(self.height), self.geometry.out_size(self.width)


SHAPES = (
    Shape("identity", 2, 16, 16, 8, 8, Geometry(group=2), 4, groups=8, mask=(4, 4)),
    Shape("strided", 2, 12, 24, 8, 8, Geometry(2, 3), 3, groups=24, mask=(2, 2)),
    Shape("odd", 2, 8, 16, 9, 13, Geometry(2, 2), 2, groups=4, shares=2, mask=(2, 3)),
    Shape("uneven", 2, 24, 24, 7, 7, Geometry(group=1), 6, groups=12, mask=(3, 3)),
    Shape("point", 3, 8, 8, 1, 1, Geometry(group=8), 1, groups=8, mask=(1, 1)),
)


@dataclass(frozen=True, eq=False)
class RegNetCase:
    """One block with given masks, of which there is at least one."""

    name: str
    shape: Shape
    x: Array
    residual: Array
    channel_mask: Array | None
    spatial_mask: Array | None
    weights: tuple[Array, ...]
    se_pool: int

    @property
    def geometry(self) -> Geometry:
        """Stride, groups and dilation."""
        return self.shape.geometry

    @property
    def op(self) -> str:
        """Name of the semantic op this is a case of."""
        if self.spatial_mask is None:
            return "ChannelRegNetBlock"
        return "SpatialRegNetBlock" if self.channel_mask is None else "DynamicRegNetBlock"

    @property
    def inputs(self) -> tuple[Array, ...]:
        """Inputs of the semantic op in order."""
        masks = tuple(mask for mask in (self.channel_mask, self.spatial_mask) if mask is not None)
        return (self.x, self.residual, *masks, *self.weights)

    @property
    def attributes(self) -> dict[str, int | list[int]]:
        """Attributes of the semantic op."""
        own = {} if self.spatial_mask is None else {"se_pool": self.se_pool}
        return {**self.shape.geometry.attributes(), **own}

    @functools.cached_property
    def expected(self) -> Array:
        """(B, mid, Ho, Wo)."""
        inputs = [array.astype(np.float64) for array in self.inputs]
        return SEMANTIC[self.op].reference(*inputs, **self.attributes).astype(np.float32)

    def check(self, found: Array) -> None:
        """Assert that `found` is the expected output up to float32 noise."""
        bound = TOLERANCE * max(1.0, float(np.abs(self.expected).max()))
        np.testing.assert_allclose(found, self.expected, rtol=0, atol=bound, err_msg=self.name)


def _weights(shape: Shape) -> tuple[Array, ...]:
    rng = rng_of("regnet", shape.name)
    per_group = shape.mid // shape.geometry.group
    sizes = (
        ((shape.mid, shape.cin, 1, 1), shape.cin),
        ((shape.mid, per_group, 3, 3), 9 * per_group),
        ((shape.squeeze, shape.mid, 1, 1), shape.mid),
        ((shape.mid, shape.squeeze, 1, 1), shape.squeeze),
        ((shape.mid, shape.mid, 1, 1), shape.mid),
    )
    arrays: list[Array] = []
    for size, depth in sizes:
        arrays.append((rng.standard_normal(size) * depth**-0.5).astype(np.float32))
        arrays.append((rng.standard_normal(size[0]) * 0.5).astype(np.float32))
    return tuple(arrays)


def _case(shape: Shape, channel: str | None, spatial: str | None, se_pool: int) -> RegNetCase:
    rng = rng_of("regnet input", shape.name)
    x = np.abs(rng.standard_normal((shape.batch, shape.cin, shape.height, shape.width))).astype(np.float32)
    residual = x if shape.identity else rng.standard_normal((shape.batch, shape.mid, *shape.out)).astype(np.float32)
    parts = (shape.name, channel and f"c_{channel}", spatial and f"m_{spatial}", "active" if se_pool else None)
    return RegNetCase(
        name="-".join(part for part in parts if part),
        shape=shape,
        x=x,
        residual=residual,
        channel_mask=None if channel is None else channel_mask(channel, shape.batch, shape.groups),
        spatial_mask=None if spatial is None else spatial_mask(spatial, shape.batch, shape.shares, shape.mask),
        weights=_weights(shape),
        se_pool=se_pool,
    )


def _cases() -> Iterator[RegNetCase]:
    for shape in SHAPES:
        for channel in ("empty", "full", "sparse", "dense"):
            yield _case(shape, channel, None, 0)
        for se_pool in (0, 1):
            for spatial in ("empty", "full", "one", "checkerboard", "sparse"):
                yield _case(shape, None, spatial, se_pool)
            yield _case(shape, "dense", "sparse", se_pool)
            yield _case(shape, "empty", "dense", se_pool)


REGNET_BLOCKS: tuple[RegNetCase, ...] = tuple(_cases())

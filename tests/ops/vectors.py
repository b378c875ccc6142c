"""One set of test vectors for the semantic ops and for every kernel that replaces them.

`BLOCKS` are residual blocks with their masks given, `MASKERS` are mask decisions. Everything is seeded;
arrays are float32, contiguous, NCHW. Expected values come from the NumPy references in float64, rounded once.

    from tests.ops.vectors import BLOCKS
    for case in BLOCKS:
        y = my_kernel(case.x, case.residual, case.channel_mask, case.spatial_mask, *case.weights,
        case.geometry) case.check(y)
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from laudc.ops import SEMANTIC, Geometry
from laudc.ops.numeric import conv2d, pool_matrix, relu

Array = np.ndarray
# Float32 noise of the three convolutions, relative to the largest output.
TOLERANCE = 2e-6


PLAIN = Geometry()


@dataclass(frozen=True)
class Shape:
    """Sizes of a block: input (batch, cin, height, width), `mid` channels between the convolutions, cout
    outputs.

    `groups` channel groups, `shares` spatial masks of `mask` cells, each for a contiguous share of cout.
    """

    name: str
    batch: int
    cin: int
    mid: int
    cout: int
    height: int
    width: int
    geometry: Geometry = PLAIN
    groups: int = 1
    shares: int = 1
    mask: tuple[int, int] = (1, 1)

    @property
    def identity(self) -> bool:
        """Whether the residual is the input itself."""
        return self.cin == self.cout and self.geometry.stride == 1

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the output map."""
        return self.geometry.out_size(self.height), self.geometry.out_size(self.width)


SHAPES = (
    Shape("fine", 2, 16, 8, 16, 8, 8, groups=4, mask=(8, 8)),
    Shape("tiles", 2, 16, 8, 16, 8, 8, groups=8, mask=(2, 2)),
    Shape("layer", 3, 16, 4, 16, 5, 5, groups=1, mask=(1, 1)),
    Shape("strided", 2, 12, 8, 16, 8, 8, Geometry(stride=2), groups=2, mask=(4, 4)),
    Shape("projected", 2, 8, 8, 16, 7, 7, groups=2, mask=(7, 7)),
    Shape("shares", 2, 16, 8, 16, 6, 6, groups=8, shares=2, mask=(3, 3)),
    Shape("many_shares", 2, 32, 8, 32, 6, 6, groups=2, shares=4, mask=(6, 6)),
    Shape("uneven", 2, 16, 8, 16, 7, 7, groups=4, mask=(3, 3)),
    Shape("odd_strided", 2, 8, 12, 20, 9, 13, Geometry(stride=2), groups=3, shares=2, mask=(2, 3)),
    # 46 positions over 14 cells and 44 over 26 tell a float32 scale from exact integer arithmetic.
    Shape("float_scale", 1, 4, 4, 4, 46, 44, groups=2, mask=(14, 26)),
    Shape("grouped", 2, 16, 8, 16, 6, 6, Geometry(group=2), groups=4, mask=(3, 3)),
    Shape("dilated", 2, 16, 8, 16, 9, 9, Geometry(dilation=2), groups=4, mask=(9, 9)),
    Shape("all_at_once", 2, 16, 8, 24, 9, 9, Geometry(2, 4, 2), groups=2, shares=3, mask=(2, 2)),
    Shape("ragged", 2, 10, 20, 10, 3, 5, groups=5, mask=(3, 5)),
    Shape("point", 4, 16, 8, 16, 1, 1, groups=4, mask=(1, 1)),
    Shape("single", 1, 64, 16, 64, 14, 14, groups=16, mask=(7, 7)),
)

MASK_PATTERNS = ("empty", "full", "one", "last_row", "last_column", "checkerboard", "sparse", "dense")
CHANNEL_PATTERNS = ("empty", "full", "one", "last", "sparse", "dense")


def rng_of(*parts: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def _normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def spatial_mask(pattern: str, batch: int, shares: int, cells: tuple[int, int]) -> Array:
    """(batch, shares, *cells) of 0 and 1; "sparse" and "dense" differ between samples."""
    mask = np.zeros((batch, shares, *cells), np.float32)
    if pattern == "full":
        mask[:] = 1
    elif pattern == "one":
        mask[:, -1, cells[0] // 2, cells[1] // 2] = 1
    elif pattern == "last_row":
        mask[:, :, -1] = 1
    elif pattern == "last_column":
        mask[..., -1] = 1
    elif pattern == "checkerboard":
        mask[:] = np.indices(cells).sum(axis=0) % 2
    elif pattern in ("sparse", "dense"):
        rate = 0.2 if pattern == "sparse" else 0.8
        mask[:] = rng_of("spatial", pattern, mask.shape).random(mask.shape) < rate
    return mask


def channel_mask(pattern: str, batch: int, groups: int) -> Array:
    """(batch, groups) of 0 and 1; "sparse" and "dense" differ between samples."""
    mask = np.zeros((batch, groups), np.float32)
    if pattern == "full":
        mask[:] = 1
    elif pattern == "one":
        mask[:, groups // 2] = 1
    elif pattern == "last":
        mask[:, -1] = 1
    elif pattern in ("sparse", "dense"):
        rate = 0.3 if pattern == "sparse" else 0.7
        mask[:] = rng_of("channel", pattern, mask.shape).random(mask.shape) < rate
    return mask


@dataclass(frozen=True, eq=False)
class BlockCase:
    """A residual block with given masks.

    x (B, cin, H, W), not negative, as after a block's last ReLU; residual (B, cout, Ho, Wo), x itself in an
    identity block; channel_mask (B, g) or None; spatial_mask (B, gs, mh, mw) or None; weights W1, B1, W2, B2,
    W3, B3, biases of both signs. At least one mask is given.
    """

    name: str
    shape: Shape
    x: Array
    residual: Array
    channel_mask: Array | None
    spatial_mask: Array | None
    weights: tuple[Array, ...]

    @property
    def geometry(self) -> Geometry:
        """Geometry of conv2."""
        return self.shape.geometry

    @property
    def op(self) -> str:
        """Name of the semantic op this is a case of."""
        if self.spatial_mask is None:
            return "ChannelBottleneck"
        return "SpatialBottleneck" if self.channel_mask is None else "DynamicBottleneck"

    @property
    def inputs(self) -> tuple[Array, ...]:
        """Inputs of the semantic op in order."""
        masks = tuple(mask for mask in (self.channel_mask, self.spatial_mask) if mask is not None)
        return (self.x, self.residual, *masks, *self.weights)

    @property
    def attributes(self) -> dict[str, int | list[int]]:
        """Attributes of the semantic op."""
        return self.geometry.attributes()

    @functools.cached_property
    def expected(self) -> Array:
        """(B, cout, Ho, Wo)."""
        inputs = [array.astype(np.float64) for array in self.inputs]
        return SEMANTIC[self.op].reference(*inputs, **self.attributes).astype(np.float32)

    def check(self, found: Array) -> None:
        """Assert that `found` is the expected output up to float32 noise."""
        bound = TOLERANCE * max(1.0, float(np.abs(self.expected).max()))
        np.testing.assert_allclose(found, self.expected, rtol=0, atol=bound, err_msg=self.name)


@dataclass(frozen=True, eq=False)
class MaskerCase:
    """A mask decision: inputs in the order of the op, block input first; margin = keep − drop in float64."""

    name: str
    op: str
    inputs: tuple[Array, ...]
    margin: Array

    @functools.cached_property
    def expected(self) -> Array:
        """The mask, 0 and 1: a margin of 0 keeps, a NaN drops."""
        return (self.margin >= 0).astype(np.float32)


def _block(shape: Shape, channel: str | None, spatial: str | None) -> BlockCase:
    rng = rng_of(shape.name)
    x = np.abs(_normal(rng, shape.batch, shape.cin, shape.height, shape.width))
    group = shape.geometry.group
    weights = (
        _normal(rng, shape.mid, shape.cin, 1, 1, scale=shape.cin**-0.5),
        _normal(rng, shape.mid, scale=0.5),
        _normal(rng, shape.mid, shape.mid // group, 3, 3, scale=(9 * shape.mid / group) ** -0.5),
        _normal(rng, shape.mid, scale=0.5),
        _normal(rng, shape.cout, shape.mid, 1, 1, scale=shape.mid**-0.5),
        _normal(rng, shape.cout, scale=0.5),
    )
    residual = x if shape.identity else _normal(rng, shape.batch, shape.cout, *shape.out)
    return BlockCase(
        name="-".join(
            part for part in (shape.name, channel and f"c_{channel}", spatial and f"m_{spatial}") if part
        ),
        shape=shape,
        x=x,
        residual=residual,
        channel_mask=None if channel is None else channel_mask(channel, shape.batch, shape.groups),
        spatial_mask=None
        if spatial is None
        else spatial_mask(spatial, shape.batch, shape.shares, shape.mask),
        weights=weights,
    )


def _blocks() -> Iterator[BlockCase]:
    for shape in SHAPES:
        for pattern in MASK_PATTERNS:
            yield _block(shape, None, pattern)
        for pattern in CHANNEL_PATTERNS:
            yield _block(shape, pattern, None)
        for channel, spatial in (
            ("empty", "empty"),
            ("full", "full"),
            ("empty", "sparse"),
            ("sparse", "one"),
            ("dense", "last_row"),
            ("sparse", "dense"),
        ):
            yield _block(shape, channel, spatial)


def _wide(arrays: tuple[Array, ...]) -> list[Array]:
    return [array.astype(np.float64) for array in arrays]


def _margin(scores: Array) -> Array:
    keep, drop = np.split(scores, 2, axis=1)
    return keep - drop


def _spoil(name: str, weight: Array, bias: Array) -> None:
    """Make every score a tie, or the first keep and last drop score NaN, if the case is called so."""
    if name == "tie":
        # Zero weights: equal rows might still be summed in different orders and so differ by rounding.
        weight[:], bias[:] = 0, bias[0]
    if name == "nan":
        bias[0] = bias[-1] = np.nan


def _spatial_masker(name: str, size: tuple[int, int], cells: tuple[int, int], shares: int = 1) -> MaskerCase:
    rng = rng_of("masker", name)
    x, weight, bias = (
        _normal(rng, 3, 12, *size),
        _normal(rng, 2 * shares, 12, 1, 1),
        _normal(rng, 2 * shares, scale=0.1),
    )
    _spoil(name, weight, bias)
    rows, columns = pool_matrix(size[0], cells[0]), np.ascontiguousarray(pool_matrix(size[1], cells[1]).T)
    inputs = (x, rows, columns, weight, bias)
    wide_x, wide_rows, wide_columns, wide_weight, wide_bias = _wide(inputs)
    scores = conv2d(wide_rows @ (wide_x @ wide_columns), wide_weight, wide_bias)
    return MaskerCase(f"spatial-{name}", "SpatialMasker", inputs, _margin(scores))


def _channel_masker(kind: str, name: str, groups: int, cin: int = 12, hidden: int = 16) -> MaskerCase:
    rng = rng_of("masker", kind, name)
    x = _normal(rng, 3, cin, 5, 7)
    last_in = cin if kind == "Linear" else hidden
    weight, bias = _normal(rng, 2 * groups, last_in), _normal(rng, 2 * groups, scale=0.1)
    _spoil(name, weight, bias)
    first: tuple[Array, ...] = ()
    if kind != "Linear":
        kernel = (1, 1) if kind == "Conv" else ()
        first = (_normal(rng, hidden, cin, *kernel, scale=cin**-0.5), _normal(rng, hidden, scale=0.1))
    inputs = (x, *first, weight, bias)
    wide_x, *wide_first, wide_weight, wide_bias = _wide(inputs)
    if kind == "Conv":
        features = relu(conv2d(wide_x, *wide_first)).mean(axis=(2, 3))
    else:
        features = wide_x.mean(axis=(2, 3))
    if kind == "Mlp":
        features = relu(features @ wide_first[0].T + wide_first[1])
    return MaskerCase(
        f"{kind.lower()}-{name}",
        f"ChannelMasker{kind}",
        inputs,
        _margin(features @ wide_weight.T + wide_bias),
    )


def _maskers() -> Iterator[MaskerCase]:
    yield _spatial_masker("fine", (6, 6), (6, 6))
    yield _spatial_masker("tiles", (8, 8), (2, 2))
    yield _spatial_masker("layer", (7, 7), (1, 1))
    yield _spatial_masker("overlapping", (7, 7), (3, 3))
    yield _spatial_masker("uneven", (56, 56), (18, 18))
    yield _spatial_masker("oblong", (9, 13), (2, 5), shares=3)
    yield _spatial_masker("shares", (8, 8), (4, 4), shares=4)
    yield _spatial_masker("tie", (4, 4), (2, 2), shares=2)
    yield _spatial_masker("nan", (4, 4), (2, 2), shares=2)
    for kind in ("Linear", "Mlp", "Conv"):
        yield _channel_masker(kind, "groups", groups=8)
        yield _channel_masker(kind, "single", groups=1)
        yield _channel_masker(kind, "narrow", groups=3, cin=5, hidden=2)
        yield _channel_masker(kind, "tie", groups=4)
        yield _channel_masker(kind, "nan", groups=4)


BLOCKS: tuple[BlockCase, ...] = tuple(_blocks())
MASKERS: tuple[MaskerCase, ...] = tuple(_maskers())

"""Test vectors of the transformer ops, for the semantic ops and for every kernel that replaces them.

`SUBLAYERS` are attentions and MLPs with their masks given, `POLICIES` are decisions. Everything is seeded and float32;
expected values come from the NumPy references in float64, rounded once.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from laudc.ops import SEMANTIC

Array = np.ndarray
TOLERANCE = 3e-6
PATTERNS = ("empty", "full", "one", "last", "sparse", "dense", "none")


@dataclass(frozen=True, eq=False)
class SublayerCase:
    """One sublayer: inputs in the order of the op, its attribute, and the expected output (B, L, D)."""

    name: str
    op: str
    inputs: tuple[Array, ...]
    attributes: dict[str, int]

    @functools.cached_property
    def expected(self) -> Array:
        """(B, L, D)."""
        wide = [array.astype(np.float64) for array in self.inputs]
        return SEMANTIC[self.op].reference(*wide, **self.attributes).astype(np.float32)

    def check(self, found: Array) -> None:
        """Assert that `found` is the expected output up to float32 noise."""
        bound = TOLERANCE * max(1.0, float(np.abs(self.expected).max()))
        np.testing.assert_allclose(found, self.expected, rtol=0, atol=bound, err_msg=self.name)


@dataclass(frozen=True, eq=False)
class PolicyCase:
    """A decision: inputs in the order of the op; kept where the margin, known exactly, is positive."""

    name: str
    op: str
    inputs: tuple[Array, ...]
    margin: Array

    attributes = {}  # noqa: RUF012  (never written)

    @functools.cached_property
    def expected(self) -> Array:
        """The mask, 0 and 1."""
        return (self.margin > 0).astype(np.float32)


def mask(pattern: str, batch: int, count: int, seed: object = 0) -> Array:
    """(batch, count) of 0 and 1; "none" is what stands for a missing policy, a row of ones with batch 1."""
    if pattern == "none":
        return np.ones((1, count), np.float32)
    made = np.zeros((batch, count), np.float32)
    if pattern == "full":
        made[:] = 1
    elif pattern == "one":
        made[:, count // 2] = 1
    elif pattern == "last":
        made[:, -1] = 1
    elif pattern in ("sparse", "dense"):
        made[:] = _rng(pattern, count, seed).random(made.shape) < (0.3 if pattern == "sparse" else 0.7)
    return made


def _rng(*parts: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def _normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def _layer(rng: np.random.Generator, outputs: int, inputs: int) -> tuple[Array, Array]:
    return _normal(rng, outputs, inputs, scale=inputs**-0.5), _normal(rng, outputs, scale=0.3)


def _sublayer(
    op: str, code: int, sizes: tuple[int, int, int, int], patterns: tuple[str, str, str]
) -> SublayerCase:
    batch, length, heads, width = sizes
    dim = heads * width
    rng = _rng(op, sizes)
    token, head, layer = patterns
    masks = (mask(token, batch, length - 1), mask(head, batch, heads), mask(layer, batch, 2))
    stream, normal = _normal(rng, batch, length, dim), _normal(rng, batch, length, dim)
    if op == "DynamicAttention":
        weights = [values for _ in range(4) for values in _layer(rng, dim, dim)]
        attributes = {"dropped_heads": code}
    else:
        weights = [*_layer(rng, 3 * dim, dim), *_layer(rng, dim, 3 * dim)]
        attributes = {"head_width": code}
    name = f"{op}-{code}-{'x'.join(map(str, sizes))}-t_{token}-h_{head}-s_{layer}"
    return SublayerCase(name, op, (stream, normal, *masks, *weights), attributes)


_SIZES = ((2, 6, 3, 4), (3, 17, 2, 10), (1, 40, 1, 20))
_ALL = (*((pattern, "dense", "full") for pattern in PATTERNS), *(("dense", pattern, "none") for pattern in PATTERNS))


def _sublayers() -> Iterator[SublayerCase]:
    for op, codes in (("DynamicAttention", (0, 1)), ("DynamicMlp", (0, 1, 2))):
        for code in codes:
            for sizes in _SIZES:
                for patterns in (*_ALL, ("none", "none", "none"), ("sparse", "sparse", "sparse")):
                    yield _sublayer(op, code, sizes, patterns)


def _policy(op: str, name: str, decisions: int) -> PolicyCase:
    rng = _rng(op, name)
    # Small whole numbers: sums are exact in any order, so that a tie is a tie.
    shape = (3, 7, 12) if op == "TokenMasker" else (3, 12)
    x = rng.integers(-3, 4, shape).astype(np.float32)
    weight = rng.integers(-2, 3, (decisions, 12)).astype(np.float32)
    bias = rng.integers(-2, 3, decisions).astype(np.float32)
    if name == "tie":
        weight[:], bias[:] = 0, 0
    if name == "nan":
        bias[0] = np.nan
    if op == "TokenMasker":
        margin = (x[:, 1:].astype(np.float64) @ weight.T + bias)[..., 0]
    else:
        margin = x.astype(np.float64) @ weight.T + bias
    return PolicyCase(f"{op}-{name}", op, (x, weight, bias), margin)


def _policies() -> Iterator[PolicyCase]:
    for name in ("some", "tie", "nan"):
        yield _policy("TokenMasker", name, 1)
        yield _policy("PolicyMasker", name, 5)


SUBLAYERS: tuple[SublayerCase, ...] = tuple(_sublayers())
POLICIES: tuple[PolicyCase, ...] = tuple(_policies())

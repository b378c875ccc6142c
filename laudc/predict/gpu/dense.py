"""What the runtime's own kernels do of blocks that ours do not cover on a GPU, as launches: products and moved data.

One launch each, everything computed, then masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from laudc.ops.scheduled import RegNetRecord
from laudc.ops.scheduled_vit import VitRecord

_TAPS = 9


@dataclass(frozen=True)
class Product:
    """rows × depth × columns, read from `reads` rows of `inputs` values; `times` in one launch; `extra` further values
    moved per result."""

    rows: float
    depth: float
    columns: float
    inputs: float
    times: float = 1.0
    extra: float = 0.0


@dataclass(frozen=True)
class Moved:
    """A launch that moves so many values and computes next to nothing."""

    values: float


Launch = Product | Moved


def regnet_launches(record: RegNetRecord, batch: int) -> Iterator[Launch]:
    """A RegNetY block without its maskers."""
    inner, outer = float(record.hin * record.win * batch), float(record.hout * record.wout * batch)
    width, group_width = record.width, record.width / record.group
    yield Product(inner, record.cin, width, record.cin)
    yield Product(outer, _TAPS * group_width, group_width, _TAPS * group_width, times=record.group)
    yield Moved(outer * width)
    yield Product(batch, width, record.squeeze, width)
    yield Product(batch, record.squeeze, width, record.squeeze)
    yield Moved(2 * outer * width)
    yield Product(outer, width, record.cout, width, extra=1.0)
    if record.projection:
        yield Product(outer, record.cin, record.cout, record.cin)
    if record.mask_groups:
        yield Moved(2 * outer * record.cout)
    if record.channel_groups:
        yield Moved(2 * width * (inner + outer))


def vit_launches(record: VitRecord, batch: int) -> Iterator[Launch]:
    """A transformer block with its policies."""
    rows, dim = float(record.tokens * batch), record.dim
    scores = float(record.heads * record.tokens * record.tokens * batch)
    each = float(batch * record.heads)
    yield Moved(2 * rows * dim)
    for _ in ("query", "key", "value"):
        yield Product(rows, dim, dim, dim)
    yield Product(record.tokens, record.head_dim, record.tokens, record.head_dim, times=each)
    yield Moved(2 * scores)  # what is not visible
    yield Moved(2 * scores)  # softmax
    yield Product(record.tokens, record.tokens, record.head_dim, record.tokens, times=each)
    yield Product(rows, dim, dim, dim, extra=1.0)
    yield Moved(2 * rows * dim)
    yield Product(rows, dim, record.hidden, dim)
    yield Moved(2 * rows * record.hidden)  # activation
    yield Product(rows, record.hidden, dim, record.hidden, extra=1.0)
    for number in record.decisions.values():
        yield Product(batch * number, dim, 1, dim)
        yield Moved(2 * rows * dim)

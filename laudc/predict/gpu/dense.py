"""What the runtime's own kernels do of blocks on a GPU, as launches: products and moved data.

Everything is computed, then masked; maskers are ordinary operators. The runtime's library takes the fastest of many
kernels for each product, so the best of the usual tiles counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from laudc.ops.scheduled import BlockRecord, ChannelMasker, RegNetRecord
from laudc.ops.scheduled_vit import VitRecord
from laudc.predict.families import Record
from laudc.predict.gpu.launch import (
    COMPUTE_EFFICIENCY,
    TRIP_CYCLES,
    Gpu,
    beyond_cache,
    moved,
    sectors,
    spread,
    traffic_ns,
)

_TAPS = 9
# Rows, columns and splits along k of the kernels that GPU libraries choose from.
_TILES = ((256, 128), (128, 128), (128, 64), (64, 64), (64, 32), (32, 32))
_CHOICES = np.asarray([(rows, columns, splits) for rows, columns in _TILES for splits in (1, 2, 4, 8)], float)
_THREADS, _RESIDENT = 256, 2
_STEP, _AHEAD = 32, 3
_SHORTEST_SPLIT = 8  # steps


@dataclass(frozen=True)
class Product:
    """rows × depth × columns, read from `rows` rows of `inputs` values; `times` in one launch; `extra` further values
    moved per result."""

    rows: float
    depth: float
    columns: float
    inputs: float
    times: float = 1.0
    extra: float = 0.0

    @property
    def macs(self) -> float:
        """Multiply-adds."""
        return self.rows * self.depth * self.columns * self.times


@dataclass(frozen=True)
class Moved:
    """A launch that moves so many values and computes next to nothing."""

    values: float


RuntimeLaunch = Product | Moved


def dense_launches(record: Record, batch: int) -> Iterator[RuntimeLaunch]:
    """A block as the runtime computes it, maskers or policies included."""
    if isinstance(record, VitRecord):
        yield from _vit(record, batch)
        return
    yield from _maskers(record, batch)
    yield from _regnet(record, batch) if isinstance(record, RegNetRecord) else _bottleneck(record, batch)


def _maskers(record: BlockRecord, batch: int) -> Iterator[RuntimeLaunch]:
    pixels = float(record.hin * record.win * batch)
    if record.mask_groups:
        yield Product(pixels, record.cin, 2 * record.mask_groups, record.cin)
        yield Moved(2 * pixels * record.mask_groups)  # pooling
        yield Moved(2.0 * record.hout * record.wout * record.mask_groups * batch)  # comparing, resizing
    if record.channel_groups:
        features, convolves = record.cin, record.channel_masker == ChannelMasker.CONV
        if convolves:
            yield Product(pixels, record.cin, record.masker_hidden, record.cin)
            features = record.masker_hidden
        yield Moved(pixels * features)  # pooling
        if record.masker_hidden and not convolves:
            yield Product(batch, features, record.masker_hidden, features)
            features = record.masker_hidden
        yield Product(batch, features, 2 * record.channel_groups, features)
        yield Moved(2.0 * batch * record.channel_groups)  # comparing


def _masked(record: BlockRecord, inner: float, outer: float) -> Iterator[RuntimeLaunch]:
    if record.channel_groups:
        yield Moved(2 * record.width * inner)
        yield Moved(2 * record.width * outer)
    if record.mask_groups:
        yield Moved(2 * outer * record.cout)


def _bottleneck(record: BlockRecord, batch: int) -> Iterator[RuntimeLaunch]:
    inner, outer = float(record.hin * record.win * batch), float(record.hout * record.wout * batch)
    yield Product(inner, record.cin, record.width, record.cin)
    yield Product(outer, _TAPS * record.width, record.width, record.width * inner / outer)
    yield Product(outer, record.width, record.cout, record.width, extra=1.0)
    if record.projection:
        yield Product(outer, record.cin, record.cout, record.cin)
    yield from _masked(record, inner, outer)


def _regnet(record: RegNetRecord, batch: int) -> Iterator[RuntimeLaunch]:
    inner, outer = float(record.hin * record.win * batch), float(record.hout * record.wout * batch)
    width, group_width = record.width, record.width / record.group
    yield Product(inner, record.cin, width, record.cin)
    yield Product(outer, _TAPS * group_width, group_width, group_width * inner / outer, times=record.group)
    yield Moved(outer * width)
    yield Product(batch, width, record.squeeze, width)
    yield Product(batch, record.squeeze, width, record.squeeze)
    yield Moved(2 * outer * width)
    yield Product(outer, width, record.cout, width, extra=1.0)
    if record.projection:
        yield Product(outer, record.cin, record.cout, record.cin)
    yield from _masked(record, inner, outer)


def _vit(record: VitRecord, batch: int) -> Iterator[RuntimeLaunch]:
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


def runtime_ns(launch: RuntimeLaunch, gpu: Gpu, far: float = 1.0) -> float:
    """The time of a launch; `far`: share of the weights that come from memory.

    The arithmetic reaches the usual share of the peak: calibrations measure our kernels only.
    """
    if isinstance(launch, Moved):
        return float(moved("moved", gpu, np.asarray([launch.values * gpu.element])).ns(gpu)[0])
    if launch.macs <= 0:
        return gpu.launch_ns
    return gpu.launch_ns + float(_product_ns(launch, gpu, far).min())


def _product_ns(product: Product, gpu: Gpu, far: float) -> np.ndarray:
    """With each of the choices."""
    rows, columns, splits = _CHOICES.T
    down, across = np.ceil(product.rows / rows), np.ceil(product.columns / columns)
    steps = np.ceil(product.depth / _STEP)
    share = np.ceil(steps / splits)
    pieces = down * across * splits * product.times
    piece_ns = rows * columns * share * _STEP / gpu.runtime_rate * 1e9
    out = spread(pieces[:, None], piece_ns[:, None], gpu, threads=_THREADS, resident=_RESIDENT)
    trip = gpu.cycles_ns(TRIP_CYCLES) * gpu.latency_factor
    busy = np.maximum(out.compute_ns / COMPUTE_EFFICIENCY, out.waves * share * trip / _AHEAD) + out.waves * 2 * trip
    element = gpu.element
    weights = product.depth * product.columns * product.times * element
    maps = product.rows * product.times * (sectors(product.inputs * element) + sectors(product.columns * element))
    maps = float(maps + product.extra * product.rows * product.times * product.columns * element)
    read = product.rows * product.depth * across + product.depth * product.columns * down
    partial = np.where(splits > 1, 2 * 4 * pieces * rows * columns, 0.0)
    far = max(far, float(beyond_cache(gpu, np.asarray(maps + weights))))
    passed = read * product.times * element + partial
    memory = traffic_ns(gpu, passed, np.asarray(maps + weights * (1 - far)), weights * far) / gpu.memory_efficiency
    allowed = (splits == 1) | (steps >= splits * _SHORTEST_SPLIT)
    return np.where(allowed, np.maximum(busy, memory), np.inf)

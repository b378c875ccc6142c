"""Operators without masks: pooling, addition, fully connected layers, squeeze-and-excitation."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .tiles import axis, coalescing, fill, pixels, powers, row_coalescing, tile_at

if TYPE_CHECKING:
    from .cost import Cost
    from .model import Model


@lru_cache(maxsize=65536)
def avg_pool(model: Model, *, c: int, h: int, w: int, oh: int, ow: int) -> Cost:
    """Average pooling of (c, h, w) to (c, oh, ow): only data moves."""
    device = model.device
    elements = device.batch * (c * h * w + c * oh * ow)
    return model.cost(0.0, elements / device.dram_elements_s + elements / device.l2_elements_s)


@lru_cache(maxsize=65536)
def add(model: Model, *, c: int, h: int, w: int) -> Cost:
    """Elementwise addition of two (c, h, w) maps; every element crosses DRAM three times, the L2 is free."""
    device = model.device
    channels, tiles = axis(c), pixels(h, w)
    elements = channels.tiles[:, None] * tiles.elements
    count = channels.counts[:, None] * tiles.counts
    compute = elements / device.unit_macs_s
    compute /= fill(elements, device.fill_lanes)
    compute *= np.ceil(count / device.units)
    compute *= device.batch
    memory = np.multiply(elements, 3, out=elements)
    memory *= count
    memory /= device.dram_elements_s
    memory *= device.batch
    best = int(model.combine(compute, memory).argmin())
    return model.cost(compute.flat[best], memory.flat[best], tile=tile_at(channels, tiles, best))


@lru_cache(maxsize=65536)
def fc(model: Model, *, cin: int, cout: int) -> Cost:
    """A fully connected layer; the weights are read once per sample, as the authors charge them."""
    device, batch = model.device, model.device.batch
    a, b = axis(cout).tiles[:, None], axis(cin).tiles
    count = a * b
    l2 = (a * b + a + b) * count * batch
    dram = (cin * cout + cin + cout) * batch
    memory = dram / device.dram_elements_s + l2 / (device.l2_elements_s * coalescing(b, cin, device.coalescing))
    compute = a * b * batch / device.unit_macs_s
    compute = compute / fill(a * b * batch, device.fill_lanes) * np.ceil(count / device.units)
    best = int(np.argmin(model.combine(compute, memory)))
    return model.cost(compute.flat[best], memory.flat[best])


def tree_reduction(model: Model, channels: Any, values: Any) -> Any:
    """Seconds of summing `values` numbers in each of `channels` parallel channels by halving, for all samples.

    Numbers or arrays that broadcast against each other. The last level is not charged.
    """
    device = model.device
    levels = []
    left = np.ceil(np.divide(values, 2))
    while np.any(left > 1):
        levels.append(left)
        left = np.ceil(left / 2)
    if not levels:
        return 0.0 * channels
    dimensions = max(np.ndim(channels), np.ndim(values))
    halves = np.array(levels).reshape((len(levels),) + (1,) * (dimensions - np.ndim(values)) + np.shape(values))
    work = halves * channels
    seconds = np.ceil(work / device.lanes) / fill(work, device.fill_lanes) / device.clock_hz
    return (seconds * (halves > 1)).sum(axis=0) * device.batch


@lru_cache(maxsize=65536)
def global_pool(model: Model, *, c: int, h: int, w: int) -> Cost:
    """Global average pooling of (c, h, w) inside another operator: no launch of its own."""
    device, batch = model.device, model.device.batch
    a = powers(c)
    per_channel = np.ceil(c / a)
    count = per_channel * h * w
    compute = a / device.unit_macs_s / fill(a, device.fill_lanes) * np.ceil(count / device.units)
    compute = compute + tree_reduction(model, a, h * w)
    dram, l2 = device.dram_elements_s, device.l2_elements_s
    memory = batch * ((a / dram + a / l2) * count + (a * h * w + a) / l2 * per_channel)
    best = int(np.argmin(model.combine(compute, memory)))
    return model.cost(compute[best], memory[best], launches=0)


@lru_cache(maxsize=65536)
def channel_scale(model: Model, *, c: int, h: int, w: int) -> Cost:
    """Multiplies each channel of (c, h, w) by a number, inside another operator: no launch of its own."""
    device, batch = model.device, model.device.batch
    channels, tiles = axis(c), pixels(h, w)
    a = channels.tiles[:, None]
    elements = a * tiles.elements
    count = channels.counts[:, None] * tiles.counts
    l2 = count * (2 * elements + a)
    l2 /= device.l2_elements_s * row_coalescing(h, w, device.coalescing)
    memory = batch * ((2 * c * h * w + c) / device.dram_elements_s + l2)
    compute = batch * elements
    compute /= device.unit_macs_s
    compute /= fill(elements, device.fill_lanes)
    compute *= np.ceil(count / device.units)
    best = int(model.combine(compute, memory).argmin())
    return model.cost(compute.flat[best], memory.flat[best], launches=0)


def excitation(model: Model, *, c: int, h: int, w: int, squeeze_channels: int) -> Cost:
    """All of squeeze-and-excitation but its pooling, with the launches of the whole: two fully connected layers and
    the scaling."""
    scaled = channel_scale(model, c=c, h=h, w=w) + model.cost(0.0, 0.0, launches=2)
    return scaled + fc(model, cin=c, cout=squeeze_channels) + fc(model, cin=squeeze_channels, cout=c)


@lru_cache(maxsize=65536)
def se(model: Model, *, c: int, h: int, w: int, squeeze_channels: int) -> Cost:
    """Squeeze-and-excitation of (c, h, w) through `squeeze_channels`: four launches."""
    pooled = global_pool(model, c=c, h=h, w=w)
    return pooled + excitation(model, c=c, h=h, w=w, squeeze_channels=squeeze_channels)

"""Operators without masks: pooling, addition, fully connected layers, squeeze-and-excitation."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .tiles import axis, coalescing, fill, powers

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    channels, rows, columns = axis(c), axis(h), axis(w)
    elements = channels.tiles[:, None] * np.outer(rows.tiles, columns.tiles).ravel()
    count = channels.counts[:, None] * np.outer(rows.counts, columns.counts).ravel()
    rounds = np.ceil(count / device.units)
    compute = elements / device.unit_macs_s / fill(elements, device.fill_lanes) * rounds * device.batch
    memory = 3 * elements * count / device.dram_elements_s * device.batch
    best = int(np.argmin(model.combine(compute, memory)))
    a, pixel = divmod(best, elements.shape[1])
    b, d = divmod(pixel, len(columns.tiles))
    tile = {
        "c_tile": int(channels.tiles[a]),
        "h_tile": int(rows.tiles[b]),
        "w_tile": int(columns.tiles[d]),
        "n_tiles": int(count.flat[best]),
    }
    return model.cost(compute.flat[best], memory.flat[best], tile=tile)


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


def tree_reduction(model: Model, channels: Any, values: Any) -> NDArray[np.float64]:
    """Seconds of summing `values` numbers in each of `channels` parallel channels by halving, for all samples.

    Both arrays, broadcast against each other. The last level is not charged.
    """
    device = model.device
    left = np.ceil(np.asarray(values, np.float64) / 2)
    channels, left = np.broadcast_arrays(np.asarray(channels, np.float64), left)
    seconds = np.zeros(left.shape)
    while np.any(left > 1):
        work = left * channels
        level = np.ceil(work / device.lanes) / fill(work, device.fill_lanes) / device.clock_hz
        seconds = seconds + np.where(left > 1, level, 0.0)
        left = np.ceil(left / 2)
    result: NDArray[np.float64] = seconds * device.batch
    return result


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
    channels, rows, columns = axis(c), axis(h), axis(w)
    a = channels.tiles[:, None]
    elements = a * np.outer(rows.tiles, columns.tiles).ravel()
    count = channels.counts[:, None] * np.outer(rows.counts, columns.counts).ravel()
    share = np.tile(coalescing(columns.tiles, w - columns.tiles, device.coalescing), len(rows.tiles))
    l2 = count * (2 * elements + a) / (device.l2_elements_s * share)
    memory = batch * ((2 * c * h * w + c) / device.dram_elements_s + l2)
    compute = batch * elements / device.unit_macs_s / fill(elements, device.fill_lanes)
    compute = compute * np.ceil(count / device.units)
    best = int(np.argmin(model.combine(compute, memory)))
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

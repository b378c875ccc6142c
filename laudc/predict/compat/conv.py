"""Dense convolution, also with channels switched off, and the search for its tile."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from .tiles import at_least_one, axis, fill, pixels, row_coalescing, tile_at, windows

if TYPE_CHECKING:
    from .cost import Cost
    from .model import Model


@lru_cache(maxsize=65536)
def conv(
    model: Model,
    *,
    cin: int,
    cout: int,
    inh: int,
    inw: int,
    ks: int,
    groups: int = 1,
    stride: int = 1,
    ic_density: float = 1.0,
    oc_density: float = 1.0,
) -> Cost:
    """A `ks`×`ks` convolution of a (cin, inh, inw) input; shares `ic_density` of input and `oc_density` of output
    channels are on. The output is (cout, inh // stride, inw // stride)."""
    device = model.device
    batch = device.batch
    height, width, depth = inh // stride, inw // stride, at_least_one(cin // groups)
    taps = depth * ks**2
    # Tiles: channels along the first dimension, pixels along the second.
    channels, tiles = axis(cout), pixels(height, width)
    tile = channels.tiles[:, None]
    elements = tile * tiles.elements
    count = channels.counts[:, None] * tiles.counts

    inputs = np.ceil(tile / at_least_one(cout // groups)) * depth * windows(height, width, ks, stride)
    weights = tile * taps
    if ic_density != 1:
        inputs *= ic_density
    l2 = inputs + (elements if oc_density == 1 else oc_density * elements)
    l2 *= batch
    l2 += weights * ic_density * oc_density if batch == 1 else weights
    l2 *= count
    dram = (
        cout * taps * (oc_density if batch == 1 else 1)
        + batch * ic_density * cin * height * stride * width * stride
        + batch * oc_density * cout * height * width
    )
    memory = np.divide(l2, device.l2_elements_s * row_coalescing(height, width, device.coalescing), out=l2)
    memory += dram / device.dram_elements_s

    compute = elements * (taps * batch)
    compute /= device.unit_macs_s
    if ic_density != 1 or oc_density != 1:
        compute *= ic_density
        compute *= model.density.of(cout, ic_density * oc_density, 1)[:, None]
    compute /= fill(elements, device.fill_lanes)
    compute *= np.ceil(count / device.units)

    best = int(model.combine(compute, memory).argmin())
    return model.cost(compute.flat[best], memory.flat[best], tile=tile_at(channels, tiles, best))

"""Dense convolution, also with channels switched off, and the search for its tile."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from .tiles import axis, coalescing, fill

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
    height, width, depth = inh // stride, inw // stride, cin // groups
    taps = depth * ks**2
    channels, rows, columns = axis(cout), axis(height), axis(width)

    # Tiles: channels along the first dimension, pixels (rows outer, columns inner) along the second.
    tile = channels.tiles[:, None]
    pixels = np.outer(rows.tiles, columns.tiles).ravel()
    elements = tile * pixels
    count = channels.counts[:, None] * np.outer(rows.counts, columns.counts).ravel()

    window = np.outer((rows.tiles + ks - 1) * stride, (columns.tiles + ks - 1) * stride).ravel()
    inputs = np.ceil(tile / (cout // groups)) * depth * window
    if ic_density != 1:
        inputs = ic_density * inputs
    outputs = elements if oc_density == 1 else oc_density * elements
    weights = tile * taps
    if batch == 1:
        weights = weights * ic_density * oc_density
    l2 = count * (weights + batch * (inputs + outputs))
    dram = (
        cout * taps * (oc_density if batch == 1 else 1)
        + batch * ic_density * cin * height * stride * width * stride
        + batch * oc_density * cout * height * width
    )
    share = coalescing(columns.tiles, width - columns.tiles, device.coalescing)
    l2_rate = np.tile(device.l2_elements_s * share, len(rows.tiles))
    memory = dram / device.dram_elements_s + l2 / l2_rate

    compute = elements * (taps * batch) / device.unit_macs_s
    if ic_density != 1 or oc_density != 1:
        worst = model.density.of(cout, ic_density * oc_density, 1)
        compute = compute * ic_density * worst[:, None]
    compute = compute / fill(elements, device.fill_lanes) * np.ceil(count / device.units)

    best = int(np.argmin(model.combine(compute, memory)))
    a, pixel = divmod(best, len(pixels))
    b, d = divmod(pixel, len(columns.tiles))
    chosen = {
        "c_tile": int(channels.tiles[a]),
        "h_tile": int(rows.tiles[b]),
        "w_tile": int(columns.tiles[d]),
        "n_tiles": int(count.flat[best]),
    }
    return model.cost(compute.flat[best], memory.flat[best], tile=chosen)

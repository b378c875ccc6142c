"""The roofline: an operator takes at least its arithmetic at peak rate and its data at full bandwidth.

The baseline that every other model has to beat: a lower bound without tiles, caches, launches or masks that cost
anything. Predictions are modelled, not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from laudc.devices import DTYPES
from laudc.predict.geometry import BlockGeometry, BlockRates

if TYPE_CHECKING:
    from laudc.devices import DeviceProfile


@dataclass(frozen=True)
class Work:
    """What an operator has to do: multiply-adds, and elements read and written, each once."""

    macs: float
    elements: float

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.elements + other.elements)


def roofline_s(profile: DeviceProfile, work: Work, dtype: str = "fp32") -> float:
    """Seconds: the larger of computing at the peak of `dtype` and moving data at the bandwidth of the memory.

    Raises:
        UserError: the device does not compute in `dtype`.
    """
    profile.rate(dtype)
    moving = work.elements * DTYPES[dtype] / (profile.memory.dram_gb_s * 1e9)
    return max(work.macs / profile.peak_macs_per_s(dtype), moving)


def conv_work(
    *,
    cin: int,
    cout: int,
    h: int,
    w: int,
    ks: int,
    groups: int = 1,
    stride: int = 1,
    batch: float = 1,
    active: float = 1.0,
    ic_density: float = 1.0,
    oc_density: float = 1.0,
) -> Work:
    """A convolution with (cin, h, w) input; shares `active` of the output pixels, `ic_density` and `oc_density` of the
    channels are computed. The output has ceil(h / stride) × ceil(w / stride) pixels."""
    pixels = -(-h // stride) * -(-w // stride) * active * batch
    inputs, outputs = cin * ic_density, cout * oc_density
    weights = inputs * outputs / groups * ks**2
    # Active outputs need at least the share of the input below them.
    return Work(pixels * weights, weights + inputs * h * w * active * batch + outputs * pixels)


def elementwise_work(*, c: int, h: int, w: int, inputs: int = 2, batch: float = 1, active: float = 1.0) -> Work:
    """An elementwise operation with `inputs` inputs on the share `active` of a (c, h, w) map: one multiply-add each."""
    elements = c * h * w * batch * active
    return Work(elements, (inputs + 1) * elements)


def pool_work(*, c: int, h: int, w: int, oh: int = 1, ow: int = 1, batch: int = 1) -> Work:
    """Pooling of (c, h, w) to (c, oh, ow)."""
    return Work(c * h * w * batch, c * (h * w + oh * ow) * batch)


def linear_work(*, rows: int, inner: int, outer: int) -> Work:
    """(rows, inner) × (inner, outer); the batch is part of the rows."""
    return Work(rows * inner * outer, rows * inner + inner * outer + rows * outer)


def block_work(block: BlockGeometry, rates: BlockRates | None = None, *, batch: int = 1) -> dict[str, Work]:
    """The work of each part of a residual block at these activation rates, in the order of execution.

    Maskers are left out; the projection shortcut always runs, the rest for the share `rates.layer` of the samples.
    """
    rates = rates or BlockRates()
    run = batch * rates.layer
    h, w = block.out_h, block.out_w
    active, share = rates.spatial, rates.channel
    parts = {
        "conv1": conv_work(
            cin=block.cin,
            cout=block.width,
            h=block.h,
            w=block.w,
            ks=1,
            batch=run,
            active=active,
            oc_density=share,
        ),
        "conv2": conv_work(
            cin=block.width,
            cout=block.width,
            h=block.h,
            w=block.w,
            ks=3,
            groups=block.groups,
            stride=block.stride,
            batch=run,
            active=active,
            ic_density=share,
            oc_density=share,
        ),
        "conv3": conv_work(
            cin=block.width, cout=block.cout, h=h, w=w, ks=1, batch=run, active=active, ic_density=share
        ),
        "add": elementwise_work(c=block.cout, h=h, w=w, batch=run, active=active),
    }
    if block.projected:
        parts["shortcut"] = conv_work(
            cin=block.cin, cout=block.cout, h=block.h, w=block.w, ks=1, stride=block.stride, batch=batch
        )
    return parts


def roofline_block_s(
    profile: DeviceProfile,
    block: BlockGeometry,
    rates: BlockRates | None = None,
    *,
    batch: int = 1,
    dtype: str = "fp32",
) -> float:
    """Seconds of a residual block, operator after operator. Raises UserError as `roofline_s` does."""
    return sum(roofline_s(profile, work, dtype) for work in block_work(block, rates, batch=batch).values())

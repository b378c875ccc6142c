"""Transformer operators, made of the convolution, addition and pooling of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .conv import conv
from .plain import add, global_pool

if TYPE_CHECKING:
    from .cost import Cost
    from .model import Model


def matmul(model: Model, *, rows: int, inner: int, outer: int) -> Cost:
    """(rows, inner) × (inner, outer): a 1×1 convolution on a nearly square map of about `rows` pixels."""
    height = round(math.sqrt(rows))
    return conv(model, cin=inner, cout=outer, inh=height, inw=round(rows / height), ks=1)


def linear(
    model: Model, *, x_shape: Sequence[int], w_shape: Sequence[int], out_shape: Sequence[int] | None = None
) -> Cost:
    """x (..., inner) times the transpose of w (outer, inner)."""
    shape = (*x_shape[:-1], w_shape[0]) if out_shape is None else tuple(out_shape)
    return matmul(model, rows=math.prod(shape[:-1]), inner=x_shape[-1], outer=shape[-1])


def dynamic_linear(
    model: Model, *, rows: int, inner: int, outer: int, ic_density: float = 1.0, oc_density: float = 1.0
) -> Cost:
    """A linear layer of which shares of the inputs and outputs are on; sizes are rounded half to even."""
    return matmul(model, rows=rows, inner=round(inner * ic_density), outer=round(outer * oc_density))


def elementwise(model: Model, *, shape: Sequence[int]) -> Cost:
    """An elementwise operation on (..., w, c), charged as an addition even where it has one input."""
    return add(model, c=shape[-1], h=math.prod(shape[:-2]), w=shape[-2])


def reduce(model: Model, *, total: int, values: int) -> Cost:
    """Reduces each `values` numbers of `total` to one."""
    side = math.ceil(math.sqrt(values))
    return global_pool(model, c=total // values, h=side, w=side) + model.cost(0.0, 0.0, launches=1)


def softmax(model: Model, *, shape: Sequence[int]) -> Cost:
    """Softmax over the last dimension: two reductions and two elementwise operations in one launch."""
    once = reduce(model, total=math.prod(shape), values=shape[-1]) + elementwise(model, shape=shape)
    return once + once + model.cost(0.0, 0.0, launches=-3)


def layernorm(model: Model, *, shape: Sequence[int]) -> Cost:
    """Layer normalisation over the last dimension: the model charges it as softmax."""
    return softmax(model, shape=shape)


def unfold(model: Model, *, elements_in: int, elements_out: int) -> Cost:
    """Unfolding of overlapping patches; the batch is part of the element counts."""
    device = model.device
    moved = (elements_in + elements_out) / device.dram_elements_s
    return model.cost(0.0, moved + 2 * elements_out / device.l2_elements_s)

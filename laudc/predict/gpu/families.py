"""What the GPU model needs to know of each family: the launches of its blocks and of its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from laudc.ops.scheduled import BlockRecord
from laudc.predict.families import REGNET, RESNET, VIT
from laudc.predict.gpu.conv_block import ConvBlock
from laudc.predict.gpu.launch import Gpu, Launch, moved
from laudc.predict.gpu.regnet import regnet_launches
from laudc.predict.gpu.resnet import resnet_launches
from laudc.predict.gpu.vit import vit_closing, vit_launches, vit_opening

Array = np.ndarray
# (record, work, groups, gpu, far) → the launches of a block.
BlockLaunches = Callable[..., Iterable[Launch]]
# (record, groups, gpu) → further launches.
RunLaunches = Callable[[Any, Array, Gpu], Iterable[Launch]]


@dataclass(frozen=True)
class GpuFamily:
    """Launches of blocks; what a run that begins with a block adds, and one that ends with it; and what the graph
    does to values on their way into a run and out of it."""

    block: BlockLaunches
    opening: RunLaunches
    closing: RunLaunches
    entering: RunLaunches
    leaving: RunLaunches


def _nothing(record: Any, groups: Array, gpu: Gpu) -> Iterable[Launch]:
    return ()


def _conv_opening(record: BlockRecord, groups: Array, gpu: Gpu) -> Iterable[Launch]:
    return ConvBlock.of(record, groups, gpu, 1.0).opening()


def _transposed(floats: float, groups: Array, gpu: Gpu) -> Iterable[Launch]:
    """Between NCHW and NHWC."""
    return (moved("transpose", gpu, 2.0 * floats * groups.shape[1] * gpu.element * np.ones(len(groups))),)


def _conv_entering(record: BlockRecord, groups: Array, gpu: Gpu) -> Iterable[Launch]:
    return _transposed(record.hin * record.win * record.cin, groups, gpu)


def _conv_leaving(record: BlockRecord, groups: Array, gpu: Gpu) -> Iterable[Launch]:
    return _transposed(record.hout * record.wout * record.cout, groups, gpu)


GPU_FAMILIES: Mapping[str, GpuFamily] = MappingProxyType(
    {
        RESNET: GpuFamily(resnet_launches, _conv_opening, _nothing, _conv_entering, _conv_leaving),
        REGNET: GpuFamily(regnet_launches, _conv_opening, _nothing, _conv_entering, _conv_leaving),
        VIT: GpuFamily(vit_launches, vit_opening, vit_closing, _nothing, _nothing),
    }
)

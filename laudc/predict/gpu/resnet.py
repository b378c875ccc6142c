"""The launches of a bottleneck block of ours (plugins/cuda/bottleneck_run.cpp)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from laudc.ops.scheduled import BlockRecord
from laudc.predict.counts import Counts
from laudc.predict.gpu.conv_block import ConvBlock
from laudc.predict.gpu.gemm import Matrix
from laudc.predict.gpu.launch import Gpu, Launch

Array = np.ndarray

_TAPS = 9


def resnet_launches(record: BlockRecord, counts: Counts, groups: Array, gpu: Gpu, far: float) -> Iterator[Launch]:
    """In their order; conv2 is direct, whatever the record says. `groups` as of `LatencyModel.batch_ns`, `far` as of
    `Place`."""
    block = ConvBlock.of(record, groups, gpu, far)
    run, kept = block.kept_run, counts.channels
    every_in, every_out = (np.full(len(counts), float(value)) for value in (record.cin, record.cout))
    yield from block.decide()
    yield from block.project()
    yield block.convolution(
        "conv1", Matrix(record.cin, record.width, run=run), block.pixels_in, counts.conv1, counts.conv1, every_in, kept
    )
    taps = Matrix(record.width, record.width, _TAPS, run)
    yield block.convolution("conv2", taps, block.pixels_out, counts.conv2, counts.conv1, kept, kept)
    # Mask groups share a list: where one of them drops a pixel, nothing is added.
    yield block.convolution(
        "conv3",
        Matrix(record.width, record.cout),
        block.pixels_out,
        counts.conv2,
        counts.conv2,
        kept,
        every_out,
        added=True,
    )

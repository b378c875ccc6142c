"""The images of calls, and how kernels that go over maps share out their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laudc.predict.gpu.launch import Gpu

Array = np.ndarray

# Thread blocks that share out the reading of maps, and those worth starting of kernels that go over lists.
_CHUNKS_PER_UNIT = 4
BLOCKS_PER_UNIT = 8
# Of the blocks that make decisions and lists (plugins/cuda/lists.cuh), which also add up maps.
LIST_THREADS = 256
LIST_WARPS = 8


@dataclass(frozen=True)
class Images:
    """Which images a call computes, and whether each is a segment of its own."""

    groups: Array
    apart: bool

    @property
    def number(self) -> int:
        """Images of a call."""
        return int(self.groups.shape[1])

    @property
    def segments(self) -> int:
        """Lists of rows of a launch."""
        return self.number if self.apart else 1

    def most(self, each: int) -> int:
        """Rows of a segment where an image has `each`."""
        return each if self.apart else each * self.number

    def sums(self, values: Array) -> Array:
        """Amounts that add up within a segment: by image → (calls, segments)."""
        chosen = values[self.groups]
        return np.asarray(chosen if self.apart else chosen.sum(axis=1, keepdims=True))

    def shared(self, values: Array) -> Array:
        """Numbers that all images of a segment have in common: by image → (calls, segments)."""
        return np.asarray(values[self.groups if self.apart else self.groups[:, :1]])

    def total(self, values: Array) -> Array:
        """By image → (calls,), added up."""
        return np.asarray(values[self.groups].sum(axis=1))


@dataclass(frozen=True)
class Chunks:
    """Thread blocks per image that read a map, and pixels of each."""

    count: int
    pixels: int


def share_out(pixels: int, images: int, gpu: Gpu) -> Chunks:
    """As plugins/cuda/workspace.cpp does it: no piece smaller than a pixel for every warp."""
    wanted = -(-images * pixels // (_CHUNKS_PER_UNIT * gpu.units))
    each = -(-max(LIST_WARPS, wanted) // LIST_WARPS) * LIST_WARPS
    return Chunks(-(-pixels // each), min(each, pixels))


def share_out_tokens(tokens: int, images: int, gpu: Gpu) -> Chunks:
    """As plugins/cuda/vit_call.cpp does it: a warp per token at most."""
    wanted = -(-_CHUNKS_PER_UNIT * gpu.units // images)
    count = max(1, min(wanted, -(-tokens // LIST_WARPS)))
    return Chunks(count, -(-tokens // count))


def tail_rounds(images: int, gpu: Gpu) -> int:
    """How many images one after another: the block that finishes an image last makes its decisions."""
    return -(-images // (gpu.units * gpu.resident(LIST_THREADS)))


def list_steps(items: int) -> int:
    """Steps in which a block goes over items twice, to count and to list them."""
    return 2 * -(-items // LIST_THREADS)


def layer_steps(outputs: int, inputs: int) -> int:
    """Steps of a small layer whose outputs the warps of a block share, and their lanes the inputs."""
    return -(-outputs // LIST_WARPS) * -(-inputs // 32)

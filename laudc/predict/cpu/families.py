"""What the CPU model needs to know of each family: its terms, and how the kernels go through a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from laudc.predict.cpu import outside, regnet_outside, regnet_terms, terms, vit_outside, vit_terms
from laudc.predict.cpu.amounts import Machine
from laudc.predict.cpu.behind import found_terms
from laudc.predict.families import REGNET, RESNET, VIT
from laudc.predict.frame import AnyFrame
from laudc.predict.interface import Place, Scheduled
from laudc.predict.selection import Amounts

Array = np.ndarray
# (record, work, machine, place) → (images, terms).
BlockTerms = Callable[..., Array]
# (from_terms, record, work, machine, place, groups) → time of each call.
BatchTime = Callable[[Callable[[Array], Array], Any, Any, Machine, Place, Array], Array]

# Images that the ResNet kernels work on together (plugins/cpu/bottleneck_run.cpp).
SLICE = 4


@dataclass(frozen=True)
class CpuFamily:
    """The terms of one family: names of those of blocks and of what is outside them, and who counts them."""

    block_names: tuple[str, ...]
    outside_names: tuple[str, ...]
    block_terms: BlockTerms
    frame_terms: Callable[..., Array]
    boundary_terms: Callable[..., Array]
    closing_terms: Callable[..., Array]
    dense_terms: Callable[..., Array]
    batch_ns: BatchTime

    def outside_terms(
        self,
        frame: AnyFrame,
        blocks: Sequence[Scheduled],
        place: Place,
        batch: int = 1,
        amounts: Amounts | None = None,
        threads: int = 1,
    ) -> Array:
        """(terms,) of one call with `threads` threads. `place`: of its first block; `amounts`: what a detector finds in
        the images of the call."""
        values = self.frame_terms(frame, own_stem=bool(blocks) and blocks[0].sparse, batch=batch, place=place)
        if amounts is not None:
            values = values + found_terms(amounts, self.outside_names).sum(axis=0)
        before: Scheduled | None = None
        for block in blocks:
            values = values + self.boundary_terms(before, block, batch)
            if not block.sparse:
                values = values + self.dense_terms(block.record, batch, place.far, threads)
            before = block
        return np.asarray(values + self.closing_terms(before, batch))


def _resnet_batch(
    from_terms: Callable[[Array], Array], record: Any, work: Any, machine: Machine, place: Place, groups: Array
) -> Array:
    """Four images at a time: their weights are read once, except with channel masks, where every image has weights of
    its own."""
    calls, batch = groups.shape
    if batch == 1 or record.channel_groups:
        first = from_terms(terms.block_terms(record, work, machine, place))
        others = from_terms(terms.block_terms(record, work, machine, replace(place, cold=0.0)))
        return np.asarray(first[groups[:, 0]] + others[groups[:, 1:]].sum(axis=1))
    total = np.zeros(calls)
    for at in range(0, batch, SLICE):
        part = groups[:, at : at + SLICE]
        here = place if at == 0 else replace(place, cold=0.0)
        total += from_terms(terms.block_terms(record, work.together(part), machine, here, part.shape[1]))
    return total


def _one_by_one(block_terms: BlockTerms) -> BatchTime:
    """Image after image: the first of a call brings the weights into the caches for the others."""

    def batch_ns(
        from_terms: Callable[[Array], Array], record: Any, work: Any, machine: Machine, place: Place, groups: Array
    ) -> Array:
        total = from_terms(block_terms(record, work, machine, place))[groups[:, 0]]
        if groups.shape[1] == 1:
            return total
        warm = from_terms(block_terms(record, work, machine, replace(place, far=0.0, cold=0.0)))
        return np.asarray(total + warm[groups[:, 1:]].sum(axis=1))

    return batch_ns


def _with_any_threads(dense_terms: Callable[..., Array]) -> Callable[..., Array]:
    """Terms of a dense block that do not depend on the number of threads."""
    return lambda record, batch=1, far=1.0, threads=1: dense_terms(record, batch, far)


CPU_FAMILIES: Mapping[str, CpuFamily] = MappingProxyType(
    {
        RESNET: CpuFamily(
            terms.TERMS,
            outside.OUTSIDE_TERMS,
            terms.block_terms,
            outside.frame_terms,
            outside.boundary_terms,
            outside.closing_terms,
            _with_any_threads(outside.dense_terms),
            _resnet_batch,
        ),
        REGNET: CpuFamily(
            regnet_terms.REGNET_TERMS,
            regnet_outside.REGNET_OUTSIDE_TERMS,
            regnet_terms.regnet_block_terms,
            regnet_outside.regnet_frame_terms,
            regnet_outside.regnet_boundary_terms,
            regnet_outside.regnet_closing_terms,
            regnet_outside.regnet_dense_terms,
            _one_by_one(regnet_terms.regnet_block_terms),
        ),
        VIT: CpuFamily(
            vit_terms.VIT_TERMS,
            vit_outside.VIT_OUTSIDE_TERMS,
            vit_terms.vit_block_terms,
            vit_outside.vit_frame_terms,
            vit_outside.vit_boundary_terms,
            vit_outside.vit_closing_terms,
            _with_any_threads(vit_outside.vit_dense_terms),
            _one_by_one(vit_terms.vit_block_terms),
        ),
    }
)

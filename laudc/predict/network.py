"""From blocks, schedule and activation to the latency of a network and where it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from laudc.ops.scheduled import BlockRecord
from laudc.predict.activation import Activation
from laudc.predict.distribution import Distribution
from laudc.predict.families import Record
from laudc.predict.frame import AnyFrame, selecting_of
from laudc.predict.interface import LatencyModel, Place, Scheduled
from laudc.predict.selection import amounts_of, most_amounts
from laudc.predict.traffic import cold_share, far_share, touched_floats
from laudc.predict.work import Work, count_work, full_work

Array = np.ndarray


@dataclass(frozen=True)
class PlannedBlock:
    """A block and who computes it: "sparse" (our kernels) or "dense" (the runtime)."""

    name: str
    record: Record
    execution: str = "sparse"

    @property
    def scheduled(self) -> Scheduled:
        """Without the name."""
        return Scheduled(self.record, self.execution)


@dataclass(frozen=True)
class BlockPrediction:
    """Predicted time of one block, its border with the block before included."""

    name: str
    execution: str
    latency: Distribution

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"name": self.name, "execution": self.execution, "latency": self.latency.to_dict()}


@dataclass(frozen=True)
class NetworkPrediction:
    """Predicted latency of one call.

    Attributes:
        latency: end to end.
        outside_us: of it stem, head, what is behind the blocks of a detector, and the call itself; mean over the calls.
        blocks: in forward order.
        images, activation: how many images the distribution is over, and where their masks come from.
        batch, threads: of the call.
        status: "calibrated by measurement" or "modelled, not measured".
        samples_us: end to end for every call, in the order of the images.
    """

    latency: Distribution
    outside_us: float
    blocks: tuple[BlockPrediction, ...]
    images: int
    activation: str
    batch: int
    threads: int
    status: str
    samples_us: Array = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the single samples."""
        return {
            "status": self.status,
            "latency": self.latency.to_dict(),
            "outside_us": round(self.outside_us, 2),
            "images": self.images,
            "activation": self.activation,
            "batch": self.batch,
            "threads": self.threads,
            "blocks": [block.to_dict() for block in self.blocks],
        }


def batches(images: int, batch: int) -> Array:
    """(calls, batch): every image at least once, in order; the last call is filled up from the beginning."""
    calls = -(-images // batch)
    return (np.arange(calls * batch) % images).reshape(calls, batch)


def block_counts(blocks: Sequence[PlannedBlock], activation: Activation) -> list[Work]:
    """The work of every block in every image."""
    return [count_work(b.record, activation.masks_of(b.name), activation.images) for b in blocks]


def places(
    blocks: Sequence[PlannedBlock], counts: Sequence[Work], last_cache: int, beside: float = 0.0
) -> list[Place]:
    """Where each block stands: what the block before left it, and how much of the weights the cache still holds;
    `beside`: floats of weights that a call reads beside those of its blocks."""
    floats = float(beside)
    for block, work in zip(blocks, counts, strict=True):
        touched = full_work(block.record) if block.execution == "dense" else work
        floats += float(touched_floats(block.record, touched).mean())
    far, cold = far_share(floats, last_cache), cold_share(floats, last_cache)
    found: list[Place] = []
    before: PlannedBlock | None = None
    for block in blocks:
        ours = block.execution == "sparse"
        run = ours and before is not None and before.execution == "sparse"
        behind = ours and before is not None and before.execution == "dense"
        known = run and before is not None and _leaves_sums(before.record)
        found.append(Place(known, far, 0.0 if found else cold, behind))
        before = block
    return found


def _leaves_sums(record: Record) -> bool:
    """Whether a block of ours adds up its output for the channel masker behind it."""
    return isinstance(record, BlockRecord) and record.channel_groups > 0 and record.mask_groups == 0


def predict_network(
    model: LatencyModel,
    frame: AnyFrame,
    blocks: Sequence[PlannedBlock],
    activation: Activation,
    *,
    batch: int = 1,
    status: str,
) -> NetworkPrediction:
    """The latency distribution of a scheduled network over the images of an activation."""
    return predict_work(
        model,
        frame,
        blocks,
        block_counts(blocks, activation),
        images=activation.images,
        source=activation.source,
        found=activation.found,
        batch=batch,
        status=status,
    )


def predict_work(
    model: LatencyModel,
    frame: AnyFrame,
    blocks: Sequence[PlannedBlock],
    counts: Sequence[Work],
    *,
    images: int,
    source: str,
    found: Mapping[str, Array] = MappingProxyType({}),
    batch: int = 1,
    status: str,
) -> NetworkPrediction:
    """The same from the work of every block in every one of `images` images; `source`: where it comes from; `found`:
    what a detector finds (`laudc.predict.selection`), the most where nothing is said."""
    everything = [full_work(block.record) for block in blocks]
    stands, full = (places(blocks, work, model.last_cache, frame.weights) for work in (counts, everything))
    groups, first = batches(images, batch), np.zeros((1, batch), int)
    selecting = selecting_of(frame)
    per_image = model.found_ns(amounts_of(selecting, found, images))
    total = _outside_ns(model, frame, blocks, stands, batch) + per_image[groups].sum(axis=1)
    most_found = float(model.found_ns(most_amounts(selecting))[0]) * batch
    worst = _outside_ns(model, frame, blocks, full, batch) + most_found
    outside_us = float(total.mean()) / 1e3
    predicted = []
    before: Scheduled | None = None
    for index, (block, work, place) in enumerate(zip(blocks, counts, stands, strict=True)):
        ns = _block_ns(model, block, work, place, groups)
        most = float(_block_ns(model, block, everything[index], full[index], first)[0])
        border = model.border_ns(before, block.scheduled, batch)
        ns, most = ns + border, most + border
        total, worst = total + ns, worst + most
        predicted.append(BlockPrediction(block.name, block.execution, _distribution(model, ns, most)))
        before = block.scheduled
    one = model.network_interval(float(total.mean()) / 1e3)
    latency = Distribution.of(total, worst, None if one is None else (one.low, one.high))
    return NetworkPrediction(
        latency=latency,
        outside_us=outside_us,
        blocks=tuple(predicted),
        images=images,
        activation=source,
        batch=batch,
        threads=model.threads,
        status=status,
        samples_us=total / 1e3,
    )


def _outside_ns(
    model: LatencyModel, frame: AnyFrame, blocks: Sequence[PlannedBlock], stands: Sequence[Place], batch: int
) -> float:
    """Time of stem, head and the call itself, and of the end of the last run."""
    place = stands[0] if stands else Place(cold=0.0)
    own_stem = bool(blocks) and blocks[0].execution == "sparse"
    last = blocks[-1].scheduled if blocks else None
    return model.frame_ns(frame, own_stem=own_stem, batch=batch, place=place) + model.border_ns(last, None, batch)


def _block_ns(model: LatencyModel, block: PlannedBlock, counts: Work, place: Place, groups: Array) -> Array:
    """Time per call, ns."""
    if block.execution != "sparse":
        return np.full(len(groups), model.dense_ns(block.record, groups.shape[1], place.far))
    return model.batch_ns(block.record, counts, place, groups)


def _distribution(model: LatencyModel, ns: Array, worst: float) -> Distribution:
    one = model.block_interval(float(ns.mean()) / 1e3)
    return Distribution.of(ns, worst, None if one is None else (one.low, one.high))

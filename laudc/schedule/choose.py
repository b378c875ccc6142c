"""Scheduling by predicted cost: dense or sparse, conv2 direct or Winograd, and where runs of ours begin and end.

A run that is broken by a dense block pays for two changes of layout, so blocks cannot be decided one by one: the
cheapest chain is found by dynamic programming over the blocks, with the predicted cost of every border.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.activation import Activation
from laudc.predict.counts import count_block
from laudc.predict.frame import Frame
from laudc.predict.interface import LatencyModel, Place, Scheduled
from laudc.predict.network import NetworkPrediction, PlannedBlock, batches, block_counts, places, predict_network
from laudc.schedule.plan import BlockPlan, Plan, describe

_ALGORITHMS = {Conv2Algorithm.DIRECT: "direct", Conv2Algorithm.WINOGRAD_2X2: "Winograd"}


@dataclass(frozen=True)
class _Option:
    """One way to run a block and its predicted mean time per call, borders left out."""

    execution: str
    record: BlockRecord
    ns: float

    @property
    def label(self) -> str:
        """For reasons: "dense", "direct" or "Winograd"."""
        if self.execution == "dense":
            return "dense"
        return _ALGORITHMS[Conv2Algorithm(self.record.conv2_algorithm)]


@dataclass(frozen=True)
class CostChooser:
    """Chooses by a latency model's predictions over the images of an activation."""

    model: LatencyModel
    frame: Frame
    activation: Activation
    batch: int = 1
    status: str = ""

    def choose(self, plan: Plan, records: Mapping[str, BlockRecord]) -> Plan:
        """See `laudc.schedule.plan.Chooser`. With `--schedule dense` or `sparse` only what is left open is chosen."""
        options = [
            self._options(plan, block, records[block.name], place) for block, place in self._places(plan, records)
        ]
        chosen = self._cheapest(options)
        blocks = [PlannedBlock(b.name, o.record, o.execution) for b, o in zip(plan.blocks, chosen, strict=True)]
        predicted = predict_network(
            self.model, self.frame, blocks, self.activation, batch=self.batch, status=self.status
        )
        return replace(plan, blocks=_plans(plan, options, chosen, predicted), predicted=_summary(predicted))

    def _places(self, plan: Plan, records: Mapping[str, BlockRecord]) -> list[tuple[BlockPlan, Place]]:
        blocks = [PlannedBlock(block.name, records[block.name], block.execution) for block in plan.blocks]
        counts = block_counts(blocks, self.activation)
        return list(zip(plan.blocks, places(blocks, counts, self.model.last_cache), strict=True))

    def _options(self, plan: Plan, block: BlockPlan, record: BlockRecord, place: Place) -> list[_Option]:
        dense = _Option("dense", record, self.model.dense_ns(record, self.batch, place.far))
        if block.execution == "dense":
            return [dense]
        found = [self._sparse(block.name, record, algorithm, place) for algorithm in _possible(record)]
        return found if plan.choice == "sparse" else [*found, dense]

    def _sparse(self, name: str, record: BlockRecord, algorithm: Conv2Algorithm, place: Place) -> _Option:
        record = replace(record, conv2_algorithm=algorithm)
        counts = count_block(record, *self.activation.of_block(name), self.activation.images)
        ns = self.model.batch_ns(record, counts, place, batches(self.activation.images, self.batch))
        return _Option("sparse", record, float(np.mean(ns)))

    def _cheapest(self, options: list[list[_Option]]) -> list[_Option]:
        """The chain of options with the least sum of blocks and borders."""
        best: list[tuple[float, list[_Option]]] = []
        for index, choices in enumerate(options):
            best = [min(self._arrivals(best, option, first=index == 0), key=_cost) for option in choices]
        closed = [(cost + self.model.border_ns(_scheduled(path[-1]), None, self.batch), path) for cost, path in best]
        return min(closed, key=_cost)[1] if closed else []

    def _arrivals(
        self, before: list[tuple[float, list[_Option]]], option: _Option, *, first: bool
    ) -> list[tuple[float, list[_Option]]]:
        block = _scheduled(option)
        if first:
            start = self.model.frame_ns(self.frame, own_stem=block.sparse, batch=self.batch)
            return [(start + self.model.border_ns(None, block, self.batch) + option.ns, [option])]
        return [
            (cost + self.model.border_ns(_scheduled(path[-1]), block, self.batch) + option.ns, [*path, option])
            for cost, path in before
        ]


def _cost(arrival: tuple[float, list[_Option]]) -> float:
    return arrival[0]


def _scheduled(option: _Option) -> Scheduled:
    return Scheduled(option.record, option.execution)


def _possible(record: BlockRecord) -> list[Conv2Algorithm]:
    both = [Conv2Algorithm.DIRECT, Conv2Algorithm.WINOGRAD_2X2]
    return both if record.stride == 1 else both[:1]


def _plans(
    plan: Plan, options: list[list[_Option]], chosen: list[_Option], predicted: NetworkPrediction
) -> tuple[BlockPlan, ...]:
    made = []
    for block, choices, option, expected in zip(plan.blocks, options, chosen, predicted.blocks, strict=True):
        sparse = option.execution == "sparse"
        made.append(
            BlockPlan(
                block.name,
                option.execution,
                _reason(block, choices, option),
                option.record if sparse else None,
                expected.latency.to_dict(),
            )
        )
    return tuple(made)


def _reason(block: BlockPlan, choices: list[_Option], option: _Option) -> str:
    if block.execution == "dense":
        return block.reason
    what = describe(option.record) if option.execution == "sparse" else "computes everything, then masks"
    others = ", ".join(f"{other.label} {_us(other.ns)}" for other in choices if other is not option)
    return f"{what}: predicted {_us(option.ns)}" + (f" ({others})" if others else "")


def _us(ns: float) -> str:
    return f"{ns / 1e3:.0f} µs"


def _summary(predicted: NetworkPrediction) -> dict[str, object]:
    """The network's part of a prediction: blocks have their own."""
    data = predicted.to_dict()
    del data["blocks"]
    return data

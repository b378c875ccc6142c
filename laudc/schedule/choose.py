"""Scheduling by predicted cost: dense or sparse, conv2 direct or Winograd, and where runs of ours begin and end.

A run that is broken by a dense block pays for two changes of layout, so blocks cannot be decided one by one: the
cheapest chain is found by dynamic programming over the blocks, with the predicted cost of every border.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.activation import Activation
from laudc.predict.families import RESNET, Record, family_of
from laudc.predict.frame import AnyFrame
from laudc.predict.interface import LatencyModel, Place, Scheduled
from laudc.predict.network import NetworkPrediction, PlannedBlock, batches, block_counts, places, predict_network
from laudc.predict.work import count_work
from laudc.schedule.plan import BlockPlan, Plan, describe

_ALGORITHMS = {Conv2Algorithm.DIRECT: "direct", Conv2Algorithm.WINOGRAD_2X2: "Winograd"}

# A chain with borders must be predicted this much faster than one of equal blocks. Predictions of calls err by some
# per cent, most of it in what the runtime does at borders and in its own blocks, so that smaller gains are chance.
_WORTH_A_BORDER = 0.97


@dataclass(frozen=True)
class _Option:
    """One way to run a block and its predicted mean time per call, borders left out; `behind_ns`: what a block of ours
    takes more right behind one of the runtime's, 0 where there is none it could follow."""

    execution: str
    record: Record
    ns: float
    behind_ns: float = 0.0

    @property
    def label(self) -> str:
        """For reasons: "dense", "sparse", or of a bottleneck "direct" or "Winograd"."""
        record = self.record
        if self.execution == "dense" or not isinstance(record, BlockRecord) or family_of(record) != RESNET:
            return self.execution
        return _ALGORITHMS[Conv2Algorithm(record.conv2_algorithm)]


@dataclass(frozen=True)
class CostChooser:
    """Chooses by a latency model's predictions over the images of an activation."""

    model: LatencyModel
    frame: AnyFrame
    activation: Activation
    batch: int = 1
    status: str = ""

    def choose(self, plan: Plan, records: Mapping[str, Record]) -> Plan:
        """See `laudc.schedule.plan.Chooser`. With `--schedule dense` or `sparse` only what is left open is chosen."""
        plan = replace(plan, blocks=tuple(self._covered(block, records[block.name]) for block in plan.blocks))
        options = self._options(plan, records)
        chosen, predicted = self._best(plan, self._cheapest(options), _uniform(options))
        return replace(plan, blocks=_plans(plan, options, chosen, predicted), predicted=_summary(predicted))

    def _best(
        self, plan: Plan, cheapest: list[_Option], uniform: Iterable[list[_Option]]
    ) -> tuple[list[_Option], NetworkPrediction]:
        """The cheapest chain and its prediction, or one without borders that is as good as the model can tell."""

        def predicted(chain: list[_Option]) -> tuple[list[_Option], NetworkPrediction]:
            return chain, self._predict(plan, chain)

        def handicapped(found: tuple[list[_Option], NetworkPrediction]) -> float:
            borders = len({option.execution for option in found[0]}) > 1
            return found[1].latency.mean_us / (_WORTH_A_BORDER if borders else 1.0)

        # What a block leaves the next one depends on who computes it; the chain was found without knowing.
        others = [chain for chain in uniform if chain != cheapest]
        return min(map(predicted, [cheapest, *others]), key=handicapped)

    def _predict(self, plan: Plan, chain: list[_Option]) -> NetworkPrediction:
        blocks = [PlannedBlock(b.name, o.record, o.execution) for b, o in zip(plan.blocks, chain, strict=True)]
        return predict_network(self.model, self.frame, blocks, self.activation, batch=self.batch, status=self.status)

    def _covered(self, block: BlockPlan, record: Record) -> BlockPlan:
        """The block's plan, dense where our kernels for the device do not cover it."""
        if block.execution == "dense" or self.model.variants(record):
            return block
        return replace(block, execution="dense", reason="our kernels for the device do not cover it", record=None)

    def _places(self, plan: Plan, records: Mapping[str, Record]) -> list[tuple[BlockPlan, Place]]:
        blocks = [PlannedBlock(block.name, records[block.name], block.execution) for block in plan.blocks]
        counts = block_counts(blocks, self.activation)
        return list(zip(plan.blocks, places(blocks, counts, self.model.last_cache, self.frame.weights), strict=True))

    def _options(self, plan: Plan, records: Mapping[str, Record]) -> list[list[_Option]]:
        """The ways to run each block."""
        found: list[list[_Option]] = []
        for block, place in self._places(plan, records):
            behind = any(option.execution == "dense" for option in found[-1]) if found else False
            found.append(self._options_of(plan, block, records[block.name], place, behind=behind))
        return found

    def _options_of(self, plan: Plan, block: BlockPlan, record: Record, place: Place, *, behind: bool) -> list[_Option]:
        """The ways to run a block; `behind`: it may stand right behind one of the runtime's."""
        found: list[_Option] = []
        if block.execution != "dense":
            found += [self._sparse(block.name, one, place, behind=behind) for one in self.model.variants(record)]
        if block.execution == "dense" or plan.choice != "sparse":
            found.append(_Option("dense", record, self.model.dense_ns(record, self.batch, place.far)))
        return found

    def _sparse(self, name: str, record: Record, place: Place, *, behind: bool) -> _Option:
        counts = count_work(record, self.activation.masks_of(name), self.activation.images)
        calls = batches(self.activation.images, self.batch)

        def mean_ns(where: Place) -> float:
            return float(np.mean(self.model.batch_ns(record, counts, where, calls)))

        ns = mean_ns(replace(place, behind=False))
        # What the block before leaves in a core's own caches is a matter of CPUs.
        if behind and self.model.threads:
            return _Option("sparse", record, ns, mean_ns(replace(place, behind=True)) - ns)
        return _Option("sparse", record, ns)

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
        return [(cost + self._step_ns(path[-1], option), [*path, option]) for cost, path in before]

    def _step_ns(self, before: _Option, option: _Option) -> float:
        """What an option adds to a chain: the border to the block before, and its own time there."""
        border = self.model.border_ns(_scheduled(before), _scheduled(option), self.batch)
        return border + option.ns + (option.behind_ns if before.execution == "dense" else 0.0)


def _uniform(options: list[list[_Option]]) -> Iterator[list[_Option]]:
    """The chains of sparse blocks only and of dense blocks only, as far as every block has a choice of both."""
    for execution in ("sparse", "dense"):
        chain = [[option for option in choices if option.execution == execution] for choices in options]
        if all(0 < len(kind) < len(choices) for kind, choices in zip(chain, options, strict=True)):
            yield [min(kind, key=lambda option: option.ns) for kind in chain]


def _cost(arrival: tuple[float, list[_Option]]) -> float:
    return arrival[0]


def _scheduled(option: _Option) -> Scheduled:
    return Scheduled(option.record, option.execution)


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

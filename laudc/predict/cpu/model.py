"""The latency model of a CPU: terms times fitted coefficients, times what a learned residual adds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.cpu.amounts import Machine
from laudc.predict.cpu.behind import found_terms
from laudc.predict.cpu.cost import Cost
from laudc.predict.cpu.families import CPU_FAMILIES
from laudc.predict.families import RESNET, Record, family_of
from laudc.predict.frame import AnyFrame
from laudc.predict.interface import COLD, Conditions, Interval, Place, Scheduled
from laudc.predict.residual import Residual
from laudc.predict.selection import Amounts
from laudc.predict.work import Work

Array = np.ndarray


@dataclass(frozen=True)
class Fit:
    """What work costs, for one family and number of threads. `usual`: the conditions of the machine when nothing slows
    it down; its clock is the one that costs are for. None: nobody knows. `clock_share`: by how much times follow the
    clock that is told: with its power. What is told is one noisy reading, and what slows arithmetic in a core's own
    caches down, such as a neighbour on the same core, slows other work less. `cache_for_weights`: in which share of the
    last-level cache weights stay from one call to the next: not in all of it where neighbours use it too."""

    threads: int
    block: Cost
    outside: Cost
    residual: Residual | None
    block_intervals: tuple[Interval, ...]
    network_intervals: tuple[Interval, ...]
    family: str = RESNET
    usual: Conditions | None = None
    clock_share: float = 1.0
    cache_for_weights: float = 1.0

    def blocks_ns(self, terms: Array, excess: Array) -> Array:
        """Time of blocks from their terms (blocks, terms), each at its own handover (blocks,)."""
        return self.with_residual(terms, self.block.of(terms, excess))

    def with_residual(self, terms: Array, analytic: Array) -> Array:
        """What the learned residual, where there is one, makes of analytic times (blocks,)."""
        return analytic if self.residual is None else np.asarray(analytic * np.exp(self.residual.log_factor(terms)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a device profile."""
        about = CPU_FAMILIES[self.family]
        return {
            "threads": self.threads,
            **({} if self.usual is None else _known(self.usual)),
            "clock_share": round(self.clock_share, 3),
            "cache_for_weights": self.cache_for_weights,
            "block_ns": _named(about.block_names, self.block.ns),
            "block_apart_ns": _named(about.block_names, self.block.apart_ns),
            "outside_ns": _named(about.outside_names, self.outside.ns),
            "outside_apart_ns": _named(about.outside_names, self.outside.apart_ns),
            "residual": None if self.residual is None else self.residual.to_dict(),
            "block_intervals": [interval.to_dict() for interval in self.block_intervals],
            "network_intervals": [interval.to_dict() for interval in self.network_intervals],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], family: str = RESNET) -> Fit:
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        about = CPU_FAMILIES[family]
        if int(data["threads"]) < 1:
            raise ValueError(f"a fit for {data['threads']} threads")
        residual = data.get("residual")
        return cls(
            int(data["threads"]),
            _cost(about.block_names, data["block_ns"], data["block_apart_ns"]),
            _cost(about.outside_names, data["outside_ns"], data["outside_apart_ns"]),
            None if residual is None else _residual(residual, len(about.block_names)),
            tuple(Interval.from_dict(entry) for entry in data.get("block_intervals", ())),
            tuple(Interval.from_dict(entry) for entry in data.get("network_intervals", ())),
            family,
            _conditions(data) if "clock_ns" in data else None,
            _share(data, "clock_share"),
            _share(data, "cache_for_weights"),
        )


def _around(intervals: Sequence[Interval], mean_us: float) -> Interval | None:
    return next((one for one in intervals if mean_us <= one.up_to_us), None)


def _named(names: Sequence[str], values: Array) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in zip(names, values, strict=True) if value != 0}


def _residual(data: Mapping[str, Any], terms: int) -> Residual:
    residual = Residual.from_dict(dict(data))
    if not len(residual.mean) == len(residual.scale) == terms:
        raise ValueError(f"a residual of {len(residual.mean)} terms, where blocks have {terms}")
    return residual


def _cost(names: Sequence[str], ns: Mapping[str, Any], apart_ns: Mapping[str, Any]) -> Cost:
    cost = Cost(_vector(names, ns), _vector(names, apart_ns))
    if (cost.ns < 0).any():
        raise ValueError("coefficients must not be negative")
    return cost


def _conditions(data: Mapping[str, Any]) -> Conditions:
    usual = Conditions(float(data["clock_ns"]), float(data["handover"]), float(data.get("cache_share", math.nan)))
    if not (np.isfinite(usual.clock_ns) and usual.clock_ns > 0 and np.isfinite(usual.handover) and usual.handover >= 0):
        raise ValueError(f"clock_ns {usual.clock_ns} with handover {usual.handover}")
    if not (math.isnan(usual.cache_share) or 0 < usual.cache_share <= 1):
        raise ValueError(f"cache_share {usual.cache_share}")
    return usual


def _share(data: Mapping[str, Any], name: str) -> float:
    share = float(data.get(name, 1.0))
    if not 0 <= share <= 1:
        raise ValueError(f"{name} {share}")
    return share


def _known(conditions: Conditions) -> dict[str, float]:
    return {name: value for name, value in asdict(conditions).items() if not math.isnan(value)}


def _vector(names: Sequence[str], values: Mapping[str, Any]) -> Array:
    unknown = set(values) - set(names)
    if unknown:
        raise ValueError(f"unknown terms {', '.join(sorted(unknown))}")
    vector = np.asarray([float(values.get(name, 0.0)) for name in names])
    if not np.isfinite(vector).all():
        raise ValueError("coefficients must be finite")
    return vector


class CpuModel:
    """Predicts calls of one family's networks on one CPU with one number of threads, under the fit's usual conditions
    or others. See `laudc.predict.interface.LatencyModel`."""

    def __init__(self, machine: Machine, fit: Fit, conditions: Conditions | None = None) -> None:
        self.machine = machine
        self.fit = fit
        self._family = CPU_FAMILIES[fit.family]
        self._conditions = conditions if fit.usual is not None and conditions is not None else fit.usual
        excess, clock = self._beside_usual()
        self._block_ns = fit.block.at(excess) * clock**fit.clock_share
        self._outside_ns = fit.outside.at(excess) * clock**fit.clock_share

    def _beside_usual(self) -> tuple[float, float]:
        """The excess of the handover, and the clock over the usual one."""
        now, usual = self._conditions, self.fit.usual
        return (0.0, 1.0) if now is None or usual is None else (now.excess(usual), now.clock_ns / usual.clock_ns)

    @property
    def threads(self) -> int:
        """Threads of a call."""
        return self.machine.threads

    @property
    def conditions(self) -> Conditions | None:
        """See `LatencyModel.conditions`."""
        return self._conditions

    def at(self, conditions: Conditions) -> CpuModel:
        """See `LatencyModel.at`."""
        return CpuModel(self.machine, self.fit, conditions)

    @property
    def last_cache(self) -> int:
        """Bytes of the last-level cache in which weights stay, as far as neighbours leave it to us under these
        conditions."""
        now, usual = self._conditions, self.fit.usual
        left = 1.0 if now is None or usual is None else now.left_of_cache(usual)
        return self.machine.for_weights(self.fit.cache_for_weights * left)

    def network_interval(self, mean_us: float) -> Interval | None:
        """See `LatencyModel.network_interval`."""
        usual = _around(self.fit.network_intervals, mean_us)
        return None if usual is None else usual.grown(float(usual.growth(mean_us, *self._beside_usual())))

    def variants(self, record: Record) -> tuple[Record, ...]:
        """See `LatencyModel.variants`: of a bottleneck, one for each algorithm of conv2."""
        if family_of(record) != RESNET or not isinstance(record, BlockRecord):
            return (record,)
        direct = replace(record, conv2_algorithm=Conv2Algorithm.DIRECT)
        winograd = replace(record, conv2_algorithm=Conv2Algorithm.WINOGRAD_2X2)
        return (direct, winograd) if record.stride == 1 else (direct,)

    def batch_ns(self, record: Record, counts: Work, place: Place, groups: Array) -> Array:
        """Time of a block for each call; `groups` (calls, batch) says which images a call computes."""
        return self._family.batch_ns(self.from_terms, record, counts, self.machine, place, groups)

    def from_terms(self, terms: Array) -> Array:
        """Time of blocks from their terms (calls, terms)."""
        return self.fit.with_residual(terms, terms @ self._block_ns)

    def frame_ns(self, frame: AnyFrame, *, own_stem: bool, batch: int = 1, place: Place = COLD) -> float:
        """Time of stem, head and the call itself."""
        return float(self._family.frame_terms(frame, own_stem=own_stem, batch=batch, place=place) @ self._outside_ns)

    def found_ns(self, amounts: Amounts) -> Array:
        """Time of what depends on what is found in each image."""
        return np.asarray(found_terms(amounts, self._family.outside_names) @ self._outside_ns)

    def dense_ns(self, record: Record, batch: int = 1, far: float = 1.0) -> float:
        """Time of a block that the runtime computes."""
        return float(self._family.dense_terms(record, batch, far, self.threads) @ self._outside_ns)

    def border_ns(self, before: Scheduled | None, block: Scheduled | None, batch: int = 1) -> float:
        """Time that the border between two blocks costs; `block` None: the end of the network."""
        family = self._family
        terms = family.closing_terms(before, batch) if block is None else family.boundary_terms(before, block, batch)
        return float(terms @ self._outside_ns)

    def block_interval(self, mean_us: float) -> Interval | None:
        """The interval of block predictions around `mean_us`."""
        return _around(self.fit.block_intervals, mean_us)

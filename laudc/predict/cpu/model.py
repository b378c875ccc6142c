"""The latency model of a CPU: terms times fitted coefficients, times what a learned residual adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.cpu.amounts import Machine
from laudc.predict.cpu.behind import found_terms
from laudc.predict.cpu.families import CPU_FAMILIES
from laudc.predict.families import RESNET, Record, family_of
from laudc.predict.frame import AnyFrame
from laudc.predict.interface import COLD, Interval, Place, Scheduled
from laudc.predict.residual import Residual
from laudc.predict.selection import Amounts
from laudc.predict.work import Work

Array = np.ndarray


@dataclass(frozen=True)
class Fit:
    """Coefficients in nanoseconds per unit of work, for one family and number of threads; `clock_ns`: the clock that
    they are for, as what it makes of the fixed work of `laudc.calibrate.pace` (0: not known)."""

    threads: int
    block: Array
    outside: Array
    residual: Residual | None
    block_intervals: tuple[Interval, ...]
    network_interval: Interval | None
    family: str = RESNET
    clock_ns: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a device profile."""
        about = CPU_FAMILIES[self.family]
        return {
            "threads": self.threads,
            "clock_ns": self.clock_ns,
            "block_ns": _named(about.block_names, self.block),
            "outside_ns": _named(about.outside_names, self.outside),
            "residual": None if self.residual is None else self.residual.to_dict(),
            "block_intervals": [_interval_dict(interval) for interval in self.block_intervals],
            "network_interval": None if self.network_interval is None else _interval_dict(self.network_interval),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], family: str = RESNET) -> Fit:
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        about = CPU_FAMILIES[family]
        if int(data["threads"]) < 1:
            raise ValueError(f"a fit for {data['threads']} threads")
        residual, network = data.get("residual"), data.get("network_interval")
        return cls(
            int(data["threads"]),
            _vector(about.block_names, data["block_ns"]),
            _vector(about.outside_names, data["outside_ns"]),
            None if residual is None else Residual.from_dict(residual),
            tuple(Interval(**entry) for entry in data.get("block_intervals", ())),
            None if network is None else Interval(**network),
            family,
            float(data.get("clock_ns", 0.0)),
        )


def _named(names: Sequence[str], values: Array) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in zip(names, values, strict=True) if value > 0}


def _vector(names: Sequence[str], values: Mapping[str, Any]) -> Array:
    unknown = set(values) - set(names)
    if unknown:
        raise ValueError(f"unknown terms {', '.join(sorted(unknown))}")
    vector = np.asarray([float(values.get(name, 0.0)) for name in names])
    if not (np.isfinite(vector) & (vector >= 0)).all():
        raise ValueError("coefficients must be finite and not negative")
    return vector


def _interval_dict(interval: Interval) -> dict[str, float]:
    return {"up_to_us": interval.up_to_us, "low": round(interval.low, 4), "high": round(interval.high, 4)}


class CpuModel:
    """Predicts calls of one family's networks on one CPU with one number of threads. See
    `laudc.predict.interface.LatencyModel`."""

    def __init__(self, machine: Machine, fit: Fit) -> None:
        self.machine = machine
        self.fit = fit
        self._family = CPU_FAMILIES[fit.family]

    @property
    def threads(self) -> int:
        """Threads of a call."""
        return self.machine.threads

    @property
    def clock_ns(self) -> float:
        """See `LatencyModel.clock_ns`."""
        return self.fit.clock_ns

    @property
    def last_cache(self) -> int:
        """Bytes of the last-level cache."""
        return self.machine.last_cache

    @property
    def network_interval(self) -> Interval | None:
        """The interval of end-to-end predictions."""
        return self.fit.network_interval

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
        analytic = terms @ self.fit.block
        if self.fit.residual is None:
            return np.asarray(analytic)
        return np.asarray(analytic * np.exp(self.fit.residual.log_factor(terms)))

    def frame_ns(self, frame: AnyFrame, *, own_stem: bool, batch: int = 1, place: Place = COLD) -> float:
        """Time of stem, head and the call itself."""
        return float(self._family.frame_terms(frame, own_stem=own_stem, batch=batch, place=place) @ self.fit.outside)

    def found_ns(self, amounts: Amounts) -> Array:
        """Time of what depends on what is found in each image."""
        return np.asarray(found_terms(amounts, self._family.outside_names) @ self.fit.outside)

    def dense_ns(self, record: Record, batch: int = 1, far: float = 1.0) -> float:
        """Time of a block that the runtime computes."""
        return float(self._family.dense_terms(record, batch, far, self.threads) @ self.fit.outside)

    def border_ns(self, before: Scheduled | None, block: Scheduled | None, batch: int = 1) -> float:
        """Time that the border between two blocks costs; `block` None: the end of the network."""
        family = self._family
        terms = family.closing_terms(before, batch) if block is None else family.boundary_terms(before, block, batch)
        return float(terms @ self.fit.outside)

    def block_interval(self, mean_us: float) -> Interval | None:
        """The interval of block predictions around `mean_us`."""
        return next((one for one in self.fit.block_intervals if mean_us <= one.up_to_us), None)

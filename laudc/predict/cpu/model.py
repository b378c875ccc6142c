"""The latency model of a CPU: terms times fitted coefficients, times what a learned residual adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from laudc.ops.scheduled import BlockRecord
from laudc.predict.counts import Counts
from laudc.predict.cpu.outside import OUTSIDE_TERMS, boundary_terms, closing_terms, dense_terms, frame_terms
from laudc.predict.cpu.terms import TERMS, Machine, block_terms
from laudc.predict.frame import Frame
from laudc.predict.interface import Interval, Place, Scheduled
from laudc.predict.residual import Residual

Array = np.ndarray

# Samples that the kernels work on together (plugins/cpu/bottleneck_run.cpp).
SLICE = 4


@dataclass(frozen=True)
class Fit:
    """Coefficients in nanoseconds per unit of work, for one number of threads."""

    threads: int
    block: Array
    outside: Array
    residual: Residual | None
    block_intervals: tuple[Interval, ...]
    network_interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a device profile."""
        return {
            "threads": self.threads,
            "block_ns": _named(TERMS, self.block),
            "outside_ns": _named(OUTSIDE_TERMS, self.outside),
            "residual": None if self.residual is None else self.residual.to_dict(),
            "block_intervals": [_interval_dict(interval) for interval in self.block_intervals],
            "network_interval": None if self.network_interval is None else _interval_dict(self.network_interval),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fit:
        """Inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        residual, network = data.get("residual"), data.get("network_interval")
        return cls(
            int(data["threads"]),
            _vector(TERMS, data["block_ns"]),
            _vector(OUTSIDE_TERMS, data["outside_ns"]),
            None if residual is None else Residual.from_dict(residual),
            tuple(Interval(**entry) for entry in data.get("block_intervals", ())),
            None if network is None else Interval(**network),
        )


def _named(names: Sequence[str], values: Array) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in zip(names, values, strict=True) if value > 0}


def _vector(names: Sequence[str], values: Mapping[str, Any]) -> Array:
    unknown = set(values) - set(names)
    if unknown:
        raise ValueError(f"unknown terms {', '.join(sorted(unknown))}")
    vector = np.asarray([float(values.get(name, 0.0)) for name in names])
    if (vector < 0).any():
        raise ValueError("coefficients must not be negative")
    return vector


def _interval_dict(interval: Interval) -> dict[str, float]:
    return {"up_to_us": interval.up_to_us, "low": round(interval.low, 4), "high": round(interval.high, 4)}


class CpuModel:
    """Predicts calls on one CPU with one number of threads. See `laudc.predict.interface.LatencyModel`."""

    def __init__(self, machine: Machine, fit: Fit) -> None:
        self.machine = machine
        self.fit = fit

    @property
    def threads(self) -> int:
        """Threads of a call."""
        return self.machine.threads

    @property
    def last_cache(self) -> int:
        """Bytes of the last-level cache."""
        return self.machine.last_cache

    @property
    def network_interval(self) -> Interval | None:
        """The interval of end-to-end predictions."""
        return self.fit.network_interval

    def block_ns(self, record: BlockRecord, counts: Counts, place: Place) -> Array:
        """Time of a block of ours for each image, computed alone."""
        return self.from_terms(block_terms(record, counts, self.machine, place))

    def batch_ns(self, record: BlockRecord, counts: Counts, place: Place, groups: Array) -> Array:
        """Time of a block for each call; `groups` (calls, batch) says which images a call computes.

        The kernels take four images at a time: their weights are read once, except with channel masks, where every
        image has weights of its own.
        """
        calls, batch = groups.shape
        if batch == 1:
            return self.block_ns(record, counts, place)[groups[:, 0]]
        if record.channel_groups:
            return self.block_ns(record, counts, place)[groups].sum(axis=1)
        total = np.zeros(calls)
        for at in range(0, batch, SLICE):
            part = groups[:, at : at + SLICE]
            together = counts.together(part)
            total += self.from_terms(block_terms(record, together, self.machine, place, part.shape[1]))
        return total

    def from_terms(self, terms: Array) -> Array:
        """Time of blocks from their terms (calls, terms)."""
        analytic = terms @ self.fit.block
        if self.fit.residual is None:
            return analytic
        return analytic * np.exp(self.fit.residual.log_factor(terms))

    def frame_ns(self, frame: Frame, *, own_stem: bool, batch: int = 1, far: float = 1.0) -> float:
        """Time of stem, head and the call itself."""
        return float(frame_terms(frame, own_stem=own_stem, batch=batch, far=far) @ self.fit.outside)

    def dense_ns(self, record: BlockRecord, batch: int = 1, far: float = 1.0) -> float:
        """Time of a block that the runtime computes."""
        return float(dense_terms(record, batch, far) @ self.fit.outside)

    def border_ns(self, before: Scheduled | None, block: Scheduled | None, batch: int = 1) -> float:
        """Time that the border between two blocks costs; `block` None: the end of the network."""
        terms = closing_terms(before, batch) if block is None else boundary_terms(before, block, batch)
        return float(terms @ self.fit.outside)

    def block_interval(self, mean_us: float) -> Interval | None:
        """The interval of block predictions around `mean_us`."""
        return next((one for one in self.fit.block_intervals if mean_us <= one.up_to_us), None)

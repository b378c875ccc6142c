"""From samples to coefficients, with errors on networks that a fit has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from laudc.calibrate.design import Design
from laudc.calibrate.frames import found_of, frame_of
from laudc.calibrate.samples import Sample
from laudc.predict.cpu.amounts import Machine
from laudc.predict.cpu.families import CPU_FAMILIES
from laudc.predict.cpu.model import CpuModel, Fit
from laudc.predict.interface import Interval
from laudc.predict.linear import fit_relative
from laudc.predict.network import PlannedBlock, places
from laudc.predict.residual import Residual, fit_residual
from laudc.predict.work import work_of_row

Array = np.ndarray

_FOLDS = 8
_COVERAGE = 0.90
_INTERVAL_LIMITS_US = (30.0, 300.0)
_ANY_US = 1e9
# A learned residual needs this many blocks, and has to lower the held-out error by this factor to be kept.
_RESIDUAL_LEAST_BLOCKS = 200
_RESIDUAL_WORTH = 0.97


@dataclass(frozen=True)
class _Rows:
    """Training data of one family and number of threads: blocks of ours, and what is left of the calls.

    all_ours: calls without a block of the runtime. of_frame: terms that only stem, head and the call itself have.
    """

    family: str
    block_terms: Array
    block_ns: Array
    block_design: Array
    block_sample: Array
    outside_terms: Array
    outside_ns: Array
    total_ns: Array
    all_ours: Array
    of_frame: Array
    design: Array

    @property
    def importance(self) -> Array:
        """(blocks,) how much each block's relative error counts: by its share in its call, but less than in proportion,
        since what small blocks tell of fixed costs holds for all."""
        share = self.block_ns / self.total_ns[self.block_sample]
        return np.asarray(np.sqrt(share / share.mean()))

    def without(self, designs: set[int]) -> _Rows:
        """The rows of the other networks."""
        return self._where(~np.isin(self.block_design, list(designs)), ~np.isin(self.design, list(designs)))

    def only(self, designs: set[int]) -> _Rows:
        """The rows of these networks."""
        return self._where(np.isin(self.block_design, list(designs)), np.isin(self.design, list(designs)))

    def _where(self, blocks: Array, calls: Array) -> _Rows:
        order = np.cumsum(calls) - 1
        return _Rows(
            self.family,
            self.block_terms[blocks],
            self.block_ns[blocks],
            self.block_design[blocks],
            order[self.block_sample[blocks]],
            self.outside_terms[calls],
            self.outside_ns[calls],
            self.total_ns[calls],
            self.all_ours[calls],
            self.of_frame,
            self.design[calls],
        )


def fit_threads(
    designs: Sequence[Design], samples: Sequence[Sample], machine: Machine, clock_ns: float
) -> tuple[Fit, dict[str, Any]]:
    """Coefficients for one family's networks on `machine`, and what they achieve on networks left out in turn;
    `clock_ns`: the clock that the samples are of."""
    rows = _rows(designs, [sample for sample in samples if sample.threads == machine.threads], machine)
    plain = _held_out(rows, machine, residual=False)
    chosen, residual = plain, False
    if len(rows.block_ns) >= _RESIDUAL_LEAST_BLOCKS:
        learned = _held_out(rows, machine, residual=True)
        residual = learned.error < _RESIDUAL_WORTH * plain.error
        chosen = learned if residual else plain
    fit = _fit(rows, machine, residual=residual)
    calls, totals, ours = chosen.calls, chosen.calls_measured, chosen.all_ours
    full = Fit(
        fit.threads,
        fit.block,
        fit.outside,
        fit.residual,
        tuple(block_intervals(chosen.blocks, chosen.blocks_measured)),
        # Engines are ours throughout, or nearly so.
        symmetric_interval(calls[ours], totals[ours], _ANY_US),
        fit.family,
        clock_ns,
    )
    errors = {"blocks": error_summary(chosen.blocks, chosen.blocks_measured), "networks": error_summary(calls, totals)}
    detectors = np.isin(chosen.design, [design.index for design in designs if design.tail is not None])
    if detectors.any():
        errors["detectors"] = error_summary(calls[detectors], totals[detectors])
    return full, {**errors, "learned_residual": residual}


def _rows(designs: Sequence[Design], samples: Sequence[Sample], machine: Machine) -> _Rows:
    by_index = {design.index: design for design in designs}
    name = designs[0].family
    family = CPU_FAMILIES[name]
    frames = {design.index: frame_of(design) for design in designs}
    found = {design.index: found_of(design) for design in designs}
    parts: list[tuple[Array, float, int, int]] = []
    outside, around, left, totals, owners, all_ours = [], [], [], [], [], []
    for number, sample in enumerate(samples):
        design = by_index[sample.design]
        blocks = [
            PlannedBlock(path, record, execution)
            for (path, record), execution in zip(design.records(64), design.executions(sample.kind), strict=True)
        ]
        counts = [work_of_row(block.record, row) for block, row in zip(blocks, sample.counts, strict=True)]
        stands = places(blocks, counts, machine.last_cache, frames[sample.design].weights)
        for block, work, place, ns in zip(blocks, counts, stands, sample.block_ns, strict=True):
            if ns is not None:
                parts.append((family.block_terms(block.record, work, machine, place)[0], ns, sample.design, number))
        scheduled, frame = [block.scheduled for block in blocks], frames[sample.design]
        outside.append(
            family.outside_terms(frame, scheduled, stands[0], amounts=found[sample.design], threads=machine.threads)
        )
        around.append(family.frame_terms(frame, own_stem=scheduled[0].sparse, place=stands[0]))
        left.append(sample.total_ns - sum(ns for ns in sample.block_ns if ns is not None))
        totals.append(sample.total_ns)
        owners.append(sample.design)
        all_ours.append(all(block.sparse for block in scheduled))
    terms, ns, owner, numbers = zip(*parts, strict=True)
    return _Rows(
        name,
        np.stack(terms),
        np.asarray(ns),
        np.asarray(owner),
        np.asarray(numbers),
        np.stack(outside),
        np.asarray(left),
        np.asarray(totals),
        np.asarray(all_ours),
        ~(np.stack(outside) - np.stack(around) > 0).any(axis=0),
        np.asarray(owners),
    )


def _fit(rows: _Rows, machine: Machine, *, residual: bool) -> Fit:
    block = fit_relative(rows.block_terms, rows.block_ns, importance=rows.importance)
    outside = _fit_outside(rows)
    learned: Residual | None = None
    if residual:
        learned = fit_residual(rows.block_terms, np.log(rows.block_ns / (rows.block_terms @ block)))
    return Fit(machine.threads, block, outside, learned, (), None, rows.family)


def _fit_outside(rows: _Rows) -> Array:
    """Stem, head and the call itself from calls that are all ours, as engines are, then what the runtime's blocks and
    the borders add: those take most of their calls, and an error in them would be laid upon stem and head. Borders are
    in calls that are all ours too; once they are known, stem, head and call are fitted again to what they leave."""
    # What is left of a call counts as much as it weighs in the whole call.
    weight = np.maximum(rows.outside_ns, 0.1 * rows.total_ns)
    ours = rows.all_ours
    own = fit_relative(rows.outside_terms[ours], rows.outside_ns[ours], scale=weight[ours])
    known = rows.of_frame & (rows.outside_terms[ours] > 0).any(axis=0)
    left = rows.outside_ns - rows.outside_terms @ (own * known)
    added = fit_relative(rows.outside_terms * ~known, left, scale=weight)
    rest = (rows.outside_ns - rows.outside_terms @ added)[ours]
    return np.where(known, fit_relative(rows.outside_terms[ours] * known, rest, scale=weight[ours]), added)


@dataclass(frozen=True)
class _HeldOut:
    """Predicted and measured: blocks, then calls, with the networks that these are of and whether they are all ours."""

    blocks: Array
    blocks_measured: Array
    calls: Array
    calls_measured: Array
    design: Array
    all_ours: Array

    @property
    def error(self) -> float:
        """Mean relative error of blocks plus that of calls."""
        pairs = ((self.blocks, self.blocks_measured), (self.calls, self.calls_measured))
        return float(sum(np.abs(predicted / measured - 1).mean() for predicted, measured in pairs))


def _held_out(rows: _Rows, machine: Machine, *, residual: bool) -> _HeldOut:
    """Every network is predicted by a fit that has not seen it."""
    names = sorted(set(rows.design.tolist()))
    found: list[tuple[Array, ...]] = []
    for fold in range(min(_FOLDS, len(names))):
        out = set(names[fold::_FOLDS])
        seen, unseen = rows.without(out), rows.only(out)
        model = CpuModel(machine, _fit(seen, machine, residual=residual))
        blocks = model.from_terms(unseen.block_terms)
        calls = unseen.outside_terms @ model.fit.outside
        np.add.at(calls, unseen.block_sample, blocks)
        found.append((blocks, unseen.block_ns, calls, unseen.total_ns, unseen.design, unseen.all_ours))
    return _HeldOut(*(np.concatenate(values) for values in zip(*found, strict=True)))


def error_summary(predicted: Array, measured: Array) -> dict[str, float]:
    """MAPE, median and bias of the relative error, shares within 5 and 10 %, and how many there were."""
    error = predicted / measured - 1
    return {
        "count": len(error),
        "mape": round(float(np.abs(error).mean()), 4),
        "median": round(float(np.median(np.abs(error))), 4),
        "bias": round(float(error.mean()), 4),
        "within_5": round(float((np.abs(error) <= 0.05).mean()), 4),
        "within_10": round(float((np.abs(error) <= 0.10).mean()), 4),
    }


def block_intervals(predicted: Array, measured: Array) -> list[Interval]:
    """Small blocks are predicted less exactly than large ones, so each size has its own interval."""
    found = []
    low = 0.0
    for high in (*_INTERVAL_LIMITS_US, _ANY_US):
        inside = (predicted > low * 1e3) & (predicted <= high * 1e3)
        if inside.sum() >= 20:
            found.append(conformal_interval(predicted[inside], measured[inside], high))
        low = high
    return found


def symmetric_interval(predicted: Array, measured: Array, up_to_us: float) -> Interval:
    """Split-conformal: how far measured and predicted are apart, whichever is larger. Of a few dozen calls the ends by
    themselves say little: either would be the outermost call."""
    apart = np.sort(np.abs(np.log(measured / predicted)))
    rank = min(len(apart), int(np.ceil((len(apart) + 1) * _COVERAGE))) - 1
    factor = float(np.exp(apart[rank]))
    return Interval(up_to_us, 1 / factor, factor)


def conformal_interval(predicted: Array, measured: Array, up_to_us: float) -> Interval:
    """Split-conformal: the quantiles of measured over predicted, with the finite-sample correction."""
    ratio = np.sort(measured / predicted)
    count = len(ratio)
    tail = (1 - _COVERAGE) / 2
    low = ratio[max(0, int(np.floor((count + 1) * tail)) - 1)]
    high = ratio[min(count - 1, int(np.ceil((count + 1) * (1 - tail))) - 1)]
    return Interval(up_to_us, float(low), float(high))

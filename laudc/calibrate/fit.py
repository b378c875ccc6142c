"""From samples to coefficients, with errors on networks that a fit has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from laudc.calibrate.design import Design, turn_of
from laudc.calibrate.frames import found_of, frame_of
from laudc.calibrate.intervals import LEAST_CALLS, TINY_US, Calls, block_intervals, network_intervals
from laudc.calibrate.samples import Sample
from laudc.predict.cpu.amounts import Machine
from laudc.predict.cpu.cost import Cost, fit_cost
from laudc.predict.cpu.families import CPU_FAMILIES
from laudc.predict.cpu.model import Fit
from laudc.predict.interface import Conditions
from laudc.predict.network import PlannedBlock, places
from laudc.predict.residual import Residual, fit_residual
from laudc.predict.work import work_of_row

Array = np.ndarray

_FOLDS = 8
_SEVERAL = 3
# How much a call under other than usual conditions counts beside one under these.
_UNUSUAL_COUNTS = 0.3
# A call says no more of the clock than that it missed by this much, and all together that of 0.04 spread over 0.5.
_CLOCK_MISSED, _CLOCK_RIDGE = 0.1, (0.04 / 0.5) ** 2
_CLOCK_STEPS = 2
# Shares of the last-level cache that are tried (`Fit.cache_for_weights`), and by what less than all of it has to lower
# the error of networks left out.
_ALL_CACHE = 1.0
_CACHE_SHARES = (_ALL_CACHE, 0.7, 0.5, 0.35)
_CACHE_WORTH = 0.95
# A learned residual needs this many blocks, and has to lower the held-out error by this factor to be kept.
_RESIDUAL_LEAST_BLOCKS = 200
_RESIDUAL_WORTH = 0.97


@dataclass(frozen=True)
class _Rows:
    """Training data of one family and number of threads: blocks of ours, and what is left of the calls.

    all_ours: calls without a block of the runtime. of_frame: terms that only stem, head and the call itself have.
    excess: of each call's handover over the usual one. clock: of each call, over the usual one. block_place: which one
    of its network a block is, -1 in calls that the runtime has a part in; block_swapped: whether it was measured by the
    other way of conv2.
    """

    family: str
    block_terms: Array
    block_ns: Array
    block_design: Array
    block_sample: Array
    block_place: Array
    block_swapped: Array
    outside_terms: Array
    outside_ns: Array
    total_ns: Array
    all_ours: Array
    of_frame: Array
    design: Array
    excess: Array
    clock: Array

    @property
    def importance(self) -> Array:
        """(blocks,) how much each block's relative error counts: by its share in its call, but less than in proportion,
        since what small blocks tell of fixed costs holds for all."""
        share = self.block_ns / self.total_ns[self.block_sample]
        return np.asarray(np.sqrt(share / share.mean()))

    @property
    def pairs(self) -> Array:
        """(pairs, 2) of rows: the same block of the same network by either way of conv2."""
        own, other = np.flatnonzero(~self.block_swapped & (self.block_place >= 0)), np.flatnonzero(self.block_swapped)
        name = self.block_design * (self.block_place.max(initial=0) + 1) + self.block_place
        _, first, second = np.intersect1d(name[own], name[other], return_indices=True)
        pairs = np.stack([own[first], other[second]], axis=1)
        return np.asarray(pairs[(self.block_terms[pairs[:, 0]] != self.block_terms[pairs[:, 1]]).any(axis=1)])

    def at_usual_clock(self, share: float) -> _Rows:
        """What the same would have taken at the usual clock, where times follow it by so much (`Fit.clock_share`)."""
        slower = self.clock**share
        return replace(
            self,
            block_ns=self.block_ns / slower[self.block_sample],
            outside_ns=self.outside_ns / slower,
            total_ns=self.total_ns / slower,
        )

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
            self.block_place[blocks],
            self.block_swapped[blocks],
            self.outside_terms[calls],
            self.outside_ns[calls],
            self.total_ns[calls],
            self.all_ours[calls],
            self.of_frame,
            self.design[calls],
            self.excess[calls],
            self.clock[calls],
        )


def fit_threads(
    designs: Sequence[Design], samples: Sequence[Sample], machine: Machine, usual: Conditions
) -> tuple[Fit, dict[str, Any]]:
    """What work of one family's networks costs on `machine`, and what that achieves on networks left out in turn;
    `usual`: the clock that costs are for, and the handover when nothing slows the machine down."""
    seen = [sample for sample in samples if sample.threads == machine.threads]
    cache, share, rows, plain = _by_cache(designs, seen, machine, usual)
    chosen, residual = plain, False
    if len(rows.block_ns) >= _RESIDUAL_LEAST_BLOCKS:
        learned = _held_out(rows, machine, residual=True)
        residual = learned.error < _RESIDUAL_WORTH * plain.error
        chosen = learned if residual else plain
    fit = _fit(rows, machine, residual=residual)
    calls, totals = chosen.calls, chosen.calls_measured
    # Engines are ours throughout, or nearly so.
    ours = chosen.all_ours
    full = Fit(
        fit.threads,
        fit.block,
        fit.outside,
        fit.residual,
        tuple(block_intervals(chosen.blocks, chosen.blocks_measured)),
        network_intervals(Calls(calls, totals, chosen.excess, chosen.clock).where(ours)),
        fit.family,
        usual,
        share,
        cache,
    )
    errors = {"blocks": error_summary(chosen.blocks, chosen.blocks_measured), "networks": error_summary(calls, totals)}
    detectors = np.isin(chosen.design, [design.index for design in designs if design.tail is not None])
    if detectors.any():
        errors["detectors"] = error_summary(calls[detectors], totals[detectors])
    return full, {**errors, "learned_residual": residual}


def _by_cache(
    designs: Sequence[Design], samples: Sequence[Sample], machine: Machine, usual: Conditions
) -> tuple[float, float, _Rows, _HeldOut]:
    """In which share of the last-level cache weights stay from one call to the next (`Fit.cache_for_weights`), by how
    much times follow the clock then, what samples would have taken at the usual one, and how networks left out are
    predicted. The share is the one by which large calls of ours among these are predicted best; all of it, unless less
    is clearly better: where little comes from memory, any does."""
    measured = {cache: _rows(designs, samples, machine, usual, cache) for cache in _CACHE_SHARES}
    share = _clock_share(measured[_ALL_CACHE], machine)
    rows = {cache: some.at_usual_clock(share) for cache, some in measured.items()}
    held = {cache: _held_out(some, machine, residual=False) for cache, some in rows.items()}
    best = min(held, key=lambda cache: held[cache].telling_error)
    if held[best].telling_error > _CACHE_WORTH * held[_ALL_CACHE].telling_error:
        return _ALL_CACHE, share, rows[_ALL_CACHE], held[_ALL_CACHE]
    share = _clock_share(measured[best], machine)
    chosen = measured[best].at_usual_clock(share)
    return best, share, chosen, _held_out(chosen, machine, residual=False)


def _clock_share(rows: _Rows, machine: Machine) -> float:
    """By how much times follow the clock (`Fit.clock_share`): what networks left out took, all told at the usual clock
    as if they followed it altogether, tells how much that overdoes. Where clocks hardly differed it stays so. Large
    calls of ours tell, as engines are: what the runtime does follows it more."""
    share = 1.0
    # A fit at a wrong share takes a part of the clock for work, so that the first step goes too far or not far enough.
    for _ in range(_CLOCK_STEPS):
        held = _held_out(rows.at_usual_clock(share), machine, residual=False)
        tell = held.telling
        told = np.log(held.clock[tell])
        missed = np.clip(np.log(held.calls_measured / held.calls)[tell], -_CLOCK_MISSED, _CLOCK_MISSED)
        slope = (told - told.mean()) @ (missed - missed.mean()) / (np.sum((told - told.mean()) ** 2) + _CLOCK_RIDGE)
        share = float(np.clip(share + slope, 0, 1))
    return share


def _rows(
    designs: Sequence[Design], samples: Sequence[Sample], machine: Machine, usual: Conditions, cache: float
) -> _Rows:
    by_index = {design.index: design for design in designs}
    name = designs[0].family
    family = CPU_FAMILIES[name]
    frames = {design.index: frame_of(design) for design in designs}
    found = {design.index: found_of(design) for design in designs}
    parts: list[tuple[Array, float, int, int, int, bool]] = []
    outside, around, left, totals, owners, all_ours = [], [], [], [], [], []
    for number, sample in enumerate(samples):
        design = by_index[sample.design]
        blocks = [
            PlannedBlock(path, record, execution)
            for (path, record), execution in zip(
                design.records(64, sample.kind), design.executions(sample.kind), strict=True
            )
        ]
        counts = [work_of_row(block.record, row) for block, row in zip(blocks, sample.counts, strict=True)]
        last_cache = machine.for_weights(cache * sample.conditions.left_of_cache(usual))
        stands = places(blocks, counts, last_cache, frames[sample.design].weights)
        scheduled, frame = [block.scheduled for block in blocks], frames[sample.design]
        ours, swapped = all(block.sparse for block in scheduled), sample.kind == "swapped"
        for index, (block, work, place, ns) in enumerate(zip(blocks, counts, stands, sample.block_ns, strict=True)):
            if ns is not None:
                row = family.block_terms(block.record, work, machine, place)[0]
                parts.append((row, ns, sample.design, number, index if ours else -1, swapped))
        outside.append(
            family.outside_terms(frame, scheduled, stands[0], amounts=found[sample.design], threads=machine.threads)
        )
        around.append(family.frame_terms(frame, own_stem=scheduled[0].sparse, place=stands[0]))
        left.append(sample.total_ns - sum(ns for ns in sample.block_ns if ns is not None))
        totals.append(sample.total_ns)
        owners.append(sample.design)
        all_ours.append(ours)
    terms, ns, owner, numbers, indices, swaps = zip(*parts, strict=True)
    return _Rows(
        name,
        np.stack(terms),
        np.asarray(ns),
        np.asarray(owner),
        np.asarray(numbers),
        np.asarray(indices),
        np.asarray(swaps),
        np.stack(outside),
        np.asarray(left),
        np.asarray(totals),
        np.asarray(all_ours),
        ~(np.stack(outside) - np.stack(around) > 0).any(axis=0),
        np.asarray(owners),
        np.asarray([sample.conditions.excess(usual) for sample in samples]),
        np.asarray([sample.conditions.clock_ns / usual.clock_ns for sample in samples]),
    )


def _fit(rows: _Rows, machine: Machine, *, residual: bool) -> Fit:
    excess = rows.excess[rows.block_sample]
    names = CPU_FAMILIES[rows.family].block_names
    counts = rows.importance * _counts_for(excess)
    block = fit_cost(names, rows.block_terms, rows.block_ns, excess, importance=counts, pairs=rows.pairs)
    outside = _fit_outside(rows)
    learned: Residual | None = None
    if residual:
        learned = fit_residual(rows.block_terms, np.log(rows.block_ns / block.of(rows.block_terms, excess)))
    return Fit(machine.threads, block, outside, learned, (), (), rows.family)


def _counts_for(excess: Array) -> Array:
    """Rows under other than usual conditions count less: they are told apart by one number, and no two are alike."""
    return np.where(excess > 0, _UNUSUAL_COUNTS, 1.0)


def _fit_outside(rows: _Rows) -> Cost:
    """Stem, head and the call itself from calls that are all ours, as engines are, then what the runtime's blocks and
    the borders add: those take most of their calls, and an error in them would be laid upon stem and head. Borders are
    in calls that are all ours too; once they are known, stem, head and call are fitted again to what they leave."""
    # What is left of a call counts as much as it weighs in the whole call.
    weight = np.maximum(rows.outside_ns, 0.1 * rows.total_ns)
    ours, terms, excess = rows.all_ours, rows.outside_terms, rows.excess
    counts = _counts_for(excess)

    def fit(amounts: Array, ns: Array, calls: Array) -> Cost:
        names = CPU_FAMILIES[rows.family].outside_names
        return fit_cost(names, amounts[calls], ns[calls], excess[calls], scale=weight[calls], importance=counts[calls])

    every = np.ones_like(ours)
    own = fit(terms, rows.outside_ns, ours)
    known = rows.of_frame & (terms[ours] > 0).any(axis=0)
    left = rows.outside_ns - own.only(known).of(terms, excess)
    added = fit(terms * ~known, left, every)
    rest = rows.outside_ns - added.of(terms, excess)
    return added + fit(terms * known, rest, ours)


@dataclass(frozen=True)
class _HeldOut:
    """Predicted and measured: blocks, then calls, with the networks that these are of, whether they are all ours, the
    clock over the usual one, and the excess of the handover."""

    blocks: Array
    blocks_measured: Array
    calls: Array
    calls_measured: Array
    design: Array
    all_ours: Array
    clock: Array
    excess: Array

    @property
    def telling(self) -> Array:
        """(calls,) of truth values: large calls of ours, as engines are; where there are few, all."""
        large = self.all_ours & (self.calls_measured > TINY_US * 1e3)
        return large if large.sum() >= LEAST_CALLS else np.ones_like(large)

    @property
    def telling_error(self) -> float:
        """Mean relative error of the calls that tell."""
        return float(np.abs(self.calls / self.calls_measured - 1)[self.telling].mean())

    @property
    def error(self) -> float:
        """Mean relative error of blocks plus that of calls."""
        pairs = ((self.blocks, self.blocks_measured), (self.calls, self.calls_measured))
        return float(sum(np.abs(predicted / measured - 1).mean() for predicted, measured in pairs))


def left_out_together(designs: Sequence[int]) -> list[set[int]]:
    """Which networks no fit sees that predicts one of them. Of several calibrations all of one: a machine does the same
    some per cent faster or slower from hour to hour, which a fit to anything of the same hour would know. Of one or
    two, whose fit would be a poorer one without the other, every so many-th."""
    names = sorted(set(designs))
    turns = sorted(set(map(turn_of, names)))
    if len(turns) >= _SEVERAL:
        return [{name for name in names if turn_of(name) == turn} for turn in turns]
    return [set(names[fold::_FOLDS]) for fold in range(min(_FOLDS, len(names)))]


def _held_out(rows: _Rows, machine: Machine, *, residual: bool) -> _HeldOut:
    """Every network is predicted by a fit that has not seen it."""
    found: list[tuple[Array, ...]] = []
    for out in left_out_together(rows.design.tolist()):
        seen, unseen = rows.without(out), rows.only(out)
        fit = _fit(seen, machine, residual=residual)
        blocks = fit.blocks_ns(unseen.block_terms, unseen.excess[unseen.block_sample])
        calls = fit.outside.of(unseen.outside_terms, unseen.excess)
        np.add.at(calls, unseen.block_sample, blocks)
        about = unseen.design, unseen.all_ours, unseen.clock, unseen.excess
        found.append((blocks, unseen.block_ns, calls, unseen.total_ns, *about))
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

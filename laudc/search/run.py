"""The search: predict uniform configurations, combine their stages, keep what nothing else beats.

Latency is a sum over stages, so stages need not be predicted in every combination. A configuration is kept unless
another one of the same mode is at least as fast, keeps at least as much and has at least as fine masks, and is better
in one of these: finer masks and higher rates are what accuracy is made of, and only training can weigh them.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from laudc.devices import load_profile
from laudc.errors import UserError
from laudc.predict.architectures import PUBLISHED, AnyBlueprint, published
from laudc.predict.blueprint import Blueprint
from laudc.predict.models import images_per_call
from laudc.predict.threads import threads_on
from laudc.predict.vit_blueprint import PATCH, VitBlueprint
from laudc.search.evaluate import StageTimes, Target, evaluate
from laudc.search.space import CHANNEL, RATES, SPATIAL, Uniform, modes_of, stage_options, uniform_options
from laudc.search.workers import run_all

Array = np.ndarray
_SAME = 1.01
_WIDEST = 8192  # pixels; far above any real image
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Candidate:
    """A configuration worth training. `decisions`: mask decisions per image, the more the finer."""

    mode: str
    spatial: tuple[int, ...]
    channel: tuple[int, ...]
    rate: float
    latency_us: float
    decisions: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "latency_us": round(self.latency_us, 1)}


@dataclass(frozen=True)
class SearchResult:
    """The Pareto set within the budget, fastest first; `fastest_us` of everything, budget or not."""

    arch: str
    device: str
    status: str
    batch: int
    threads: int
    budget_us: float | None
    predicted: int
    fastest_us: float
    candidates: tuple[Candidate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = asdict(self)
        data["candidates"] = [candidate.to_dict() for candidate in self.candidates]
        return data


def search(
    arch: str = "uni_resnet50",
    *,
    device: str | os.PathLike[str] = "cpu",
    budget_ms: float | None = None,
    modes: Sequence[str] | None = None,
    spatial: Sequence[int] = SPATIAL,
    channel: Sequence[int] = CHANNEL,
    rates: Sequence[float] = RATES,
    input_size: int = 224,
    width_mult: float = 1.0,
    batch: int | None = None,
    threads: int | None = None,
    precision: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress = lambda step, share: None,
) -> SearchResult:
    """Finds the modes, granularities per stage and target rates that a device rewards.

    Args:
        arch: name of a published architecture, one of `laudc.predict.architectures.PUBLISHED`.
        device: name of a device profile or path of one.
        budget_ms: mean latency that must not be exceeded; None: no limit.
        modes, spatial, channel, rates: what is tried: modes (None: all of the family; of a transformer its policies, as
            `token+head`), S and G (each stage gets its own), target rates.
        input_size, width_mult: of the network; only ResNets come in several widths.
        batch, threads, precision: of the call; the device's usual ones if left out. Threads are for CPUs.
        workers: processes; None: one per core. scheduler: address of a Dask scheduler instead.
        progress: called with the current step and its finished share.

    Raises:
        UserError: an option is impossible, or the device has no latency model for the family.
    """
    base = _base(arch, input_size, width_mult)
    modes = tuple(dict.fromkeys(modes_of(base) if modes is None else modes))
    rates = tuple(dict.fromkeys(rates))
    _check(base, modes, spatial, channel, rates)
    if budget_ms is not None and not 0 < budget_ms < math.inf:
        raise UserError(f"a budget of {budget_ms:g} ms is impossible", "it is a time above 0", "use --budget-ms 40")
    profile = load_profile(device)
    threads = threads_on(profile, threads)
    target = Target(os.fspath(device), profile.sha256, precision, images_per_call(batch, profile), threads)
    options = uniform_options(base, modes, spatial, channel, rates)
    times = run_all(
        evaluate,
        [(option, base, target) for option in options],
        workers=workers,
        scheduler=scheduler,
        progress=lambda share: progress("predicting", share),
    )
    found = [c for mode in modes for rate in rates for c in _combined(options, times, base, mode, rate)]
    fastest = min(candidate.latency_us for candidate in found)
    inside = [c for c in found if budget_ms is None or c.latency_us <= budget_ms * 1e3]
    kept = [c for mode in modes for c in _pareto([one for one in inside if one.mode == mode])]
    return SearchResult(
        arch,
        profile.id,
        times[0].status,
        target.batch,
        target.threads,
        None if budget_ms is None else budget_ms * 1e3,
        len(options),
        fastest,
        tuple(sorted(kept, key=lambda c: c.latency_us)),
    )


def _base(arch: str, input_size: int, width_mult: float) -> AnyBlueprint:
    if arch not in PUBLISHED:
        raise UserError(
            f"unknown architecture '{arch}' for a search",
            f"it covers {', '.join(PUBLISHED)}",
            "use one of these; laudc predict --sweep shows what an exported network of another shape would cost",
        )
    if not 32 <= input_size <= _WIDEST or not 0 < width_mult <= 8:
        raise UserError(
            f"a network for {input_size} pixels with width {width_mult:g} cannot be searched",
            f"images have 32 to {_WIDEST} pixels, widths are between 0 and 8",
            "use --input-size 224",
        )
    base = published(arch, input_size, width_mult)
    if isinstance(base, Blueprint) and min(base.widths) < 1:
        raise UserError(
            f"width {width_mult:g} leaves stages without channels",
            "the first stage has 64 to scale",
            "use --width-mult 0.25",
        )
    if width_mult != 1 and not isinstance(base, Blueprint):
        raise UserError(f"'{arch}' has no other widths", "only ResNets have them", "leave --width-mult out")
    if isinstance(base, VitBlueprint) and input_size % PATCH:
        raise UserError(
            f"'{arch}' cannot have images of {input_size} pixels",
            f"a token stands for {PATCH} by {PATCH} pixels",
            f"use a multiple of {PATCH}: --input-size {input_size // PATCH * PATCH}",
        )
    return base


def _check(
    base: AnyBlueprint, modes: Sequence[str], spatial: Sequence[int], channel: Sequence[int], rates: Sequence[float]
) -> None:
    for mode in modes:
        if mode not in modes_of(base):
            raise UserError(
                f"unknown mode '{mode}'",
                f"networks of this family know {', '.join(modes_of(base))}",
                "use one of these",
            )
    if not modes or not spatial or not channel or not rates:
        raise UserError("there is nothing to search", "a list of options is empty", "leave the option out")
    if any(not 0 < rate <= 1 for rate in rates) or min(*spatial, *channel) < 1:
        raise UserError(
            "an option of the search is impossible",
            "rates are above 0 and at most 1, granularities whole numbers from 1 on",
            "use --rate 0.5",
        )


def _combined(
    options: Sequence[Uniform], times: Sequence[StageTimes], base: AnyBlueprint, mode: str, rate: float
) -> list[Candidate]:
    """All combinations of what is worth taking in each stage."""
    per_stage = []
    for stage, fitting in enumerate(stage_options(options, base)):
        here = [i for i in fitting if options[i].mode == mode and options[i].rate == rate]
        if not here:
            raise UserError(
                f"stage {stage + 1} can have none of these granularities in mode '{mode}'",
                "S must leave more than one patch of the stage's map, and G must divide the channels of every stage",
                "leave them out, or include 1",
            )
        values = np.asarray([[_step(times[i].stages_us[stage]), -times[i].decisions[stage]] for i in here])
        per_stage.append([here[k] for k in np.flatnonzero(_undominated(values))])
    found = []
    for chosen in itertools.product(*per_stage):
        latency = sum(times[i].stages_us[stage] for stage, i in enumerate(chosen)) + times[chosen[0]].outside_us
        found.append(
            Candidate(
                mode,
                tuple(options[i].spatial for i in chosen) if mode in ("spatial", "both") else (),
                tuple(options[i].channel for i in chosen) if mode in ("channel", "both") else (),
                rate,
                latency,
                sum(times[i].decisions[stage] for stage, i in enumerate(chosen)),
            )
        )
    return found


def _pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    if not candidates:
        return []
    values = np.asarray([[_step(c.latency_us), -c.rate, -c.decisions] for c in candidates])
    return [candidates[int(i)] for i in np.flatnonzero(_undominated(values))]


def _step(latency_us: float) -> int:
    """Latencies in steps of a hundredth: smaller differences are none to a prediction."""
    return round(math.log(latency_us) / math.log(_SAME))


def _undominated(values: Array) -> Array:
    """Which rows no other row beats: smaller or equal everywhere and smaller somewhere; of equal rows the first."""
    keep = np.ones(len(values), bool)
    for index, row in enumerate(values):
        others = values[keep]
        if (np.all(others <= row, axis=1) & np.any(others < row, axis=1)).any() or (
            values[:index][keep[:index]] == row
        ).all(axis=1).any():
            keep[index] = False
    return keep

"""The calibration itself: measure, check that the machine was quiet, fit, write the profile."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from laudc.calibrate.design import Design, draw_designs
from laudc.calibrate.measure import CpuMeasurer, Measurer
from laudc.calibrate.samples import Sample, SideFile
from laudc.devices import DeviceProfile, load_profile, save_profile
from laudc.errors import CheckFailed, UserError

Progress = Callable[[str, float], None]

DEFAULT_NETWORKS = 48
MOST_SAMPLES = 300
MOST_SECONDS = 600.0
LEAST_NETWORKS = 12
# A sample is disturbed when others took this much of the machine, when the middle half of its calls lies this far
# apart, or when the machine was this much slower than at its usual best; so many disturbed samples are too many.
_FOREIGN, _SPREAD, _SLOW = 0.15, 0.20, 1.08
_USUAL_BEST = 0.1
_MOST_DISTURBED = 0.20
# Every so many networks one measured early is measured again; medians that moved by more than this mean a machine
# whose speed changes.
_REPEAT_EVERY = 8
_MOST_DRIFT = 0.08


@dataclass(frozen=True)
class CalibrationResult:
    """A finished calibration.

    Attributes:
        path: of the profile that was written.
        samples: networks timed, each in one form with one number of threads; `blocks` timed inside them.
        seconds: that this took, without those of an interrupted run before it.
        repeatability: median relative difference of networks measured twice.
        disturbed: share of the samples that other processes disturbed.
        held_out: per number of threads, errors of blocks and whole networks on networks that the fit has not seen.
    """

    path: Path
    samples: int
    blocks: int
    seconds: float
    repeatability: float
    disturbed: float
    held_out: Mapping[int, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "path": str(self.path),
            "samples": self.samples,
            "blocks": self.blocks,
            "seconds": round(self.seconds, 1),
            "repeatability": self.repeatability,
            "disturbed": self.disturbed,
            "held_out": dict(self.held_out),
        }


def calibrate(
    output: str | os.PathLike[str] | None = None,
    *,
    device: str | os.PathLike[str] = "cpu",
    threads: Sequence[int] | None = None,
    networks: int = DEFAULT_NETWORKS,
    force: bool = False,
    measurer: Measurer | None = None,
    progress: Progress = lambda step, share: None,
) -> CalibrationResult:
    """Measures this machine with our own kernels and writes a device profile with what was fitted.

    Args:
        output: profile to write; None: the user's own place, where `--device cpu` finds it.
        device: profile that the result extends; it must describe this machine.
        threads: numbers of threads to measure; None: 1 and all usable ones.
        networks: how many networks are measured; more is better and takes longer (about 5 s each).
        force: write the profile even if the machine was disturbed.
        measurer: what to measure with; None: the one for the device's kind.
        progress: called with the current step and its finished share.

    Raises:
        UserError: the device is not this machine, options do not fit, or `output` cannot be written.
        CheckFailed: the machine was too busy for a fit to be worth anything, and `force` is not set.
    """
    profile = load_profile(device)
    measurer = measurer_for(profile) if measurer is None else measurer
    facts = measurer.facts()
    counts = _thread_counts(threads, int(facts.get("usable_threads", 1)))
    _check_size(networks, len(counts) * len(measurer.kinds))
    path = Path(output) if output is not None else _own_place(profile)
    side = SideFile(path.with_name(path.name + ".part"), {**facts, "networks": networks, "threads": list(counts)})
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    designs = draw_designs(networks)
    samples, repeats = _measure(measurer, designs, counts, side, begin, progress)
    progress("fitting", 0.97)
    repeatability = _repeatability(samples, repeats)
    good = _undisturbed(samples)
    disturbed = 1 - len(good) / len(samples)
    _check_quiet(repeatability, disturbed, force, side.path)
    calibration = fit_all(designs, good if len(good) > len(samples) / 2 else samples, facts, counts)
    calibration["repeatability"] = repeatability
    calibration["disturbed"] = round(disturbed, 3)
    save_profile(path, profile, calibration)
    side.remove()
    return CalibrationResult(
        path,
        len(samples),
        sum(ns is not None for sample in samples for ns in sample.block_ns),
        time.monotonic() - begin,
        repeatability,
        round(disturbed, 3),
        {fit["threads"]: fit["held_out"] for fit in calibration["fits"]},
    )


def measurer_for(profile: DeviceProfile) -> Measurer:
    """What measures devices of the profile's kind here. Raises UserError where nothing does."""
    if profile.kind == "cpu":
        return CpuMeasurer()
    raise UserError(
        f"the device '{profile.id}' cannot be calibrated here",
        f"it is a {profile.kind} device, and a calibration measures the machine it runs on; this installation has "
        "kernels for CPUs only",
        "run laudc calibrate on the device itself, or use --device cpu",
    )


def _own_place(profile: DeviceProfile) -> Path:
    from laudc.devices import user_profile_path

    return user_profile_path(profile.id)


def _thread_counts(wanted: Sequence[int] | None, usable: int) -> tuple[int, ...]:
    counts = tuple(sorted({1, usable} if wanted is None else set(wanted)))
    if not counts or counts[0] < 1 or counts[-1] > usable:
        raise UserError(
            f"cannot measure {', '.join(map(str, counts)) or 'no'} threads",
            f"this machine has {usable} usable threads",
            f"use --threads with numbers from 1 to {usable}",
        )
    return counts


def _check_size(networks: int, forms: int) -> None:
    most = MOST_SAMPLES // forms
    if not LEAST_NETWORKS <= networks <= most:
        raise UserError(
            f"cannot calibrate with {networks} networks",
            f"fewer than {LEAST_NETWORKS} do not determine the fit, and {most} make {MOST_SAMPLES} samples",
            f"use --networks {min(DEFAULT_NETWORKS, most)}",
        )


def _measure(
    measurer: Measurer,
    designs: Sequence[Design],
    threads: Sequence[int],
    side: SideFile,
    begin: float,
    progress: Progress,
) -> tuple[list[Sample], list[Sample]]:
    """All samples, those of an interrupted run included, and repetitions of some."""
    samples = side.load()
    side.start(samples)
    known = {sample.key for sample in samples}
    repeats: list[Sample] = []
    for number, design in enumerate(designs):
        if time.monotonic() - begin > MOST_SECONDS and number >= LEAST_NETWORKS:
            break
        for count in threads:
            for kind in measurer.kinds:
                progress("measuring", 0.95 * number / len(designs))
                if (design.index, kind, count) not in known:
                    sample = measurer.measure(design, kind, count)
                    side.add(sample)
                    samples.append(sample)
        if number and number % _REPEAT_EVERY == 0:
            repeats += [measurer.measure(designs[number // _REPEAT_EVERY], "sparse", count) for count in threads]
    return _again(measurer, designs, samples, side, begin, progress), repeats


def _again(
    measurer: Measurer,
    designs: Sequence[Design],
    samples: list[Sample],
    side: SideFile,
    begin: float,
    progress: Progress,
) -> list[Sample]:
    """Disturbed samples are measured once more while there is time; the better ones are kept."""
    found = {sample.key: sample for sample in samples}
    good = {sample.key for sample in _undisturbed(samples)}
    for number, key in enumerate(key for key in list(found) if key not in good):
        if time.monotonic() - begin > MOST_SECONDS:
            break
        progress("measuring what was disturbed again", 0.95 + 0.02 * number / len(found))
        index, kind, count = key
        sample = measurer.measure(designs[index], kind, count)
        if (sample.foreign > _FOREIGN, sample.pace_ns) <= (found[key].foreign > _FOREIGN, found[key].pace_ns):
            found[key] = sample
            side.add(sample)
    return list(found.values())


def _undisturbed(samples: Sequence[Sample]) -> list[Sample]:
    """Samples of a quiet machine at its usual pace."""
    best = {
        threads: float(np.quantile([s.pace_ns for s in samples if s.threads == threads], _USUAL_BEST))
        for threads in {sample.threads for sample in samples}
    }
    return [
        sample
        for sample in samples
        if sample.foreign <= _FOREIGN and sample.spread <= _SPREAD and sample.pace_ns <= _SLOW * best[sample.threads]
    ]


def _repeatability(samples: Sequence[Sample], repeats: Sequence[Sample]) -> float:
    first = {sample.key: sample.total_ns for sample in samples}
    moved = [abs(again.total_ns / first[again.key] - 1) for again in repeats if again.key in first]
    return round(statistics.median(moved), 4) if moved else 0.0


def _check_quiet(repeatability: float, disturbed: float, force: bool, side: Path) -> None:
    if force or (repeatability <= _MOST_DRIFT and disturbed <= _MOST_DISTURBED):
        return
    side.unlink(missing_ok=True)
    raise CheckFailed(
        "this machine is too noisy to be calibrated: nothing was written",
        f"networks measured twice differ by {repeatability:.0%} (at most {_MOST_DRIFT:.0%}), and {disturbed:.0%} "
        f"of the samples were disturbed by other work or slow phases (at most {_MOST_DISTURBED:.0%})",
        "stop what else is running and calibrate again, or write the poor fit all the same with --force",
    )


def fit_all(
    designs: Sequence[Design], samples: Sequence[Sample], facts: Mapping[str, Any], threads: Sequence[int]
) -> dict[str, Any]:
    """The `calibration` section of a profile: facts of the machine and one fit per number of threads."""
    import laudc
    from laudc.calibrate.clocks import read_clocks
    from laudc.calibrate.fit import fit_threads
    from laudc.predict.cpu.load import MODEL, VERSION
    from laudc.predict.cpu.terms import Machine

    fits = []
    for count in threads:
        machine = Machine(str(facts["isa"]), count, int(facts["last_cache"]), int(facts["second_cache"]))
        fit, held_out = fit_threads(designs, samples, machine)
        fits.append({**fit.to_dict(), "held_out": held_out})
    return {
        "model": MODEL,
        "version": VERSION,
        "machine": dict(facts),
        "clocks": read_clocks(),
        "laudc": laudc.__version__,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "method": "medians of calls of made-up networks, weights from memory; relative non-negative least squares; "
        "errors and intervals on networks left out in turn",
        "samples": len(samples),
        "fits": fits,
    }

"""The calibration itself: measure, check that the machine was quiet, fit, write the profile."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laudc.calibrate.design import Design, draw_families, turn_of
from laudc.calibrate.measure import CpuMeasurer, Measurer
from laudc.calibrate.pace import SLOW, Pace, shared_change, usual_pace
from laudc.calibrate.samples import Sample, SideFile
from laudc.devices import DeviceProfile, load_profile, save_profile, user_profile_path
from laudc.errors import CheckFailed, UserError
from laudc.files import check_file, sha256_bytes
from laudc.predict.families import FAMILIES, REGNET, RESNET, TITLES, VIT
from laudc.predict.interface import Conditions

Progress = Callable[[str, float], None]

DEFAULT_NETWORKS = 82
MOST_SAMPLES = 300
MOST_SECONDS = 600.0
# Networks of each family when all are measured, a third of the ResNets with what detectors have behind them; of fewer
# families each gets the same share of all networks.
_SHARES: Mapping[str, int] = {RESNET: 42, REGNET: 20, VIT: 20}
# So many networks determine the fit of a family.
LEAST_NETWORKS: Mapping[str, int] = {RESNET: 18, REGNET: 6, VIT: 6}
# A sample is disturbed when others took this much of the machine, when the middle half of its calls lies this far
# apart, or when the machine was slower than SLOW (`laudc.calibrate.pace.slowness`). It does not count; where so many of
# those with one number of threads do not, nobody knows what is usual.
FOREIGN, _SPREAD = 0.15, 0.20
_MOST_DISTURBED = 0.50
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
        fitted: samples that the profile was fitted to, with those of earlier calibrations; without disturbed ones,
            unless most of a kind were.
        seconds: that this took, without those of an interrupted run before it.
        repeatability: median relative difference of networks measured twice; None where none were.
        disturbed: share of the samples that other processes or slow phases disturbed, with the number of threads that
            has most of them.
        held_out: per family and number of threads, errors of blocks and whole networks on networks that the fit has
            not seen.
    """

    path: Path
    samples: int
    fitted: int
    blocks: int
    seconds: float
    repeatability: float | None
    disturbed: float
    held_out: Mapping[str, Mapping[int, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "path": str(self.path),
            "samples": self.samples,
            "fitted": self.fitted,
            "blocks": self.blocks,
            "seconds": round(self.seconds, 1),
            "repeatability": self.repeatability,
            "disturbed": self.disturbed,
            "held_out": {family: dict(errors) for family, errors in self.held_out.items()},
        }


def calibrate(
    output: str | os.PathLike[str] | None = None,
    *,
    device: str | os.PathLike[str] = "cpu",
    threads: Sequence[int] | None = None,
    networks: int = DEFAULT_NETWORKS,
    families: Sequence[str] = FAMILIES,
    force: bool = False,
    archive: str | os.PathLike[str] | None = None,
    measurer: Measurer | None = None,
    progress: Progress = lambda step, share: None,
) -> CalibrationResult:
    """Measures this machine with our own kernels and writes a device profile with what was fitted.

    Args:
        output: profile to write; None: the user's own place, where `--device cpu` finds it.
        device: profile that the result extends; it must describe this machine.
        threads: numbers of threads to measure; None: 1 and all usable ones.
        networks: how many networks are measured, of all families together; more is better and takes longer (about 6 s
            each).
        families: which to measure, of `laudc.predict.families.FAMILIES`. What the device's profile holds of the others
            stays in it, if it was measured on this CPU with the same kernels.
        force: write the profile even if the machine was disturbed.
        archive: file in which all samples are kept, and to whose samples of earlier calibrations, with the same options
            on the same machine, is fitted too: what a machine does differently from hour to hour averages out, and each
            has networks that those before it had not.
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
    numbers = networks_by_family(families, networks)
    first = draw_families(numbers)
    _check_samples(first, measurer, len(counts))
    path = Path(output) if output is not None else user_profile_path(profile.id)
    plan = {**facts, "networks": numbers, "threads": list(counts), "designs": sha256_bytes(repr(first).encode())[:16]}
    side = SideFile(path.with_name(path.name + ".part"), plan)
    kept = _archive(archive, plan, (path, side.path))
    earlier = [] if kept is None else kept.kept()
    begun = side.load()
    _check_measured(earlier, numbers, archive)
    _check_measured(begun, numbers, side.path)
    designs = draw_families(numbers, _turn(begun, earlier))
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    samples, repeats = take_samples(measurer, designs, counts, side, begin, progress)
    progress("fitting", 0.97)
    repeatability = median_drift(samples, repeats)
    disturbed = most_disturbed(samples, undisturbed_samples(samples))
    require_quiet(repeatability, disturbed, force, side.path)
    # A run that was interrupted between writing the two files finds its samples in both.
    every = list(dict.fromkeys([*earlier, *samples]))
    drawn = _designs_of(every, numbers)
    fitted = usable_samples(drawn, every)
    calibration = fit_all(drawn, fitted, facts, counts)
    measured = {
        family: {fit["threads"]: fit["held_out"] for fit in section["fits"]}
        for family, section in calibration["families"].items()
    }
    calibration["families"] = {**_kept_families(profile, facts), **calibration["families"]}
    calibration["repeatability"] = repeatability
    calibration["disturbed"] = round(disturbed, 3)
    if kept is not None:
        kept.replace(every)
    save_profile(path, profile, calibration)
    side.remove()
    return CalibrationResult(
        path,
        len(samples),
        len(fitted),
        sum(ns is not None for sample in samples for ns in sample.block_ns),
        time.monotonic() - begin,
        repeatability,
        round(disturbed, 3),
        measured,
    )


def _turn(begun: Sequence[Sample], earlier: Sequence[Sample]) -> int:
    """Of how many-th calibration the networks are: of the one that was begun, else of the next."""
    if begun:
        return turn_of(begun[0].design)
    return 1 + max((turn_of(sample.design) for sample in earlier), default=-1)


def _designs_of(samples: Sequence[Sample], numbers: Mapping[str, int]) -> list[Design]:
    """All networks of the calibrations that the samples are of."""
    turns = sorted({turn_of(sample.design) for sample in samples})
    return [design for turn in turns if turn >= 0 for design in draw_families(numbers, turn)]


def _check_measured(
    samples: Sequence[Sample], numbers: Mapping[str, int], path: str | os.PathLike[str] | None
) -> None:
    """Raises UserError where the file at `path` holds samples of what no calibration draws: somebody has edited it."""
    blocks = {design.index: len(design.dense) for design in _designs_of(samples, numbers)}
    for sample in samples:
        if not len(sample.counts) == len(sample.block_ns) == blocks.get(sample.design):
            raise UserError(
                f"{path} holds samples that are not of a calibration",
                f"no calibration measures a network {sample.design} with {len(sample.counts)} blocks: the file was "
                "changed since it was written",
                "take the file as it was written, or remove it and calibrate afresh",
            )


def _archive(path: str | os.PathLike[str] | None, plan: Mapping[str, Any], others: Sequence[Path]) -> SideFile | None:
    """The file that samples are kept in. Raises UserError where it cannot be written, or has another purpose."""
    if path is None:
        return None
    check_file(path)
    if os.path.realpath(path) in {os.path.realpath(other) for other in others}:
        raise UserError(
            f"samples cannot be kept in {os.fspath(path)}",
            "the calibration writes something else there",
            "choose another file for --samples",
        )
    return SideFile(Path(path), plan)


def measurer_for(profile: DeviceProfile) -> Measurer:
    """What measures devices of the profile's kind here. Raises UserError where nothing does."""
    if profile.kind == "cpu":
        return CpuMeasurer()
    raise UserError(
        f"the device '{profile.id}' cannot be calibrated here",
        f"it is a {profile.kind} device, which is measured in another way",
        f"run laudc calibrate --device {profile.id} on the device itself, or call laudc.calibrate.cuda.calibrate_cuda",
    )


def _thread_counts(wanted: Sequence[int] | None, usable: int) -> tuple[int, ...]:
    counts = tuple(sorted({1, usable} if wanted is None else set(wanted)))
    if not counts or counts[0] < 1 or counts[-1] > usable:
        raise UserError(
            f"cannot measure {', '.join(map(str, counts)) or 'no'} threads",
            f"this machine has {usable} usable threads",
            f"use --threads with numbers from 1 to {usable}",
        )
    return counts


def networks_by_family(
    families: Sequence[str],
    networks: int,
    usual: int = DEFAULT_NETWORKS,
    least: Mapping[str, int] = LEAST_NETWORKS,
) -> dict[str, int]:
    """Networks of each family, in proportion to its share; `usual`: how many of all families are measured, `least` of
    each. Raises UserError where that is impossible."""
    unknown = sorted(set(families) - set(FAMILIES))
    if unknown or not families:
        raise UserError(
            f"cannot calibrate for the families {', '.join(unknown) or '(none)'}",
            f"known are {', '.join(FAMILIES)}",
            "leave --family out to measure all",
        )
    chosen = [family for family in FAMILIES if family in families]
    total = sum(_SHARES[family] for family in chosen)
    numbers = {family: round(networks * _SHARES[family] / total) for family in chosen}
    for family, number in numbers.items():
        if number < least[family]:
            raise UserError(
                f"cannot calibrate with {networks} networks",
                f"{number} would be of {TITLES[family]}; fewer than {least[family]} do not determine the fit",
                f"use --networks {usual}",
            )
    return numbers


def _check_samples(designs: Sequence[Design], measurer: Measurer, threads: int) -> None:
    samples = sum(len(_kinds(design, measurer)) for design in designs) * threads
    if samples > MOST_SAMPLES:
        raise UserError(
            f"cannot calibrate with {len(designs)} networks",
            f"they make {samples} samples, at most {MOST_SAMPLES} are taken",
            f"use fewer --networks or --threads, such as --networks {len(designs) * MOST_SAMPLES // samples}",
        )


def _kinds(design: Design, measurer: Measurer) -> list[str]:
    return [kind for kind in measurer.kinds if kind in design.kinds]


def _kept_families(profile: DeviceProfile, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of the profile's calibration that hold for this machine and these kernels."""
    from laudc.predict.cpu.load import family_sections

    machine = profile.calibration.get("machine")
    same = ("cpu", "arch", "family", "isa", "last_cache", "second_cache")
    if not isinstance(machine, Mapping) or any(machine.get(key) != facts.get(key) for key in same):
        return {}
    try:
        return dict(family_sections(profile.calibration))
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def take_samples(
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
        if time.monotonic() - begin > MOST_SECONDS and _enough(designs[:number], designs):
            break
        for count in threads:
            for kind in _kinds(design, measurer):
                progress("measuring", 0.95 * number / len(designs))
                if (design.index, kind, count) not in known:
                    sample = measurer.measure(design, kind, count)
                    side.add(sample)
                    samples.append(sample)
        if number and number % _REPEAT_EVERY == 0:
            again = designs[number // _REPEAT_EVERY]
            repeats += [measurer.measure(again, _kinds(again, measurer)[0], count) for count in threads]
    return _again(measurer, designs, samples, side, begin, progress), repeats


def _enough(designs: Sequence[Design], wanted: Sequence[Design]) -> bool:
    """Whether these networks determine the fits of all wanted families."""
    families = [design.family for design in designs]
    return all(families.count(family) >= LEAST_NETWORKS[family] for family in {one.family for one in wanted})


def _again(
    measurer: Measurer,
    designs: Sequence[Design],
    samples: list[Sample],
    side: SideFile,
    begin: float,
    progress: Progress,
) -> list[Sample]:
    """Disturbed samples are measured once more while there is time; the better ones are kept."""
    by_index = {design.index: design for design in designs}
    found = {sample.key: sample for sample in samples}
    good = {sample.key for sample in undisturbed_samples(samples)}
    for number, key in enumerate(key for key in list(found) if key not in good):
        if time.monotonic() - begin > MOST_SECONDS:
            break
        progress("measuring what was disturbed again", 0.95 + 0.02 * number / len(found))
        index, kind, count = key
        sample = measurer.measure(by_index[index], kind, count)
        usual = usual_paces([*found.values(), sample])[count]
        if min((found[key], sample), key=lambda one: (one.foreign > FOREIGN, one.slowness(usual))) is sample:
            found[key] = sample
            side.add(sample)
    return list(found.values())


def usual_paces(samples: Sequence[Sample]) -> dict[int, Pace]:
    """The usual pace with each number of threads."""
    return {
        threads: usual_pace(pace for sample in samples if sample.threads == threads for pace in sample.paces)
        for threads in {sample.threads for sample in samples}
    }


def undisturbed_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Samples of a quiet machine at its usual pace."""
    usual = usual_paces(samples)
    return [
        sample
        for sample in samples
        if sample.foreign <= FOREIGN and sample.spread <= _SPREAD and sample.slowness(usual[sample.threads]) <= SLOW
    ]


def usable_samples(designs: Sequence[Design], samples: Sequence[Sample]) -> list[Sample]:
    """The undisturbed samples, by what is usual over all of them, of however many calibrations: one in a slow hour may
    have no other. Of a family and number of threads that has few of them, less than half of what one calibration took,
    all."""
    family = {design.index: design.family for design in designs}

    def groups(some: Sequence[Sample]) -> Counter[tuple[str, int]]:
        return Counter((family[sample.design], sample.threads) for sample in some)

    good = undisturbed_samples(samples)
    every, kept = groups(samples), groups(good)
    calibrations = len({turn_of(sample.design) for sample in samples})
    few = {group for group, count in every.items() if kept[group] <= count / calibrations / 2}
    undisturbed = {sample.key for sample in good}
    return [sample for sample in samples if sample.key in undisturbed or (family[sample.design], sample.threads) in few]


def median_drift(samples: Sequence[Sample], repeats: Sequence[Sample]) -> float | None:
    """Median relative difference, at one clock, of what was measured twice while sharing work cost the same (if that
    never was: of all that was), with the number of threads where it is worst; None where nothing was measured twice."""
    first = {sample.key: sample for sample in samples}
    pairs = [(first[again.key], again) for again in repeats if again.key in first]
    alike = [(one, other) for one, other in pairs if shared_change([*one.paces, *other.paces]) <= SLOW]
    moved: dict[int, list[float]] = {}
    for one, other in alike or pairs:
        ratio = other.at_clock(one.conditions.clock_ns).total_ns / one.total_ns
        moved.setdefault(one.threads, []).append(abs(ratio - 1))
    return round(max(map(statistics.median, moved.values())), 4) if moved else None


def most_disturbed(samples: Sequence[Sample], good: Sequence[Sample]) -> float:
    """Share of the samples with one number of threads that are not good, of the number that has most of them."""
    every, kept = (Counter(sample.threads for sample in some) for some in (samples, good))
    return max(1 - kept[threads] / count for threads, count in every.items())


def require_quiet(repeatability: float | None, disturbed: float, force: bool, side: Path) -> None:
    """Raises CheckFailed, and removes the samples kept in `side`, if the machine was too noisy and not `force`."""
    drift = repeatability or 0.0
    if force or (drift <= _MOST_DRIFT and disturbed <= _MOST_DISTURBED):
        return
    side.unlink(missing_ok=True)
    raise CheckFailed(
        "this machine is too noisy to be calibrated: nothing was written",
        f"networks measured twice differ by {drift:.0%} (at most {_MOST_DRIFT:.0%}), and up to {disturbed:.0%} "
        f"of the samples were disturbed by other work or slow phases (at most {_MOST_DISTURBED:.0%})",
        "stop what else is running and calibrate again, or write the poor fit all the same with --force",
    )


def usual_conditions(samples: Sequence[Sample]) -> dict[int, Conditions]:
    """What predictions are for, with each number of threads: the median clock, and the handover and share of the
    last-level cache when nothing slows the machine down."""
    return {
        count: Conditions(
            round(statistics.median(one.conditions.clock_ns for one in samples if one.threads == count)),
            round(pace.handover(count), 4),
            round(pace.cache_share, 4),
        )
        for count, pace in usual_paces(samples).items()
    }


def fit_all(
    designs: Sequence[Design], samples: Sequence[Sample], facts: Mapping[str, Any], threads: Sequence[int]
) -> dict[str, Any]:
    """The `calibration` section of a profile: facts of the machine, and by family one fit per number of threads."""
    import laudc
    from laudc.calibrate.clocks import read_clocks
    from laudc.calibrate.fit import fit_threads
    from laudc.predict.cpu.amounts import Machine
    from laudc.predict.cpu.load import MODEL, VERSION

    machines = [
        Machine(str(facts["isa"]), count, int(facts["last_cache"]), int(facts["second_cache"])) for count in threads
    ]
    sections: dict[str, Any] = {}
    usual = usual_conditions(samples)
    for family in FAMILIES:
        own = [design for design in designs if design.family == family]
        if not own:
            continue
        indices = {design.index for design in own}
        seen = [sample for sample in samples if sample.design in indices]
        fits = [fit_threads(own, seen, machine, usual[machine.threads]) for machine in machines]
        sections[family] = {
            "samples": len(seen),
            "fits": [{**fit.to_dict(), "held_out": held_out} for fit, held_out in fits],
        }
    return {
        "model": MODEL,
        "version": VERSION,
        "machine": dict(facts),
        "clocks": read_clocks(),
        "laudc": laudc.__version__,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "method": "usual calls of made-up networks, weights from memory, brought to one clock, "
        "with what cores far apart cost at the time; relative non-negative least squares; errors and "
        "intervals on networks left out in turn",
        "samples": len(samples),
        "families": sections,
    }

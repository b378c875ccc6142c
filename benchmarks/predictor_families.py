"""Predicted against measured for LAUD-RegNetY and LAUD-T2T-ViT: the step `families` of predictor_cpu.py.

Published architectures in full depth, every one with masks of several kinds and rates, all blocks by our kernels and
all by the runtime; the weights and decisions are made up. 41 networks in three passes take about 10 minutes on two
cores.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from predictor_report import holds, read

from laudc.calibrate.design import Design
from laudc.calibrate.fit import error_summary
from laudc.calibrate.frames import frame_of
from laudc.calibrate.measure import CpuMeasurer
from laudc.calibrate.pace import SLOW, usual_pace
from laudc.calibrate.run import FOREIGN
from laudc.calibrate.samples import Sample
from laudc.calibrate.synthetic import Drawn
from laudc.calibrate.synthetic_vit import VitDrawn
from laudc.devices import load_profile
from laudc.predict.architectures import published
from laudc.predict.families import TITLES
from laudc.predict.models import latency_model
from laudc.predict.network import NetworkPrediction, PlannedBlock, predict_work
from laudc.predict.regnet_blueprint import RegNetBlueprint
from laudc.predict.vit_blueprint import VitBlueprint
from laudc.predict.work import work_of_row

STEP = "families"
PASSES = 3
REGNETS = ("lad_regnet_y_400mf", "lad_regnet_y_800mf", "lad_regnet_y_1_6gf")
REGNET_MODES: dict[str, dict[str, Any]] = {
    "channel-G2": {"modes": ("channel",) * 4, "channel": (2,) * 4},
    "spatial-4421": {"modes": ("spatial",) * 4, "spatial": (4, 4, 2, 1)},
    "both-4421-G2": {"modes": ("both",) * 4, "spatial": (4, 4, 2, 1), "channel": (2,) * 4},
}
REGNET_RATES = (0.3, 0.5, 0.8)
VITS = ("ada_step_t2t_vit_14_lnorm", "ada_step_t2t_vit_19_lnorm")
# Kept tokens, heads and sublayers; None: no such policy.
VIT_MODES: dict[str, tuple[float | None, float | None, float | None]] = {
    "token 50%": (0.5, None, None),
    "token 80%": (0.8, None, None),
    "head 50%": (None, 0.5, None),
    "head 80%": (None, 0.8, None),
    "layer 60%": (None, None, 0.6),
    "all 70/70/80%": (0.7, 0.7, 0.8),
    "all 50/50/50%": (0.5, 0.5, 0.5),
}


@dataclass(frozen=True)
class FamilyVariant:
    """One network: which architecture, with which masks, keeping how much."""

    arch: str
    mode: str
    rate: float

    def design(self, index: int) -> Design:
        """The network as calibrations have theirs."""
        return self._regnet(index) if self.arch in REGNETS else self._vit(index)

    def _regnet(self, index: int) -> Design:
        base = published(self.arch)
        assert isinstance(base, RegNetBlueprint)
        blueprint = replace(base, **REGNET_MODES[self.mode])
        count = sum(base.layers)
        return _design(index, blueprint, Drawn((self.rate,) * count, (self.rate,) * count), count)

    def _vit(self, index: int) -> Design:
        base = published(self.arch)
        assert isinstance(base, VitBlueprint)
        depth = len(base.hidden)
        token, head, layer = VIT_MODES[self.mode]
        blueprint = base.with_policies(token=token is not None, head=head is not None, layer=layer is not None)
        runs = np.random.default_rng(depth).permutation(2 * depth) < round((layer or 1.0) * 2 * depth)
        drawn = VitDrawn(
            (token or 1.0,) * depth, (head or 1.0,) * depth, tuple(map(bool, runs[::2])), tuple(map(bool, runs[1::2]))
        )
        return _design(index, blueprint, drawn, depth)


def _design(index: int, blueprint: Any, drawn: Any, count: int) -> Design:
    return Design(index, blueprint, drawn, (False,) * count, (False,) * count, ("sparse", "dense"))


def family_variants() -> list[FamilyVariant]:
    """Every RegNetY in every mode and rate, every T2T-ViT in every mode."""
    regnets = [FamilyVariant(arch, mode, rate) for arch in REGNETS for mode in REGNET_MODES for rate in REGNET_RATES]
    return regnets + [FamilyVariant(arch, mode, 0.0) for arch in VITS for mode in VIT_MODES]


def measure_families(path: Path, threads: list[int], part: int, parts: int) -> None:
    """Appends what is missing: per pass, variant and number of threads one sample of our kernels and one dense. Passes
    go through all variants, so that those of a variant are minutes apart."""
    measurer = CpuMeasurer()
    done = {_key(row) for row in _read(path)}
    for turn in range(PASSES):
        for number, variant in enumerate(family_variants()):
            if number % parts != part - 1:
                continue
            for count in threads:
                row: dict[str, Any] = {
                    "step": STEP, "variant": asdict(variant), "rate": variant.rate, "number": number, "threads": count,
                    "pass": turn, "samples": [], "median_ns": [], "times": {},
                }  # fmt: skip
                if _key(row) in done:
                    continue
                design = variant.design(number)
                for kind in design.kinds:
                    timed = measurer.timed(design, kind, count)
                    row["samples"].append(asdict(measurer.sample(design, kind, count, timed)))
                    row["median_ns"].append(float(np.median(timed.totals)))
                with open(path, "a") as file:
                    file.write(json.dumps(row) + "\n")
                print(STEP, turn, number, variant, count, flush=True)


def _key(row: dict[str, Any]) -> str:
    return json.dumps([row["variant"], row["threads"], row["pass"]])


def _read(path: Path) -> list[dict[str, Any]]:
    return [row for row in read(path) if row["step"] == STEP]


def report_families(path: Path, device: str, slow: float = SLOW) -> None:
    """Prints the errors by family, form and number of threads. Predictions are told the conditions of each pass;
    minutes apart the same network takes some per cent more or less all the same, so that the pass with the middle error
    counts. Passes while the machine was more than `slow` times as slow as usual, or changed, or other processes took
    its cores, do not."""
    rows = _read(path)
    profile = load_profile(device)
    for threads in sorted({row["threads"] for row in rows}):
        passes = _passes([row for row in rows if row["threads"] == threads])
        usual = usual_pace(pace for _, samples in passes for one in samples for pace in one.paces)
        lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
        inside: dict[str, list[bool]] = defaultdict(list)
        spread, left_out, without = [], 0, 0
        for design, samples in passes:
            model = latency_model(profile, threads=threads, family=design.family)
            if model is None:
                continue
            quiet = [one for one in samples if one.slowness(usual) <= slow and one.foreign <= FOREIGN]
            left_out += len(samples) - len(quiet)
            if not quiet:
                without += 1
                continue
            found = [(_predict(model.model.at(sample.conditions), design, sample), sample) for sample in quiet]
            if len(found) > 1:
                ratios = [_ratio(one) for one in found]
                spread.append(max(ratios) / min(ratios) - 1)
            counted = sorted(_odd(found), key=_ratio)
            predicted, sample = counted[len(counted) // 2]
            title, total = TITLES[design.family], sample.total_ns / 1e3
            lines[f"{title}, {sample.kind}"].append((predicted.latency.mean_us, total))
            _collect(predicted, sample, lines, inside, title)
            inside[f"{title} networks"].append(holds(predicted.latency, total))
            mode = family_variants()[design.index].mode
            lines[f"  {title} {mode}, {sample.kind}"].append((predicted.latency.mean_us, total))
        print(
            f"\n== families, {threads} thread(s); {left_out} disturbed samples left out, and {without} of "
            f"{len(passes)} networks in a form with them"
        )
        if spread:
            middle, most = np.median(spread), np.percentile(spread, 90)
            print(f"slowest over fastest pass, beside what is predicted: median {middle:.1%}, 90 % within {most:.1%}")
        for label, pairs in lines.items():
            predicted_us, measured_us = np.asarray(pairs).T
            errors = error_summary(predicted_us, measured_us)
            print(
                f"{label:<46} n {errors['count']:>4}  MAPE {errors['mape']:6.1%}  bias {errors['bias']:+6.1%}  "
                f"±5 % {errors['within_5']:6.1%}  ±10 % {errors['within_10']:6.1%}"
            )
        for label, hits in inside.items():
            print(f"90 % intervals of {label} hold {np.mean(hits):.1%}")


def _passes(rows: list[dict[str, Any]]) -> list[tuple[Design, list[Sample]]]:
    """The samples of every variant in each form, with the median of all calls for the mean of the usual ones."""
    found: dict[tuple[int, str], list[Sample]] = defaultdict(list)
    for row in rows:
        for sample, median in zip(map(Sample.from_dict, row["samples"]), row["median_ns"], strict=True):
            found[row["number"], sample.kind].append(replace(sample, total_ns=median))
    variants = family_variants()
    return [(variants[number].design(number), samples) for (number, _), samples in found.items()]


def _odd(found: list[tuple[NetworkPrediction, Sample]]) -> list[tuple[NetworkPrediction, Sample]]:
    """So many that one is in the middle."""
    return found[: (len(found) - 1) // 2 * 2 + 1]


def _ratio(found: tuple[NetworkPrediction, Sample]) -> float:
    """Predicted over measured."""
    return found[0].latency.mean_us / found[1].total_ns


def _predict(model: Any, design: Design, sample: Sample) -> NetworkPrediction:
    executions = design.executions(sample.kind)
    blocks = [PlannedBlock(n, r, e) for (n, r), e in zip(design.records(64), executions, strict=True)]
    work = [work_of_row(block.record, row) for block, row in zip(blocks, sample.counts, strict=True)]
    return predict_work(model, frame_of(design), blocks, work, images=1, source="", status="")


def _collect(predicted: NetworkPrediction, sample: Sample, lines: Any, inside: Any, title: str) -> None:
    for block, ns in zip(predicted.blocks, sample.block_ns, strict=True):
        if ns is None:
            continue
        lines[f"{title}, blocks"].append((block.latency.mean_us, ns / 1e3))
        if ns > 30e3:
            lines[f"{title}, blocks of more than 30 µs"].append((block.latency.mean_us, ns / 1e3))
        inside[f"{title} blocks"].append(holds(block.latency, ns / 1e3))

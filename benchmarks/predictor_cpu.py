"""Predicted against measured latency on this CPU, on networks, masks and schedules that no calibration has seen.

    laudc calibrate
    python benchmarks/predictor_cpu.py networks --out build/predictor.jsonl
    python benchmarks/predictor_cpu.py traces   --out build/predictor.jsonl
    python benchmarks/predictor_cpu.py schedule --out build/predictor.jsonl
    python benchmarks/predictor_cpu.py families --out build/predictor.jsonl
    python benchmarks/predictor_cpu.py report   --out build/predictor.jsonl

Each step appends what it measures, so that it can be done in parts (`--part 1/4`) and goes on where it stopped.
Nothing else may run meanwhile. `networks`: end to end and every block of 224 variants. `traces`: networks whose masks
differ from image to image. `schedule`: every block with conv2 direct, by Winograd, and dense in onnxruntime.
`families`: LAUD-RegNetY and LAUD-T2T-ViT (predictor_families.py). `report` needs no measuring: it predicts with the
profile of the device that `--device` names and prints the errors beside those of a roofline and of LAUDNet's own
model. Fixed pieces of work timed before and after each measurement, and between its calls, tell the clock, what
sharing work between cores cost, and how much of the last-level cache neighbours left: predictions are told all three,
as in `laudc profile`, for the passes of a network on average, for a trace round by round; errors without that are
printed beside. Rows are left out and counted where clock or memory was a third slower than usual, or where what
sharing costs changed by 16 % meanwhile. `networks --again` and `traces --again` measure those once more, and those
whose cores were further apart than usual; of all that was measured what is nearest to usual counts.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from predictor_dense import DENSE, DenseBlocks
from predictor_families import STEP as FAMILIES
from predictor_families import measure_families, report_families
from predictor_networks import MODES, RATES, Built, Variant, all_variants
from predictor_report import disturbed, read, report

from laudc.calibrate.measure import CpuMeasurer, Timed, between_looks, time_undisturbed
from laudc.calibrate.pace import PaceMeter, PaceWatch
from laudc.calibrate.pinning import caller_pinned
from laudc.calibrate.resting import settle
from laudc.ops.scheduled import Conv2Algorithm
from laudc.predict.activation import activation_from_masks

PASSES = 3
TRACE_IMAGES = 32
ROUNDS = 9
TRACE_SHAPES = (("uni_resnet50", 1.0, 160), ("uni_resnet50", 0.5, 224), ("uni_resnet101", 0.5, 160))
TRACE_RATES = (0.35, 0.7)
SCHEDULE_SHAPES = (("uni_resnet50", 1.0, 224), ("uni_resnet50", 0.625, 176))
SCHEDULE_RATES = (0.3, 0.6, 1.0)

Rows = Iterator[tuple[float, dict[str, np.ndarray], dict[int, Any]]]


def measure_network(variant: Variant, threads: list[int]) -> Rows:
    """Median of the whole call and every block's share of it in usual calls, all rates in turn, and that several times:
    the pass in the slowest phase is left out, and two are left for the repeatability."""
    built = Built(variant, threads)
    masks: dict[float, dict[str, np.ndarray]] = {}
    times: dict[float, dict[int, dict[str, list[Any]]]] = {
        rate: {count: {"total_ns": [], "block_ns": [], "paces": [], "foreign": []} for count in threads}
        for rate in RATES
    }
    for _ in range(PASSES):
        for rate in RATES:
            masks[rate] = built.keep(rate)
            for count in threads:
                run = time_runner(built, count)
                found = times[rate][count]
                median, (usual, blocks) = float(np.median(run.totals)), run.usual()
                found["total_ns"].append(median)
                found["block_ns"].append((blocks * median / usual).tolist())
                found["paces"].append([asdict(one) for one in run.paces])
                found["foreign"].append(run.foreign)
    for rate in RATES:
        yield rate, masks[rate], times[rate]


def measure_trace(variant: Variant, threads: list[int]) -> Rows:
    """Latency of every image in each of several rounds that go through the images in turn, and the pace of each."""
    built = Built(variant, threads, TRACE_IMAGES)
    images = [built.images[i : i + 1] for i in range(TRACE_IMAGES)]
    for rate in TRACE_RATES:
        masks, times = built.keep(rate), {}
        for count in threads:
            timed = functools.partial(time_images, built.runners[count], images)
            with caller_pinned():
                paces, rounds = zip(*(between_looks(pace(count), timed) for _ in range(ROUNDS)), strict=True)
            times[count] = {"rounds_ns": rounds, "paces": [[asdict(one) for one in around] for around in paces]}
        yield rate, masks, times


def time_images(runner: Any, images: list[np.ndarray], watch: PaceWatch) -> list[float]:
    """One call per image, ns; `watch` looks in between, and evens them out."""
    totals: list[int] = []
    runner.run(images[-1])
    for image in images:
        start = time.perf_counter_ns()
        runner.run(image)
        totals.append(time.perf_counter_ns() - start)
        watch.between(functools.partial(runner.run, image), totals[-1])
    return (watch.evened() * totals).tolist()


def measure_schedule(variant: Variant, threads: list[int]) -> Rows:
    """Every block with conv2 direct, by Winograd, and dense in the runtime, in turn; medians of the rounds' medians.

    What the runtime computes does not depend on the masks, but is measured anew with each rate: all are interleaved.
    """
    both = {algorithm.name: Built(variant, threads, algorithm=algorithm) for algorithm in Conv2Algorithm}
    first = both[Conv2Algorithm.DIRECT.name]
    for rate in SCHEDULE_RATES:
        masks = {name: built.keep(rate) for name, built in both.items()}
        times: dict[int, Any] = {}
        for count in threads:
            rounds: dict[str, list[Any]] = {name: [] for name in (*both, DENSE)}
            paces = []
            with DenseBlocks(first.portable, [name for name, _ in first.records], count) as dense:
                for _ in range(3):
                    for name, built in both.items():
                        run = time_runner(built, count)
                        rounds[name].append(np.median(run.blocks, axis=0))
                        paces.append([asdict(one) for one in run.paces])
                    settle()
                    dense.run(first.images)
            rounds[DENSE] = dense.rounds_ns
            times[count] = {name: np.median(values, axis=0).tolist() for name, values in rounds.items()}
            times[count]["paces"] = paces
        yield rate, masks[Conv2Algorithm.DIRECT.name], times


def time_runner(built: Built, threads: int) -> Timed:
    """Calls and their blocks, at the best pace of a few attempts."""
    runner = built.runners[threads]
    return time_undisturbed(lambda: runner.run(built.images), lambda: runner.block_times_ns, pace(threads))


@functools.cache
def pace(threads: int) -> PaceMeter:
    """Tells the machine's pace with so many threads."""
    return CpuMeasurer().pace(threads)


STEPS = {
    "networks": (all_variants(), measure_network),
    "traces": ([Variant(*shape, mode) for shape in TRACE_SHAPES for mode in MODES], measure_trace),
    "schedule": ([Variant(*shape, mode) for shape in SCHEDULE_SHAPES for mode in MODES], measure_schedule),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=[*STEPS, FAMILIES, "report"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--part", default="1/1", help="i/n: every n-th network, from the i-th on")
    parser.add_argument("--again", action="store_true", help="measure again what was not as usual")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.step == "report":
        report(args.out, args.device)
        report_families(args.out, args.device)
        return
    if args.step == FAMILIES:
        measure_families(args.out, args.threads, *map(int, args.part.split("/")))
        return
    variants, measure = STEPS[args.step]
    part, parts = map(int, args.part.split("/"))
    known = read(args.out)
    done = {json.dumps(row["variant"]) for row in known if row["step"] == args.step}
    if args.again:
        done -= {json.dumps(variant) for variant in disturbed([row for row in known if row["step"] == args.step])}
    for number, variant in enumerate(variants):
        if number % parts != part - 1 or json.dumps(asdict(variant)) in done:
            continue
        rows = [
            {
                "step": args.step,
                "variant": asdict(variant),
                "rate": rate,
                "masks": activation_from_masks(masks, "", None).to_json().decode(),
                "times": times,
            }
            for rate, masks, times in measure(variant, args.threads)
        ]
        with open(args.out, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        print(args.step, number, variant, flush=True)


if __name__ == "__main__":
    main()

"""Predicted against measured latency on this CPU, on networks, masks and schedules that no calibration has seen.

    laudc calibrate
    python benchmarks/predictor_cpu.py networks --out build/predictor.jsonl
    python benchmarks/predictor_cpu.py traces   --out build/predictor.jsonl
    python benchmarks/predictor_cpu.py schedule --out build/predictor.jsonl
    python benchmarks/predictor_cpu.py report   --out build/predictor.jsonl

Each step appends what it measures, so that it can be done in parts (`--part 1/4`) and goes on where it stopped. Nothing
else may run meanwhile. `networks`: end to end and every block of 224 variants. `traces`: networks whose masks differ
from image to image. `schedule`: every block with conv2 direct and by Winograd. `report` needs no measuring: it predicts
with the profile of the device that `--device` names and prints the errors beside those of a roofline and of LAUDNet's
own model.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from predictor_networks import MODES, Built, Variant, all_variants

from laudc.calibrate.measure import time_undisturbed
from laudc.ops.scheduled import Conv2Algorithm
from laudc.predict.activation import activation_from_masks

TRACE_IMAGES = 40
TRACES = [
    Variant(arch, width, size, mode, rate)
    for arch, width, size in (("uni_resnet50", 1.0, 160), ("uni_resnet50", 0.5, 224), ("uni_resnet101", 0.5, 160))
    for mode in MODES
    for rate in (0.35, 0.7)
]
SCHEDULES = [
    Variant(arch, width, size, mode, rate)
    for arch, width, size in (("uni_resnet50", 1.0, 224), ("uni_resnet50", 0.625, 176))
    for mode in MODES
    for rate in (0.3, 0.6)
]


def measure_network(variant: Variant, threads: list[int]) -> dict[str, Any]:
    """Medians of the whole call and of every block, twice with other calls in between for the repeatability."""
    built = Built(variant)
    row: dict[str, Any] = {"masks": activation_from_masks(built.masks, "", None).to_json().decode(), "times": {}}
    for count in threads:
        runner = built.runner(count)
        runs = []
        for _ in range(2):
            totals, blocks, foreign = time_runner(runner, built.images)
            runs.append((float(np.median(totals)), np.median(blocks, axis=0).tolist(), foreign))
        row["times"][count] = {"total_ns": [run[0] for run in runs], "block_ns": runs[0][1], "foreign": runs[0][2]}
    return row


def time_runner(runner: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Calls (calls,), blocks (calls, blocks), and what others took of the machine."""
    return time_undisturbed(lambda: runner.run(images), lambda: runner.block_times_ns)


def measure_trace(variant: Variant, threads: list[int]) -> dict[str, Any]:
    """Median latency of every image, calls going through the images in turn."""
    built = Built(variant, TRACE_IMAGES)
    row: dict[str, Any] = {"masks": activation_from_masks(built.masks, "", None).to_json().decode(), "times": {}}
    for count in threads:
        runner = built.runner(count)
        rounds = []
        order = iter(range(10**9))
        for _ in range(5):
            images = [built.images[i : i + 1] for i in range(TRACE_IMAGES)]
            totals, _, foreign = time_one_by_one(runner, images, order)
            rounds.append(totals)
        row["times"][count] = {"image_ns": np.median(rounds, axis=0).tolist(), "foreign": foreign}
    return row


def time_one_by_one(runner: Any, images: list[np.ndarray], order: Any) -> tuple[list[int], None, float]:
    """One call per image."""
    import time

    from laudc.calibrate.load import LoadMeter

    meter = LoadMeter()
    totals = []
    runner.run(images[next(order) % len(images)])
    for image in images:
        start = time.perf_counter_ns()
        runner.run(image)
        totals.append(time.perf_counter_ns() - start)
    return totals, None, meter.foreign()


def measure_schedule(variant: Variant, threads: list[int]) -> dict[str, Any]:
    """Every block with conv2 direct and by Winograd, sessions in turn, medians of the rounds' medians."""
    built = Built(variant)
    row: dict[str, Any] = {"masks": activation_from_masks(built.masks, "", None).to_json().decode(), "times": {}}
    for count in threads:
        runners = {
            algorithm.name: built.runner(count, built.plan(built.with_algorithm(algorithm)))
            for algorithm in Conv2Algorithm
        }
        rounds: dict[str, list[Any]] = {name: [] for name in runners}
        for _ in range(3):
            for name, runner in runners.items():
                _, blocks, _ = time_runner(runner, built.images)
                rounds[name].append(np.median(blocks, axis=0))
        row["times"][count] = {name: np.median(values, axis=0).tolist() for name, values in rounds.items()}
    return row


STEPS = {
    "networks": (all_variants, measure_network),
    "traces": (lambda: TRACES, measure_trace),
    "schedule": (lambda: SCHEDULES, measure_schedule),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=[*STEPS, "report"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--part", default="1/1", help="i/n: every n-th network, from the i-th on")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.step == "report":
        from predictor_report import report

        report(args.out, args.device)
        return
    variants, measure = STEPS[args.step]
    part, parts = map(int, args.part.split("/"))
    done = {json.dumps(row["variant"]) for row in read(args.out) if row["step"] == args.step}
    for number, variant in enumerate(variants()):
        if number % parts != part - 1 or json.dumps(asdict(variant)) in done:
            continue
        row = {"step": args.step, "variant": asdict(variant), **measure(variant, args.threads)}
        with open(args.out, "a") as file:
            file.write(json.dumps(row) + "\n")
        print(args.step, number, variant, flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """What was measured so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()

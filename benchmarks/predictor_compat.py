"""Speed of the laudnet-compat latency model, per operator.

    python benchmarks/predictor_compat.py

*start*: the recorded calls, each once in a fresh process. *golden*: the same at ten further batch sizes: the process is
warm, but no result is in a cache. *cold*: operators of many widths and resolutions that all differ. *sweep*: whole
networks over modes, granularities and 20 rates, as a scheduler or a search asks; blocks that are alike are computed
once, and operators that differ in their rate only share the search for the tile.
Microseconds per operator, median of the repeats, each in a fresh process, one thread.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from laudc.predict.compat import (
    REGNETY_400MF,
    RESNET50,
    RESNET101,
    BlockRates,
    Call,
    Model,
    blocks_of,
    compat_device,
    predict,
    predict_network,
)

GOLDEN = Path(__file__).parents[1] / "tests" / "data" / "predictor" / "golden_public.csv"
DEVICES = ("v100", "rtx3090", "rtx3060", "tx2", "nano")
RATES = [step / 20 for step in range(1, 21)]


def start() -> int:
    """Every recorded call once; returns how many."""
    from laudc.predict.compat.golden import read_golden

    rows = read_golden(GOLDEN)
    models = {row.device: Model(row.device) for row in rows}
    begin = time.perf_counter()
    for row in rows:
        predict(models[row.device], row.call)
    return report(begin, len(rows))


def golden() -> int:
    """Every recorded call at other batch sizes; returns how many calls."""
    from laudc.predict.compat.golden import read_golden

    rows = read_golden(GOLDEN)
    for row in rows:
        predict(Model(row.device), row.call)
    calls = []
    for batch in range(2, 12):
        models = {row.device: Model(row.device.with_batch(batch)) for row in rows}
        calls += [(models[row.device], row.call) for row in rows]
    begin = time.perf_counter()
    for model, call in calls:
        predict(model, call)
    return report(begin, len(calls))


def random_calls(count: int) -> Iterator[tuple[str, Call]]:
    """Different calls of the operators that matter: half of them sparse convolutions."""
    rng = random.Random(0)
    for _ in range(count):
        cin, cout = (8 * rng.randint(2, 128) for _ in range(2))
        side = rng.choice((7, 8, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56))
        granule = rng.choice([size for size in (1, 2, 4, 7, 8, 14) if size <= side])
        conv = {"cin": cin, "cout": cout, "inh": side, "inw": side, "ks": rng.choice((1, 3)), "groups": 1, "stride": 1}
        sparse = {"granul_size": granule, "density": rng.random()}
        op, arguments = rng.choice(
            [
                ("conv", conv),
                ("dynamic_conv", {**conv, **sparse, "with_indexing": True}),
                ("dynamic_conv", {**conv, **sparse, "with_indexing": False}),
                ("dynamic_conv", {**conv, "oc_density": rng.random(), "spatial_masker": False}),
                ("scatter_add", {"c": cout, "h": side, "w": side, **sparse}),
                ("add", {"c": cout, "h": side, "w": side}),
            ]
        )
        yield rng.choice(DEVICES), Call.of(op, **arguments)


def cold() -> int:
    """Operators that all differ; returns how many."""
    models = {name: Model(compat_device(name)) for name in DEVICES}
    calls = [(models[name], call) for name, call in random_calls(2000)]
    begin = time.perf_counter()
    for model, call in calls:
        predict(model, call)
    return report(begin, len(calls))


def sweep() -> int:
    """Networks × devices × modes × granularities × rates; returns how many operators were asked for."""
    begin = time.perf_counter()
    operators = 0
    for architecture in (RESNET50, RESNET101, REGNETY_400MF):
        for device in DEVICES:
            model = Model(compat_device(device))
            for mode, granules in (
                ("spatial", (4, 4, 2, 1)),
                ("spatial", (8, 4, 7, 1)),
                ("channel", (1, 1, 1, 1)),
                ("layer", (1, 1, 1, 1)),
            ):
                blocks = blocks_of(architecture, granules=granules)
                for rate in RATES:
                    found = predict_network(model, blocks, mode, BlockRates(rate, rate, rate))
                    operators += sum(len(block.parts) for block in found)
    return report(begin, operators)


def report(begin: float, operators: int) -> int:
    """Prints microseconds per operator and the count for the parent process."""
    print((time.perf_counter() - begin) / operators * 1e6, operators)
    return operators


CASES: dict[str, Callable[[], int]] = {"start": start, "golden": golden, "cold": cold, "sweep": sweep}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", choices=sorted(CASES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        CASES[options.case]()
        return
    for case in CASES:
        times = []
        for _ in range(options.repeats):
            done = subprocess.run(
                [sys.executable, __file__, "--case", case], check=True, capture_output=True, text=True
            )
            microseconds, operators = done.stdout.split()
            times.append(float(microseconds))
        print(
            f"{case:8} {statistics.median(times):8.1f} us per operator ({min(times):.1f} to {max(times):.1f}), "
            f"{operators} operators"
        )


if __name__ == "__main__":
    main()

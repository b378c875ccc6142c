"""Engine against ONNX Runtime's own dense engine of the same architecture: interleaved calls in one process.

    python benchmarks/cpu_speed.py --threads 1 2 --out build/cpu_speed.json
    LAUDC_ISA=avx2 python benchmarks/cpu_speed.py ...

"Ideal" is dense over active MACs for the very masks of the image, stem, projections, maskers and head included.
"share" is speed-up over ideal. Sessions take turns call by call with an idle gap, because the waiting threads of one
session would otherwise spin while the other is measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from networks import MODES, build

GAP_SECONDS = 0.06


def dense_session(model: Any, threads: int) -> Callable[[np.ndarray], Any]:
    """The dense twin in plain onnxruntime, all optimisations on."""
    import onnxruntime

    from laudc.export import dense_twin

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        dense_twin(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda image: session.run(None, {"input": image})


def ideal_speedup(model: Any, trace: dict[str, dict[str, np.ndarray]]) -> float:
    """FLOP-ideal speed-up for the first image of a trace."""
    from laudc.ops import names
    from laudc.ops.macs import masks_of_image, network_macs, network_shape

    values = {}
    for block, kinds in trace.items():
        for key, margin in kinds.items():
            kind = key.removesuffix("_margin")
            values[names.mask_value(block, kind)] = names.kept(kind, margin)
    return network_macs(network_shape(model), masks_of_image(values, 0)).ideal_speedup


def interleave(candidates: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds per call of each candidate, in turns; the first call of each round warms up."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            time.sleep(GAP_SECONDS)
            call()
            for _ in range(2):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return times


def measure(network: Any, facts: dict[str, Any], threads: list[int], rounds: int, folder: str) -> list[dict[str, Any]]:
    """One row per number of threads; `network` has a model and the image for its masks, `facts` name the row."""
    import laudc
    from laudc import backends

    model = laudc.export(network.model, input_size=network.image.shape[2:])
    path = Path(folder, "model.laudc")
    laudc.build_engine(model, path, portable=False)
    isa = backends.get("onnxruntime").native_abi()["active"]
    rows = []
    for count in threads:
        engine = laudc.load_engine(path, threads=count)
        dense = dense_session(model, count)
        logits, trace = engine.trace(network.image)
        ideal = ideal_speedup(model, trace)
        times = interleave(
            {"laudc": lambda e=engine: e(network.image), "dense": lambda d=dense: d(network.image)},
            rounds,
        )
        laudc_ms, dense_ms = (statistics.median(times[name]) * 1e3 for name in ("laudc", "dense"))
        block_ms = np.asarray(engine.block_times_ns, float) / 1e6
        rows.append(
            {
                **facts,
                "threads": count,
                "laudc_ms": laudc_ms,
                "dense_ms": dense_ms,
                "speedup": dense_ms / laudc_ms,
                "ideal": ideal,
                "share": dense_ms / laudc_ms / ideal,
                "outside_blocks_ms": laudc_ms - float(block_ms.sum()),
                "isa": isa,
                "quartiles_laudc_ms": [q * 1e3 for q in statistics.quantiles(times["laudc"], n=4)],
                "quartiles_dense_ms": [q * 1e3 for q in statistics.quantiles(times["dense"], n=4)],
            }
        )
        print(
            f"{' '.join(map(str, facts.values())):>36} {count}t  laudc {laudc_ms:7.1f} ms  dense {dense_ms:7.1f} ms  "
            f"{rows[-1]['speedup']:5.2f}x of {ideal:5.2f}x = {rows[-1]['share']:.2f}  "
            f"(outside blocks {rows[-1]['outside_blocks_ms']:.1f} ms)",
            flush=True,
        )
        assert np.isfinite(logits).all()
    return rows


def write(path: str, rows: list[dict[str, Any]]) -> None:
    """The rows and what they were measured with, as JSON."""
    import onnxruntime

    record = {"machine": platform.processor(), "onnxruntime": onnxruntime.__version__, "rows": rows}
    with open(path, "w") as file:
        json.dump(record, file, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=[m for m in MODES if m not in ("spatial-1111", "both-4421-G2")])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.25, 0.5, 1.0])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--arch", default="uni_resnet101")
    parser.add_argument("--size", nargs=2, type=int, default=[224, 224], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for mode in args.modes
            for rate in args.rates
            for row in measure(
                build(mode, rate, arch=args.arch, size=tuple(args.size)),
                {"arch": args.arch, "size": "x".join(map(str, args.size)), "mode": mode, "rate": rate},
                args.threads,
                args.rounds,
                folder,
            )
        ]
    if args.out:
        write(args.out, rows)


if __name__ == "__main__":
    main()

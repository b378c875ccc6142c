"""python -m gpu_check --library liblaudc_cuda.so --out FOLDER [--only PART,...] [--seconds N] [--quick]"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .cases import BATCHES, MODES, RATES, block_cases
from .jobs import Job, Stopped, Worker
from .journal import FAILED, Journal
from .native import Library

PARTS = ("numerics", "launch", "networks", "blocks")
WRONG, UNFINISHED = 3, 4


def device_facts(library: Library) -> dict[str, Any]:
    """What the numbers were measured on and with."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "sm": library.sm,
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": properties.total_memory / 2**30,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def sources_sha256() -> str:
    """Which kernels: of their sources, since building the same ones again gives other bytes."""
    plugins = Path(__file__).resolve().parents[2] / "plugins"
    digest = hashlib.sha256()
    for path in sorted(path for part in ("core", "cuda") for path in (plugins / part).iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def jobs_of(part: str, library: Library, *, quick: bool, compiled: Sequence[str]) -> Iterable[Job[Any]]:
    """What a part consists of. `compiled`: parts in which torch.compile is one of the dense alternatives."""
    from .measure import Bench, block_jobs, launch_cost, network_jobs
    from .numerics import check_jobs, numeric_cases
    from .timing import event_clock

    bench = Bench(library, event_clock(), runs=20 if quick else 50, compiled=part in compiled)
    if part == "numerics":
        return check_jobs(library, numeric_cases())
    if part == "launch":
        return [Job("launch", lambda: launch_cost(bench))]
    if part == "networks":
        return network_jobs(bench, MODES, (0.5,) if quick else RATES, BATCHES)
    return block_jobs(bench, block_cases(quick=quick))


def work(worker: Worker, parts: Sequence[str], library: Library, *, quick: bool, compiled: Sequence[str]) -> bool:
    """Whether all of these parts are done."""
    done = [worker.work_off(part, jobs_of(part, library, quick=quick, compiled=compiled)) for part in parts]
    return all(done)


def main(words: Sequence[str] | None = None) -> int:
    """Runs what is open; 3 when some result is wrong, 4 when there was no time for everything."""
    parser = argparse.ArgumentParser(prog="gpu_check", description=__doc__)
    parser.add_argument("--library", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--seconds", type=float, help="begin nothing new after that")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--compile", default="networks", help="parts with torch.compile, separated by commas")
    options = parser.parse_args(words)
    deadline = None if options.seconds is None else time.monotonic() + options.seconds

    import torch

    from .report import Findings, summary, write

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    library = Library(options.library)
    facts = device_facts(library)
    compiled = options.compile.split(",")
    # Not what was compiled: a later call may add alternatives to the cases that are still open. Nor the memory, which
    # differs by some MiB with the driver and changes no time.
    device = {name: fact for name, fact in facts.items() if name != "memory_gib"}
    setting = {"device": device, "kernels": sources_sha256(), "quick": options.quick}
    journal = Journal(options.out / "measured.jsonl", setting)
    worker = Worker(journal, deadline, say=lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    stopped = ""
    try:
        done = work(worker, options.only.split(","), library, quick=options.quick, compiled=compiled)
    except Stopped as error:
        done, stopped = False, str(error)
    findings = Findings.of(journal, facts, complete=done)
    write(options.out, findings)
    print(summary(findings))
    if stopped:
        print(f"stopped: {stopped}\nThe same command goes on with the case after it.", file=sys.stderr)
    wrong = journal.without_result(FAILED) or not all(check.passed for check in findings.checks)
    return WRONG if wrong else 0 if done else UNFINISHED


if __name__ == "__main__":
    sys.exit(main())

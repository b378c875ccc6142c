"""python -m gpu_check --library liblaudc_cuda.so --out FOLDER [--quick] [--no-compile]"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cases import BATCHES, MODES, RATES, block_cases
from .native import Library


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


def main(words: Sequence[str] | None = None) -> int:
    """Runs everything; 3 when some result is wrong."""
    parser = argparse.ArgumentParser(prog="gpu_check", description=__doc__)
    parser.add_argument("--library", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args(words)

    import torch

    from .measure import Bench, launch_overhead, measure_blocks, measure_networks
    from .numerics import check_all, numeric_cases
    from .report import document, numerics_summary, table, write
    from .timing import event_clock

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    library = Library(options.library)
    checks = check_all(library, numeric_cases())
    print(numerics_summary(checks), flush=True)
    bench = Bench(
        library,
        event_clock(),
        runs=20 if options.quick else 50,
        compiled=not options.no_compile,
        say=lambda text: print(f"  {text}", file=sys.stderr, flush=True),
    )
    launch = launch_overhead(bench)
    # Compiling every block would take hours; whole networks are compared with compiled ones.
    blocks = measure_blocks(dataclasses.replace(bench, compiled=False), block_cases(quick=options.quick))
    networks = measure_networks(bench, MODES, (0.5,) if options.quick else RATES, BATCHES)
    overhead = ", ".join(f"{name.removesuffix('_us')} {value:.1f} µs" for name, value in launch.items())
    text = f"{numerics_summary(checks)}\nper launch: {overhead}\n\n{table(networks)}\n\n{table(blocks)}"
    write(options.out, document(device_facts(library), launch, checks, blocks, networks), text)
    print(text)
    return 0 if all(check.passed for check in checks) else 3


if __name__ == "__main__":
    sys.exit(main())

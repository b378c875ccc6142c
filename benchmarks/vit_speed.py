"""LAUD-T2T-ViT against ONNX Runtime's own dense engine of the same architecture, as `cpu_speed.py` does it.

    python benchmarks/vit_speed.py --threads 1 2 --out build/vit_speed.json
"""

from __future__ import annotations

import argparse
import tempfile

from cpu_speed import measure, write
from vit_networks import MODES, build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--arch", default="ada_step_t2t_vit_19_lnorm")
    parser.add_argument("--out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for mode in args.modes
            for row in measure(
                build(mode, arch=args.arch), {"arch": args.arch, "mode": mode}, args.threads, args.rounds, folder
            )
        ]
    if args.out:
        write(args.out, rows)


if __name__ == "__main__":
    main()

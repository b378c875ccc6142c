"""Full-size networks: engine against the PyTorch model, logits and every mask decision, batch 4 and batch 1.

    python benchmarks/exactness.py [--archs uni_resnet50 uni_resnet101 ada_step_t2t_vit_19_lnorm] [--modes ...]

A decision that differs is a tie when the model's own margin is below 1e-5, else a flip.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import vit_networks
from networks import MODES, build

TIE = 1e-5


def compare(runner: Any, reference: Any, images: np.ndarray) -> str:
    """Largest logit error relative to the largest logit, flips, ties, number of decisions."""
    from laudc.ops import names

    logits, trace = runner.trace(images)
    wanted = reference.logits.numpy()[: len(images)]
    flips = ties = decisions = 0
    for block in reference.blocks:
        for kind, found in trace[block.name].items():
            margin = getattr(block, kind).numpy()[: len(images)]
            found = found.reshape(margin.shape)
            turned = names.kept(kind.removesuffix("_margin"), margin) != names.kept(kind.removesuffix("_margin"), found)
            flips += int((turned & (np.abs(margin) >= TIE)).sum())
            ties += int((turned & (np.abs(margin) < TIE)).sum())
            decisions += turned.size
    error = np.abs(logits - wanted).max() / np.abs(wanted).max()
    return f"batch {len(images)}: {error:.1e} relative, {flips} flips and {ties} ties of {decisions} decisions"


def main() -> None:
    import laudnet
    import torch

    from laudc import backends
    from laudc.export import export
    from laudc.schedule import lower, make_plan

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    archs = ["uni_resnet50", "uni_resnet101", "ada_step_t2t_vit_19_lnorm"]
    parser.add_argument("--archs", nargs="+", default=archs)
    parser.add_argument("--modes", nargs="+", help="default: all of the family")
    args = parser.parse_args()
    backend = backends.get("onnxruntime")
    for arch in args.archs:
        transformer = arch.startswith("ada_")
        for mode in args.modes or (vit_networks.MODES if transformer else MODES):
            network = vit_networks.build(mode, arch=arch) if transformer else build(mode, 0.5, arch=arch)
            model = export(network.model)
            plan = make_plan(model, panel=backend.native_abi()["panel"])
            runner = backend.load(backend.compile(lower(model, plan)))
            more = np.random.default_rng(1).standard_normal((3, *network.image.shape[1:])).astype(np.float32)
            images = np.concatenate([network.image, more])
            with torch.no_grad():
                reference = laudnet.trace(network.model, torch.from_numpy(images))
            for count in (4, 1):
                print(f"{arch} {mode}: {compare(runner, reference, images[:count])}", flush=True)


if __name__ == "__main__":
    main()

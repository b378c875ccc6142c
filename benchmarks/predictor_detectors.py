"""Predicted against measured for whole detectors: Faster and Mask R-CNN on a LAUD-ResNet-50, random weights.

Scores and boxes are made to differ as those of trained ones do, so that suppression and RoIAlign have something to do.
Predictions know what the masks keep and what is found in each image, counted in a run before, and the machine's clock
and what sharing work costs meanwhile. Prints one row per
detector, size, number of threads and image.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import laudnet
import numpy as np
import torch

import laudc
from laudc.engine.build import parse_onnx
from laudc.engine.engine import Engine
from laudc.engine.manifest import PORTABLE
from laudc.engine.trace import trace_found
from laudc.export import export
from laudc.predict.frame import frame_of_model
from laudc.profile.activation import trace_masks
from laudc.profile.compare import engine_model
from laudc.profile.conditions import watched_conditions
from laudc.profile.inputs import collect_inputs

HEADS, MODES, SIZES, IMAGES = ("faster_rcnn", "mask_rcnn"), ("channel", "layer"), ("320x480", "608x800"), 2


def detector(head: str, mode: str) -> laudnet.LaudDetector:
    """In full size, in eval mode."""
    torch.manual_seed(0)
    config = laudnet.DetectorConfig.for_arch(
        "lad_mmdet_resnet50", dyn_mode=(mode,) * 4, neck="fpn", extra_levels="pool", head=head
    )
    model = laudnet.LaudDetector(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if ".masker_" in name and name.endswith("bias"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
            elif name.endswith(("fc_cls.weight", "rpn_cls.weight")):
                tensor.mul_(30)
            elif name.endswith(("fc_reg.weight", "rpn_reg.weight", "conv_logits.weight")):
                tensor.mul_(10)
    return model


def compare(head: str, mode: str, size: tuple[int, int], threads: list[int], runs: int) -> None:
    """Builds one engine, measures it and prints its rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.laudc"
        laudc.build_engine(export(detector(head, mode), input_size=size), path)
        for count in threads:
            with laudc.load_engine(path, threads=count) as engine:
                images = collect_inputs(engine.manifest, None, 1).batches[:IMAGES]
                portable = parse_onnx(engine.bundle.read(PORTABLE), path)
                frame = frame_of_model(portable)
                masks, found = trace_masks(engine, images), trace_found(portable, images, frame)
                model = engine_model(engine.manifest, portable, frame, threads=count)
                assert model is not None and model.usual is not None, "laudc calibrate, with these threads"
                with watched_conditions(count) as watch:
                    measured = [median_ms(engine, image, runs) for image in images]
                predicted = model.predict(masks, found, batch=1, conditions=watch.conditions)
                for number, (ms, us) in enumerate(zip(measured, predicted.samples_us, strict=True)):
                    error = us / 1e3 / ms - 1
                    name = f"{head} {mode} {size[0]}x{size[1]} image {number}"
                    print(f"{name}, {count} threads: {ms:.1f} ms, predicted {us / 1e3:.1f} ({error:+.1%})", flush=True)


def median_ms(engine: Engine, image: np.ndarray, runs: int) -> float:
    """Of so many calls after one to warm up."""
    engine(image)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        engine(image)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", nargs="+", default=HEADS)
    parser.add_argument("--modes", nargs="+", default=MODES)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="HEIGHTxWIDTH")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    for size in options.sizes:
        height, width = map(int, size.split("x"))
        for head in options.heads:
            for mode in options.modes:
                compare(head, mode, (height, width), options.threads, options.runs)


if __name__ == "__main__":
    main()

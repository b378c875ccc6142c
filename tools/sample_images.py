"""Writes pictures for a model to look at: held-out handwritten digits on cluttered canvases.

    python tools/sample_images.py model.onnx folder --count 16
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
from laudnet.data import sample_images
from PIL import Image


def main() -> None:
    """Pictures of the model's own size, named by number and the digit they show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="ONNX model, for the size of its input")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dims = onnx.load(arguments.model).graph.input[0].type.tensor_type.shape.dim
    images, labels = sample_images(arguments.count, dims[-1].dim_value, arguments.seed)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(arguments.folder / f"{index:03d}_shows_{label}.png")


if __name__ == "__main__":
    main()

"""Images for the small trained networks: handwritten digits somewhere on a larger, cluttered canvas.

The digits are real (scikit-learn's copy of the UCI optical recognition set, 1797 scans of 8x8 pixels);
canvas, position, scale and distractors are drawn. Most of an image is therefore worth skipping. A digit
belongs to the train or to the held-out split for good, whatever the seed of the drawing.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Split = Literal["train", "held_out"]
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
_Floats = NDArray[np.float64]

#: Normalisation of the network's input, as in the ImageNet networks: one preprocessing for all.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

_SPLIT_SEED = 20240
_HELD_OUT_SHARE = 0.2
_SPLIT_STREAM = {"train": 1, "held_out": 2}


@cache
def source_digits(split: Split) -> tuple[_Floats, Labels]:
    """Scans (n, 8, 8) in 0..1 and their labels (n,); the split is stratified by label and fixed."""
    from sklearn.datasets import load_digits  # heavy, and only training and demonstrations need it

    digits = load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(digits.target))
    held_out = np.zeros(len(order), dtype=bool)
    for label in range(10):
        members = order[digits.target[order] == label]
        held_out[members[: round(_HELD_OUT_SHARE * len(members))]] = True
    chosen = held_out if split == "held_out" else ~held_out
    return digits.images[chosen] / 16.0, digits.target[chosen].astype(np.int64)


def make_images(split: Split, size: int, seed: int) -> tuple[Images, Labels]:
    """Every digit of the split once, freshly placed: images (n, size, size, 3) and labels (n,)."""
    digits, labels = source_digits(split)
    images = [
        render(digit, size, np.random.default_rng([_SPLIT_STREAM[split], seed, index]))
        for index, digit in enumerate(digits)
    ]
    return np.stack(images), labels


def sample_images(n: int, size: int, seed: int) -> tuple[Images, Labels]:
    """n images (n, size, size, 3) of held-out digits, and labels (n,); digits repeat once all were used."""
    digits, labels = source_digits("held_out")
    rng = np.random.default_rng([seed, n])
    rounds = -(-n // len(digits))
    order = np.concatenate([rng.permutation(len(digits)) for _ in range(rounds)] or [np.zeros(0, int)])[:n]
    images = [render(digits[index], size, rng) for index in order]
    return np.array(images, dtype=np.uint8).reshape(n, size, size, 3), labels[order]


def to_tensor(images: Images) -> Tensor:
    """(n, H, W, 3) bytes -> (n, 3, H, W) float32, normalised with MEAN and STD."""
    scaled = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def render(digit: _Floats, size: int, rng: np.random.Generator) -> Images:
    """One image (size, size, 3) with `digit` (8, 8) in 0..1 on it; ValueError below 32 pixels."""
    if size < 32:
        raise ValueError(f"size: at least 32 pixels are needed for a legible digit, got {size}")
    canvas = _background(size, rng)
    for _ in range(rng.integers(1, 4)):
        _paste_noise(canvas, rng)
    for _ in range(rng.integers(3, 8)):
        _draw_stroke(canvas, rng)
    _paste_digit(canvas, digit, rng)
    canvas += rng.normal(0, 6, canvas.shape)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _background(size: int, rng: np.random.Generator) -> _Floats:
    ramp = np.linspace(-1, 1, size)
    slopes = rng.uniform(-20, 20, (2, 3))
    colour = rng.uniform(20, 80, 3)
    return colour + ramp[:, None, None] * slopes[0] + ramp[None, :, None] * slopes[1]


def _paste_noise(canvas: _Floats, rng: np.random.Generator) -> None:
    size = len(canvas)
    side = int(rng.uniform(0.08, 0.2) * size)
    top, left = rng.integers(0, size - side, 2)
    canvas[top : top + side, left : left + side] += rng.normal(30, 40, (side, side, 1))


def _draw_stroke(canvas: _Floats, rng: np.random.Generator) -> None:
    """A soft-edged straight line: as bright as a digit's parts, without a digit's shape."""
    size = len(canvas)
    start = rng.uniform(0, size, 2)
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.3) * size
    direction = np.array([np.sin(angle), np.cos(angle)])
    rows, columns = np.ogrid[0:size, 0:size]
    along = np.clip((rows - start[0]) * direction[0] + (columns - start[1]) * direction[1], 0, length)
    distance = np.hypot(rows - start[0] - along * direction[0], columns - start[1] - along * direction[1])
    _blend(canvas, np.clip(rng.uniform(0.01, 0.025) * size + 0.5 - distance, 0, 1), rng.uniform(90, 220, 3))


def _paste_digit(canvas: _Floats, digit: _Floats, rng: np.random.Generator) -> None:
    size = len(canvas)
    side = int(rng.uniform(0.25, 0.45) * size)
    top, left = rng.integers(0, size - side, 2)
    matrix = _enlarge(digit.shape[0], side)
    _blend(canvas[top : top + side, left : left + side], matrix @ digit @ matrix.T, rng.uniform(160, 255, 3))


def _enlarge(source: int, target: int) -> _Floats:
    """Bilinear interpolation as a matrix (target, source)."""
    positions = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(source)[None, :]))


def _blend(canvas: _Floats, alpha: _Floats, colour: _Floats) -> None:
    canvas *= 1 - alpha[:, :, None]
    canvas += alpha[:, :, None] * colour

"""Detections drawn on a picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from laudc.detect.boxes import Detection

if TYPE_CHECKING:
    from PIL import Image


def draw(image: Image.Image, detections: Sequence[Detection], names: Sequence[str]) -> Image.Image:
    """A copy of `image` with the boxes, classes and scores of `detections`, the worst first so that the best show."""
    from PIL import ImageDraw

    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    width = max(1, round(max(image.size) / 400))
    for found in reversed(detections):
        color = _color(found.label)
        pen.rectangle(found.box, outline=color, width=width)
        text = f"{names[found.label]} {found.score:.2f}"
        left, top = found.box[0], max(0.0, found.box[1] - 12)
        pen.rectangle(pen.textbbox((left, top), text), fill=color)
        pen.text((left, top), text, fill="white")
    return drawn


def _color(label: int) -> tuple[int, int, int]:
    # Neighbouring classes get hues far apart: steps of the golden ratio.
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.85, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


def save(image: Image.Image, path: Path) -> None:
    """Write a picture as PNG, all or nothing. Raises UserError when it cannot be written."""
    from laudc.files import atomic_write

    with atomic_write(path) as file:
        image.save(file, format="PNG")

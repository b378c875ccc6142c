"""Detections drawn on a picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from laudc.detect.boxes import Detection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# Opacity of a mask, of 255.
_TINT = 110


def draw(image: Image.Image, detections: Sequence[Detection], names: Sequence[str]) -> Image.Image:
    """A copy of `image` with the masks, boxes, classes and scores of `detections`, the worst first so that the best
    show. Masks are those of the picture, (height, width) bool.
    """
    from PIL import ImageDraw

    drawn = image.copy()
    for found in reversed(detections):
        if found.mask is not None:
            _tint(drawn, found.mask, _color(found.label))
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


def _tint(image: Image.Image, mask: NDArray[np.bool_], color: tuple[int, int, int]) -> None:
    from PIL import Image

    share = Image.fromarray(mask.astype("uint8") * _TINT)
    image.paste(Image.new("RGB", image.size, color), (0, 0), share)


def _color(label: int) -> tuple[int, int, int]:
    # Neighbouring classes get hues far apart: steps of the golden ratio.
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.85, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


def save(image: Image.Image, path: Path) -> None:
    """Write a picture as PNG, all or nothing. Raises UserError when it cannot be written."""
    from laudc.files import atomic_write

    with atomic_write(path) as file:
        image.save(file, format="PNG")

"""Masks of objects: from a small grid inside the box to the pixels of a picture, and as run lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_INSIDE = 0.5


def paste(
    mask: NDArray[np.float32], box: tuple[float, float, float, float], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """The pixels of a picture of `size` (height, width) that belong to an object, as MMDetection decides it.

    The grid `mask` (m, n) of probabilities is stretched over the box and read at the middle of every pixel, bilinear,
    zero outside; a pixel belongs to the object from 0.5 on.
    """
    import numpy as np

    x1, y1, x2, y2 = box
    first_row, rows = _weights(y1, y2, mask.shape[0], size[0])
    first_column, columns = _weights(x1, x2, mask.shape[1], size[1])
    pixels = np.zeros(size, bool)
    if rows.size and columns.size:
        inside = rows @ mask.astype(np.float64) @ columns.T >= _INSIDE
        pixels[first_row : first_row + len(rows), first_column : first_column + len(columns)] = inside
    return pixels


def _weights(start: float, end: float, cells: int, size: int) -> tuple[int, NDArray[np.float64]]:
    """The first pixel that a side of the box covers, and for each the weights of the cells (pixels, cells)."""
    import numpy as np

    first, last = max(0, int(np.floor(start))), min(size, int(np.ceil(end)))
    if last <= first or end <= start:
        return 0, np.zeros((0, cells))
    places = (np.arange(first, last) + 0.5 - start) / (end - start) * cells - 0.5
    distance = np.abs(places[:, None] - np.arange(cells))
    return first, np.clip(1 - distance, 0, None)


def run_lengths(pixels: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's uncompressed RLE: `size` [height, width] and `counts`, the lengths of runs of pixels outside and inside
    in turn, column by column.
    """
    import numpy as np

    flat = pixels.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0, append=0))
    edges = np.concatenate([[0], changes[changes < flat.size], [flat.size]])
    counts = np.diff(edges)
    return {"size": [int(side) for side in pixels.shape], "counts": [int(count) for count in counts]}

"""The images of a verification."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from laudc.errors import UserError
from laudc.verify.outcome import Array

_NOISE_IMAGES = 4
# Periods in pixels: the finest there is, and one that survives the stem's stride of 4.
_CHECKERBOARDS = (1, 16)
_TIE_BREAKING_NOISE = 0.1


def default_images(size: tuple[int, int], seed: int) -> Array:
    """Normal noise, then zeros, ones and checkerboards of −1 and 1: float32 (N, 3, *size)."""
    noise = np.random.default_rng(seed).standard_normal((_NOISE_IMAGES, 3, *size), dtype=np.float32)
    flat = [np.full((3, *size), value, np.float32) for value in (0, 1)]
    boards = [np.broadcast_to(_checkerboard(size, period), (3, *size)) for period in _CHECKERBOARDS]
    return np.concatenate([noise, np.stack([*flat, *boards])])


def _checkerboard(size: tuple[int, int], period: int) -> Array:
    rows, columns = np.indices(size) // period
    return ((rows + columns) % 2 * 2 - 1).astype(np.float32)


def uneven_images(size: tuple[int, int], seed: int) -> Array:
    """As `default_images` with some noise in all of them: where many places look alike they score alike, and rounding
    would decide what a detector selects.
    """
    images = default_images(size, seed)
    noise = np.random.default_rng(seed + 1).standard_normal(images.shape, dtype=np.float32)
    return images + np.float32(_TIE_BREAKING_NOISE) * noise


def gather_images(
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Array | None,
    size: tuple[int, int],
    preprocess: Mapping[str, Any],
    *,
    seed: int,
    limit: int | None,
    make: Callable[[tuple[int, int], int], Array] = default_images,
) -> tuple[Array, str]:
    """The images to run, float32 (N, 3, *size), and what they are in words; `make` makes them where none are given.

    Raises:
        UserError: an array does not fit the network, or a file cannot be used.
    """
    if images is None:
        found = make(size, seed)[:limit]
        return found, f"{len(found)} made images (noise with seed {seed}, constants, checkerboards)"
    if isinstance(images, np.ndarray):
        found = _check_array(images, size)[:limit]
        return found, f"{len(found)} given images"
    from laudc.engine.images import Preprocess, load_images

    paths = [images] if isinstance(images, (str, os.PathLike)) else list(images)
    files, loaded = load_images(paths, Preprocess.from_metadata(preprocess, size), limit=limit)
    return loaded, f"{len(files)} image files"


def _check_array(images: Array, size: tuple[int, int]) -> Array:
    if images.dtype != np.float32 or images.ndim != 4 or images.shape[1:] != (3, *size) or not len(images):
        raise UserError(
            f"the images are {images.dtype} of shape {images.shape}",
            f"the network takes float32 of shape (N, 3, {size[0]}, {size[1]}) with at least one image",
            "Convert them, or give image files",
        )
    return np.ascontiguousarray(images)

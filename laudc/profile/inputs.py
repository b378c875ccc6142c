"""What a measurement runs on: the user's images, or generated ones that are named as such."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laudc.engine.images import Preprocess, load_images
from laudc.engine.manifest import Manifest
from laudc.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# More images than this change no rate that a profile shows, and would take memory from what is measured.
MAX_IMAGES = 64
_GENERATED = 8


@dataclass(frozen=True)
class Inputs:
    """Batches of network input, and where they come from in words and numbers."""

    batches: list[NDArray[np.float32]]
    source: dict[str, Any]


def collect_inputs(manifest: Manifest, images: Iterable[str | os.PathLike[str]] | None, batch: int) -> Inputs:
    """Batches of `batch` images each. Raises UserError for unusable images or an impossible batch."""
    fixed = manifest.input.shape[0]
    if batch < 1 or (isinstance(fixed, int) and fixed != batch):
        wanted = f"exactly {fixed}" if isinstance(fixed, int) else "at least 1"
        raise UserError(
            f"the engine cannot run a batch of {batch}", f"it takes {wanted}", "give a fitting --batch"
        )
    if images is None:
        pixels = _generate(manifest, max(_GENERATED, batch))
        source = {"kind": "generated", "count": len(pixels)}
    else:
        files, pixels = load_images(images, preprocess_of(manifest), limit=MAX_IMAGES)
        source = {"kind": "files", "count": len(files), "names": [file.name for file in files]}
    return Inputs(_batches(pixels, batch), source)


def preprocess_of(manifest: Manifest) -> Preprocess:
    """How an image file becomes the engine's input. Raises UserError for unusable metadata."""
    _, height, width = image_shape(manifest)
    return Preprocess.from_metadata(manifest.preprocess, (height, width))


def image_shape(manifest: Manifest) -> tuple[int, int, int]:
    """(channels, height, width) of one image; all fixed, as the manifest's own check demands."""
    channels, height, width = (size for size in manifest.input.shape[1:] if isinstance(size, int))
    return channels, height, width


def _batches(pixels: NDArray[np.float32], batch: int) -> list[NDArray[np.float32]]:
    """Every image at least once; the last batch is filled up from the beginning."""
    import numpy as np

    count = -(-len(pixels) // batch)
    order = np.arange(count * batch) % len(pixels)
    return [np.ascontiguousarray(pixels[order[i * batch : (i + 1) * batch]]) for i in range(count)]


def _generate(manifest: Manifest, count: int) -> NDArray[np.float32]:
    """Smooth blobs with a little noise: nearer to what maskers see in photos than white noise is."""
    import numpy as np

    channels, height, width = image_shape(manifest)
    random = np.random.default_rng(0)
    coarse = random.standard_normal((count, channels, 4, 4), dtype=np.float32)
    rows, columns = (np.linspace(0, 3, size, dtype=np.float32) for size in (height, width))
    smooth = _interpolate(_interpolate(coarse, rows, axis=2), columns, axis=3)
    noise = random.standard_normal((count, channels, height, width), dtype=np.float32)
    return np.ascontiguousarray(smooth + np.float32(0.1) * noise, dtype=np.float32)


def _interpolate(values: NDArray[np.float32], at: NDArray[np.float32], *, axis: int) -> NDArray[np.float32]:
    """Linear interpolation along one axis at fractional indices."""
    import numpy as np

    low = np.minimum(at.astype(int), values.shape[axis] - 2)
    shape = [1] * values.ndim
    shape[axis] = -1
    part = (at - low).astype(np.float32).reshape(shape)
    return values.take(low, axis) * (1 - part) + values.take(low + 1, axis) * part

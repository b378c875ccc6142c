"""Image files to network input, the way the network was trained to see them.

What is done to every file, whatever it holds: turned upright by its EXIF orientation; 16-bit samples scaled
(not clipped) to 8 bits; grey repeated to three channels; palette and CMYK converted to RGB; an alpha channel
dropped, as torchvision's loaders do. Floating-point and 32-bit images are refused: nothing tells their white.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laudc.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
_CONVERTED_MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "HSV",
    "LAB",
)
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter side to `resize` pixels, cut `size` (height, width) out of the middle, normalise.

    `resize` None leaves the image as it is: it then has to have exactly `size`. With `pad` the whole image is
    resized to fit into `size`, and zeros (the mean colour) fill what is left at the bottom and on the right. Mean and
    standard deviation are for samples scaled to 0..1.
    """

    size: tuple[int, int]
    resize: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    pad: bool = False

    @classmethod
    def from_metadata(cls, data: Mapping[str, Any], size: tuple[int, int]) -> Preprocess:
        """From a model's `laudc.preprocess`; `size` is that of its input.

        What the metadata leaves out is as usual for ImageNet. Raises UserError for values that make no sense.
        """
        default_resize = round(max(size) * 256 / 224)
        resize = data.get("resize", default_resize)
        mean, std = data.get("mean", _IMAGENET_MEAN), data.get("std", _IMAGENET_STD)
        interpolation = data.get("interpolation", "bilinear")
        if resize is not None and not (isinstance(resize, int) and resize >= min(size)):
            raise _bad_metadata("resize", resize, f"a whole number of at least {min(size)}, or null")
        for field, values in (("mean", mean), ("std", std)):
            if not _is_triple(values) or (field == "std" and min(values) <= 0):
                raise _bad_metadata(field, values, "three numbers (std above 0)")
        if interpolation not in _FILTERS:
            raise _bad_metadata("interpolation", interpolation, " or ".join(_FILTERS))
        if data.get("fit", "crop") not in ("crop", "pad"):
            raise _bad_metadata("fit", data["fit"], "crop or pad")
        pad = data.get("fit") == "pad"
        return cls(size, resize, tuple(map(float, mean)), tuple(map(float, std)), interpolation, pad)

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of a picture once it is resized to fit into `size`, at least one pixel each."""
        scale = min(self.size[0] / height, self.size[1] / width)
        return max(1, round(width * scale)), max(1, round(height * scale))


def _is_triple(values: Any) -> bool:
    return (
        isinstance(values, (list, tuple))
        and len(values) == 3
        and all(isinstance(v, (int, float)) for v in values)
    )


def _bad_metadata(field: str, found: Any, wanted: str) -> UserError:
    return UserError(
        f"the model's pre-processing cannot be used: '{field}' is {found!r}",
        f"it must be {wanted}",
        "export the model again with this version of laudc",
    )


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The image files among `paths`: files as given, folders searched in depth for known suffixes, sorted.

    Raises UserError for a path that does not exist and for a folder without images.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()
            )
            if not inside:
                raise UserError(
                    f"the folder {path} has no images",
                    f"no file in it ends with {', '.join(SUFFIXES)}",
                    "give another folder, or the files themselves",
                )
            found.extend(inside)
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"there is no image {path}", "the path does not exist", "check the path")
    return found


def load_images(
    paths: Iterable[str | os.PathLike[str]], preprocess: Preprocess, *, limit: int | None = None
) -> tuple[list[Path], NDArray[np.float32]]:
    """Files and their network input, float32 (N,3,H,W). Raises UserError naming the first unusable file."""
    import numpy as np

    files = find_images(paths)[:limit]
    if not files:
        raise UserError("there are no images to run", "none was given", "give files or a folder")
    return files, np.stack([load_image(file, preprocess) for file in files])


def load_image(path: Path, preprocess: Preprocess) -> NDArray[np.float32]:
    """One file as float32 (3,H,W). Raises UserError naming the file."""
    import numpy as np

    image = _fit(open_rgb(path), path, preprocess)
    samples = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    mean = np.asarray(preprocess.mean, np.float32)[:, None, None]
    std = np.asarray(preprocess.std, np.float32)[:, None, None]
    normalised = (samples - mean) / std
    missing = [(0, wanted - have) for wanted, have in zip(preprocess.size, normalised.shape[1:], strict=True)]
    return np.ascontiguousarray(np.pad(normalised, ((0, 0), *missing)))


def open_rgb(path: Path) -> Image.Image:
    """The file as an upright 8-bit RGB image."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # A picture of absurd size is refused, not decoded with a warning.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                upright = ImageOps.exif_transpose(image)
                return _to_rgb(upright, path)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise _unreadable(path, "it is not an image of a known format") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _unreadable(path, "it has more pixels than a photo can have") from error
    except PermissionError as error:
        raise _unreadable(path, "there is no permission to read it") from error
    except Exception as error:
        # Decoders raise nearly anything on damaged files: OSError, SyntaxError, ValueError, struct.error, ...
        raise _unreadable(path, f"it is damaged: {error}") from error


def _unreadable(path: Path, why: str) -> UserError:
    return UserError(f"cannot read the image {path}", why, "replace the file or leave it out")


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES or (image.mode == "I" and image.format == "PNG"):
        return _sixteen_bit_grey(image).convert("RGB")
    if image.mode not in _CONVERTED_MODES:
        raise UserError(
            f"cannot use the image {path}",
            f"its pixels are of the type '{image.mode}', which does not say what black and white are",
            "save it with 8 or 16 bits per sample",
        )
    return image.convert("RGB")


def _sixteen_bit_grey(image: Image.Image) -> Image.Image:
    """Pillow's own conversion clips at 255, which turns nearly every 16-bit picture white."""
    import numpy as np
    from PIL import Image

    samples = np.asarray(image).astype(np.float32)
    return Image.fromarray(np.round(samples / 257).clip(0, 255).astype(np.uint8))


def _fit(image: Image.Image, path: Path, preprocess: Preprocess) -> Image.Image:
    """Resized and cut to the network's size."""
    from PIL import Image

    height, width = preprocess.size
    if preprocess.pad:
        return image.resize(preprocess.fitted(*image.size), Image.Resampling[preprocess.interpolation.upper()])
    if preprocess.resize is None:
        if image.size != (width, height):
            raise UserError(
                f"the image {path} has the wrong size",
                f"it is {image.width}x{image.height} pixels, this network takes {width}x{height}",
                "resize the image first",
            )
        return image
    # Sizes and offsets are rounded as torchvision's Resize and CenterCrop round them.
    short = min(image.size)
    scaled_width, scaled_height = (preprocess.resize * side // short for side in image.size)
    resized = (max(width, scaled_width), max(height, scaled_height))
    if max(resized) > 64 * preprocess.resize:
        raise UserError(
            f"the image {path} has the wrong size",
            f"{image.width}x{image.height} pixels is a strip of which a {width}x{height} cut shows nothing",
            "replace the file or leave it out",
        )
    image = image.resize(resized, Image.Resampling[preprocess.interpolation.upper()])
    left, top = round((resized[0] - width) / 2), round((resized[1] - height) / 2)
    return image.crop((left, top, left + width, top + height))

"""What masks keep over many images: measured by `laudc profile`, or stood in for by a rate.

Masks of one image stay together, so that blocks which are busy on the same images add up to the tail that is really
there. The file holds the decisions themselves as bits; every count follows from them.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from laudc.errors import UserError
from laudc.ops import names
from laudc.ops.scheduled_vit import VitRecord
from laudc.predict.families import Record

Array = np.ndarray

KIND = "laudc-activation"
SCHEMA_VERSION = 1
_RATE_IMAGES = 256
_MOST_IMAGES = 1_000_000
_LONGEST_SOURCE = 1000
_MOST_FOUND = 2**53  # beyond it floats are no longer exact


@dataclass(frozen=True)
class Activation:
    """Decisions of many images.

    Attributes:
        images: how many.
        masks: uint8 arrays of 0 and 1 by mask value: `layer1.0.mask_spatial` (images, groups, rows, columns),
            `layer1.0.mask_channel` (images, groups), `blocks.0.mask_token` (images, tokens − 1), `blocks.0.mask_head`
            (images, heads), `blocks.0.mask_layer` (images, 2).
        source: where they come from, in words.
        model_sha256: of the portable ONNX file they belong to; None for made-up ones.
        measured: whether real images made them.
        found: of a detector, what was found in the images: counts (images,) by name (`laudc.predict.selection`); what
            is missing is taken to be the most that the graph allows.
    """

    images: int
    masks: Mapping[str, Array] = field(repr=False)
    source: str
    model_sha256: str | None = None
    measured: bool = False
    found: Mapping[str, Array] = field(default_factory=dict, repr=False)

    def of_block(self, block: str) -> tuple[Array | None, Array | None]:
        """(spatial, channel) masks of a block; None where it has none."""
        return self.masks.get(names.mask_value(block, "spatial")), self.masks.get(names.mask_value(block, "channel"))

    def masks_of(self, block: str) -> dict[str, Array]:
        """The masks of a block by kind (`laudc.ops.names.KINDS`)."""
        values = {kind: self.masks.get(names.mask_value(block, kind)) for kind in names.KINDS}
        return {kind: mask for kind, mask in values.items() if mask is not None}

    def rate(self) -> dict[str, float]:
        """Mean share that is kept, by mask value."""
        return {name: float(mask.mean()) for name, mask in self.masks.items()}

    def to_json(self) -> bytes:
        """The file that `--activation` reads."""
        masks = {
            name: {
                "shape": list(mask.shape[1:]),
                "rate": round(float(mask.mean()), 4),
                "bits": base64.b64encode(np.packbits(mask != 0).tobytes()).decode(),
            }
            for name, mask in self.masks.items()
        }
        data = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "model_sha256": self.model_sha256,
            "source": self.source,
            "images": self.images,
            "masks": masks,
            "found": {name: counts.tolist() for name, counts in self.found.items()},
        }
        return json.dumps(data, indent=1).encode() + b"\n"


def activation_from_masks(
    masks: Mapping[str, Array],
    source: str,
    model_sha256: str | None,
    found: Mapping[str, Array] = MappingProxyType({}),
) -> Activation:
    """From the masks of a trace, floats or booleans by mask value, and from what a detector found in the images."""
    kept = {name: (np.asarray(mask) != 0).astype(np.uint8) for name, mask in masks.items()}
    images = len(next(iter(kept.values()), ()))
    return Activation(images, kept, source, model_sha256, measured=True, found=dict(found))


def activation_at_rate(
    blocks: Sequence[tuple[str, Record]], rate: float, *, images: int = _RATE_IMAGES, seed: int = 0
) -> Activation:
    """Stand-in masks that keep `rate`: patches in blobs and channels at random, the same share in every image; layers
    and sublayers by independent coin flips; tokens and heads at random, the same share in every image.

    Raises UserError for a rate outside 0 to 1.
    """
    if not 0 <= rate <= 1:
        raise UserError(
            f"an activation rate of {rate:g} is impossible", "it is a share between 0 and 1", "use --activation 0.5"
        )
    random = np.random.default_rng(seed)
    masks: dict[str, Array] = {}
    for name, record in blocks:
        if isinstance(record, VitRecord):
            for kind, number in record.decisions.items():
                flipped = kind == "layer"
                masks[names.mask_value(name, kind)] = (
                    _coin_flips(random, (images, number), rate) if flipped else _even(random, images, number, rate)
                )
            continue
        if record.mask_groups:
            shape = (images, record.mask_groups, record.mask_h, record.mask_w)
            masks[names.mask_value(name, "spatial")] = _spatial_masks(random, shape, rate)
        if record.channel_groups:
            masks[names.mask_value(name, "channel")] = _even(random, images, record.channel_groups, rate)
    return Activation(images, masks, f"masks made up to keep {rate:.0%}")


def _even(random: np.random.Generator, images: int, number: int, rate: float) -> Array:
    """(images, number): the same share in every image, at random places."""
    order = random.random((images, number)).argsort(axis=1).argsort(axis=1)
    return (order < round(rate * number)).astype(np.uint8)


def _coin_flips(random: np.random.Generator, shape: tuple[int, ...], rate: float) -> Array:
    return (random.random(shape) < rate).astype(np.uint8)


def _spatial_masks(random: np.random.Generator, shape: tuple[int, int, int, int], rate: float) -> Array:
    images, groups, rows, columns = shape
    if rows == columns == 1:
        return _coin_flips(random, shape, rate)
    scores = random.random(shape)
    if min(rows, columns) >= 4:  # neighbours agree: the mean of three by three, as masks of photos do
        padded = np.pad(scores, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
        near = [padded[:, :, i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
        scores = np.mean(near, axis=0)
    flat = scores.reshape(images, groups, -1)
    order = flat.argsort(axis=2).argsort(axis=2)
    return (order < round(rate * rows * columns)).astype(np.uint8).reshape(shape)


def load_activation(
    path: str | os.PathLike[str], blocks: Sequence[tuple[str, Record]], model_sha256: str | None
) -> Activation:
    """Reads a file that `laudc profile --save-activation` wrote, and checks that it belongs to the model.

    Raises UserError for an unreadable file, one that is no such file, and one of another model.
    """
    shown = Path(path)
    data = _read(shown)
    _check_model(shown, data.get("model_sha256"), model_sha256)
    images = data.get("images")
    if not isinstance(images, int) or isinstance(images, bool) or not 1 <= images <= _MOST_IMAGES:
        raise _damaged(shown, f"'images' is {images!r}")
    masks = data.get("masks")
    if not isinstance(masks, dict):
        raise _damaged(shown, "it has no masks")
    kept = {}
    for name, shape in _expected(blocks).items():
        kept[name] = _decode(shown, name, masks.get(name), (images, *shape))
    source = data.get("source")
    if not isinstance(source, str) or not source.isprintable() or len(source) > _LONGEST_SOURCE:
        raise _damaged(shown, "'source' is not a line of text")
    # Files of before know nothing of what is found.
    found = _decode_found(shown, data.get("found", {}), images)
    return Activation(images, kept, source or "measured", model_sha256, measured=True, found=found)


def _check_model(path: Path, measured_on: Any, model_sha256: str | None) -> None:
    """Raises UserError for statistics that do not say, or say otherwise, that they are of the model."""
    if measured_on == model_sha256:
        return
    if not isinstance(measured_on, str) or not measured_on.isalnum():
        raise _damaged(path, "it does not say which model it was measured on ('model_sha256')")
    this = "the model at hand has none" if model_sha256 is None else f"this one has {model_sha256[:16]}…"
    raise UserError(
        f"{path} holds the activation of another model",
        f"it was measured on the ONNX file with SHA-256 {measured_on[:16]}…, {this}",
        "profile an engine of this model: laudc profile MODEL.laudc --images DIR --save-activation STATS.json",
    )


def _expected(blocks: Sequence[tuple[str, Record]]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, record in blocks:
        if isinstance(record, VitRecord):
            shapes |= {names.mask_value(name, kind): (number,) for kind, number in record.decisions.items()}
            continue
        if record.mask_groups:
            shapes[names.mask_value(name, "spatial")] = (record.mask_groups, record.mask_h, record.mask_w)
        if record.channel_groups:
            shapes[names.mask_value(name, "channel")] = (record.channel_groups,)
    return shapes


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"cannot read the activation statistics {path}",
            error.strerror or str(error),
            "make them: laudc profile MODEL.laudc --images DIR --save-activation STATS.json",
        ) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "it is not valid JSON") from error
    if not isinstance(data, dict) or data.get("kind") != KIND or data.get("schema_version") != SCHEMA_VERSION:
        raise _damaged(path, f"it is not of the kind '{KIND}', version {SCHEMA_VERSION}")
    return data


def _decode(path: Path, name: str, entry: Any, shape: tuple[int, ...]) -> Array:
    if not isinstance(entry, dict) or entry.get("shape") != list(shape[1:]):
        found = entry.get("shape") if isinstance(entry, dict) else None
        raise _damaged(path, f"mask '{name}' has the shape {found}, the model's is {list(shape[1:])}")
    count = int(np.prod(shape))
    try:
        packed = np.frombuffer(base64.b64decode(entry.get("bits", ""), validate=True), np.uint8)
    except (binascii.Error, TypeError, ValueError) as error:
        raise _damaged(path, f"the bits of mask '{name}' are not base64") from error
    if len(packed) != -(-count // 8):
        raise _damaged(path, f"mask '{name}' has {len(packed)} bytes of bits, wanted {-(-count // 8)}")
    return np.unpackbits(packed, count=count).reshape(shape)


def _decode_found(path: Path, entries: Any, images: int) -> dict[str, Array]:
    if not isinstance(entries, dict):
        raise _damaged(path, "'found' is not a mapping")
    found = {}
    for name, counts in entries.items():
        whole = isinstance(counts, list) and all(type(count) is int and 0 <= count <= _MOST_FOUND for count in counts)
        if not whole or len(counts) != images:
            raise _damaged(path, f"'{name}' is not one count for each of {images} images")
        found[name] = np.asarray(counts, np.int64)
    return found


def _damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} holds no usable activation statistics",
        why,
        "make them again: laudc profile MODEL.laudc --images DIR --save-activation STATS.json",
    )

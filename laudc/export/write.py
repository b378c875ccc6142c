"""From a loaded model to the portable file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import laudc.export.vit_emitters  # noqa: F401  (registers its emitters)
from laudc.errors import UserError
from laudc.export.builder import GraphBuilder
from laudc.export.emitters import emit_network
from laudc.export.source import Source
from laudc.files import atomic_write
from laudc.ops import DEFAULT_OPSET, MAX_OPSET, MIN_OPSET, check_contract, names

if TYPE_CHECKING:
    import onnx

# Channel statistics and resize-to-crop ratio of the usual ImageNet evaluation, which LAUDNet is trained for.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_RESIZE_RATIO = 256 / 224
# Beyond any use, and far below where index arithmetic in 32 bits could overflow.
_LARGEST_SIDE = 1 << 14
_PROTOBUF_LIMIT = (1 << 31) - 1


def build_model(
    source: Source, *, input_size: int | tuple[int, int] | None, dynamic_batch: bool, opset: int
) -> onnx.ModelProto:
    """The portable graph of a model. Arguments and errors as in `laudc.export.export`."""
    _check_opset(opset)
    height, width = _image_size(source, input_size)
    graph = GraphBuilder()
    # A second stage follows one image's proposals.
    one_image = not dynamic_batch or getattr(source.model, "rpn_head", None) is not None
    image = graph.input(names.INPUT, (1 if one_image else None, 3, height, width))
    model = graph.finish(emit_network(graph, source.model, image), source.config.arch, opset)
    _describe(model, source, (height, width))
    check_contract(model)
    return model


def write_model(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write a model to a file, all or nothing.

    Raises:
        UserError: the file cannot be written, or the model is too large for one file.
    """
    if model.ByteSize() > _PROTOBUF_LIMIT:
        raise UserError(
            f"cannot write {os.fspath(path)}",
            f"the model has {model.ByteSize()} bytes and an ONNX file can hold 2 GiB",
            "Export a smaller model",
        )
    with atomic_write(path) as file:
        file.write(model.SerializeToString(deterministic=True))


def _check_opset(opset: int) -> None:
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise UserError(
            f"opset {opset} cannot be exported",
            f"the laudc ops are written for opset {MIN_OPSET} to {MAX_OPSET}",
            f"Use --opset {DEFAULT_OPSET}",
        )


def _image_size(source: Source, wanted: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the images, checked."""
    own = source.config.image_size
    if wanted is None:
        return own
    height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
    if not all(1 <= side <= _LARGEST_SIDE for side in (height, width)):
        raise UserError(
            f"an input size of {height}x{width} cannot be exported",
            f"sides must be from 1 to {_LARGEST_SIDE} pixels",
            f"Use --input-size {own[0]}x{own[1]}",
        )
    if (height, width) != own and source.config.has_spatial_masks:
        raise UserError(
            f"this model cannot take images of {height}x{width}",
            f"its masks of positions, tokens or layers are tied to the {own[0]}x{own[1]} images it was trained with",
            "Leave out --input-size, or export a model that has channel masks only",
        )
    return height, width


def _describe(model: onnx.ModelProto, source: Source, size: tuple[int, int]) -> None:
    """Fill in producer and metadata; nothing that changes from one run to the next."""
    import laudc

    model.producer_name = "laudc"
    model.producer_version = laudc.__version__
    model.domain = "ai.laudc"
    properties = {
        "laudc.version": laudc.__version__,
        "laudc.arch": source.config.arch,
        "laudc.config": source.config.to_dict(),
        "laudc.checkpoint_sha256": source.sha256,
        "laudc.preprocess": preprocess(source, size),
    }
    for key, value in properties.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value, sort_keys=True)


def preprocess(source: Source, size: tuple[int, int]) -> dict[str, Any]:
    """How an image file becomes the input: RGB scaled to 0..1, shorter side to `resize` pixels, middle cut
    out to `crop` (height, width), then (value − mean) / std. What training recorded overrules the ImageNet
    defaults.
    """
    defaults: dict[str, Any] = {
        "mean": list(_IMAGENET_MEAN),
        "std": list(_IMAGENET_STD),
        "resize": round(max(size) * _RESIZE_RATIO),
        "interpolation": "bilinear",
    }
    family = getattr(source.config, "preprocess", {})
    if hasattr(source.model, "outputs"):
        # Detectors see the whole image: resized to fit, padded at the bottom and on the right.
        defaults = {**defaults, "resize": None, "fit": "pad"}
    return {**defaults, **family, **source.preprocess, "crop": list(size), "input_size": list(size)}

"""Heads of the transformers library: Mask2Former with its pixel decoder, Deformable DETR.

The library's own model runs with its backbone replaced by the maps that it is given, so that nothing of it is written
again here.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from laudc.errors import UserError
from laudc.export.heads import Head

#: Of Mask2Former: class logits (1, queries, classes + 1), the last for "nothing", and mask logits (1, queries, h, w).
MASK_OUTPUTS = ("class_logits", "mask_logits")
#: Of Deformable DETR: class logits (1, queries, classes), boxes (1, queries, 4): middle and sides, in image sides.
BOX_OUTPUTS = ("query_logits", "query_boxes")


def transformers_head(model: str | os.PathLike[str] | Any, image_size: tuple[int, int]) -> Head:
    """The head of a transformers model for images of `image_size` (height, width).

    Args:
        model: folder that `save_pretrained` wrote, or a `Mask2FormerForUniversalSegmentation` or
            `DeformableDetrForObjectDetection`. A model loses its backbone. Nothing is downloaded.

    Raises:
        UserError: transformers is not installed, the folder holds no such model, or the model is of another kind.
    """
    loaded = _load(model) if isinstance(model, (str, os.PathLike)) else model
    kind = str(getattr(getattr(loaded, "config", None), "model_type", type(loaded).__name__))
    held = SimpleNamespace()
    if kind == "mask2former":
        level = loaded.model.pixel_level_module
        channels, level.encoder = level.encoder.channels, _given_maps(held)
        keys, outputs = ("class_queries_logits", "masks_queries_logits"), MASK_OUTPUTS
    elif kind == "deformable_detr":
        encoder = loaded.model.backbone
        channels, encoder.model = encoder.intermediate_channel_sizes, _given_maps(held)
        keys, outputs = ("logits", "pred_boxes"), BOX_OUTPUTS
    else:
        raise UserError(
            f"the head of a {kind} model cannot be used",
            "known are mask2former and deformable_detr",
            "Export the backbone alone (leave the head out)",
        )
    from transformers import __version__

    module = _behind_maps(loaded.eval(), held, image_size, keys)
    return Head(module, outputs, tuple(channels), about=f"{kind} of transformers {__version__}")


def _load(folder: str | os.PathLike[str]) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            f"the head {os.fspath(folder)} cannot be read here",
            "transformers is not installed",
            "Install it with: pip install transformers scipy onnxscript. Without it, leave the head out: the backbone "
            "is exported all the same",
        ) from error
    try:
        config = transformers.AutoConfig.from_pretrained(os.fspath(folder), local_files_only=True)
        kinds = {
            "mask2former": transformers.Mask2FormerForUniversalSegmentation,
            "deformable_detr": transformers.DeformableDetrForObjectDetection,
        }
        kind = kinds.get(config.model_type)
        if kind is None:
            return SimpleNamespace(config=config)
        return kind.from_pretrained(os.fspath(folder), local_files_only=True, use_safetensors=True)
    except Exception as error:  # the library raises OSError, ValueError, ImportError and others
        raise UserError(
            f"the head {os.fspath(folder)} cannot be read",
            str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            "Give a folder that save_pretrained of transformers wrote (config.json, model.safetensors)",
        ) from error


def _given_maps(held: SimpleNamespace) -> Any:
    """A backbone that returns `held.maps` for any image."""
    from torch import nn
    from transformers.modeling_outputs import BackboneOutput

    class GivenMaps(nn.Module):
        def forward(self, pixels: Any) -> Any:
            return BackboneOutput(feature_maps=held.maps)

    return GivenMaps()


def _behind_maps(model: Any, held: SimpleNamespace, size: tuple[int, int], keys: tuple[str, ...]) -> Any:
    """The model as a module of its backbone's maps."""
    from torch import nn

    class BehindMaps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *maps: Any) -> tuple[Any, ...]:
            # Only the image's size matters now.
            held.maps = tuple(maps)
            found = self.model(pixel_values=maps[0].new_zeros(maps[0].shape[0], 3, *size))
            return tuple(found[key] for key in keys)

    return BehindMaps().eval()

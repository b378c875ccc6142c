"""The masks of a portable model for given images, without an engine: any ONNX Runtime computes them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from laudc.engine.images import Preprocess, load_images
from laudc.errors import UserError

if TYPE_CHECKING:
    import onnx

    from laudc.predict.activation import Activation

# More images than this change no schedule.
MAX_IMAGES = 256


def trace_images(
    model: onnx.ModelProto, model_sha256: str, images: Iterable[str | os.PathLike[str]]
) -> Activation:
    """Runs the portable model on image files and folders and keeps every mask.

    Raises UserError when there are no images, or one cannot be read.
    """
    import numpy as np
    import onnxruntime

    from laudc.engine.build import metadata
    from laudc.export import with_masks_as_outputs
    from laudc.predict.activation import activation_from_masks

    source = model.graph.input[0]
    height, width = (int(dim.dim_value) for dim in source.type.tensor_type.shape.dim[2:4])
    if not height or not width:
        raise UserError(
            "the images cannot be resized for the model", "its input size is open", "export it with --input-size"
        )
    known = metadata(model).get("preprocess")
    preprocess = Preprocess.from_metadata(known if isinstance(known, dict) else {}, (height, width))
    files, pixels = load_images(images, preprocess, limit=MAX_IMAGES)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    shown = with_masks_as_outputs(model)
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()][1:]
    parts = [session.run(names, {source.name: image[None]}) for image in pixels]
    masks = {name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}
    return activation_from_masks(masks, f"{len(files)} calibration images", model_sha256)

"""What a portable model decides and finds in given images, without an engine: any ONNX Runtime computes it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from laudc.engine.images import Preprocess, load_images
from laudc.errors import UserError
from laudc.ops import names

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from laudc.predict.activation import Activation
    from laudc.predict.frame import AnyFrame
    from laudc.predict.selection import Selecting

# More images than this change no schedule.
MAX_IMAGES = 256


def trace_images(
    model: onnx.ModelProto, model_sha256: str, images: Iterable[str | os.PathLike[str]]
) -> Activation:
    """Runs the portable model on image files and folders and keeps every mask, and of a detector how much it found.

    Raises UserError when there are no images, or one cannot be read.
    """
    import numpy as np

    from laudc.engine.build import metadata
    from laudc.export import with_masks_as_outputs
    from laudc.predict.activation import activation_from_masks
    from laudc.predict.frame import frame_of_model, selecting_of
    from laudc.predict.selection import count_found

    source = model.graph.input[0]
    height, width = (int(dim.dim_value) for dim in source.type.tensor_type.shape.dim[2:4])
    if not height or not width:
        raise UserError(
            "the images cannot be resized for the model", "its input size is open", "export it with --input-size"
        )
    known = metadata(model).get("preprocess")
    preprocess = Preprocess.from_metadata(known if isinstance(known, dict) else {}, (height, width))
    files, pixels = load_images(images, preprocess, limit=MAX_IMAGES)
    selecting = selecting_of(frame_of_model(model))
    runs = _run(with_masks_as_outputs(model), _watched(selecting), [image[None] for image in pixels])
    masks: dict[str, list[NDArray[Any]]] = {}
    counted = []
    for values in runs:
        counted.append(count_found(selecting, values))
        for name, mask in values.items():
            if names.split_mask_value(name) is not None:
                masks.setdefault(name, []).append(mask)
    joined = {name: np.concatenate(parts) for name, parts in masks.items()}
    return activation_from_masks(joined, f"{len(files)} calibration images", model_sha256, _columns(counted))


def trace_found(
    model: onnx.ModelProto, batches: Iterable[NDArray[np.float32]], frame: AnyFrame | None = None
) -> dict[str, NDArray[np.int64]]:
    """How much a detector finds in each image, counts (images,) by name as in `laudc.predict.selection`; nothing of a
    model that selects nothing.

    Args:
        model: the portable model.
        batches: its input, one image each.
        frame: of the model, by a caller that has it already.
    """
    from laudc.predict.frame import frame_of_model, selecting_of
    from laudc.predict.selection import count_found

    selecting = selecting_of(frame or frame_of_model(model))
    if not selecting:
        return {}
    return _columns([count_found(selecting, values) for values in _run(model, _watched(selecting), batches)])


def _watched(selecting: Iterable[Selecting]) -> list[str]:
    return [name for one in selecting for name in one.watched]


def _run(
    model: onnx.ModelProto, watched: Sequence[str], batches: Iterable[NDArray[np.float32]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """The masks that the model gives out and the watched values of each call, by name."""
    import onnxruntime

    shown = type(model)()
    shown.CopyFrom(model)
    present = {output.name: output for output in model.graph.output}
    masks = [name for name in sorted(present) if names.split_mask_value(name) is not None]
    wanted = [*masks, *dict.fromkeys(watched)]
    # Nothing else is given out, so that the runtime skips what only other outputs need, as heads do.
    del shown.graph.output[:]
    shown.graph.output.extend(present.get(name) or _undescribed(name, model) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for images in batches:
        yield dict(zip(wanted, session.run(wanted, {model.graph.input[0].name: images}), strict=True))


def _undescribed(name: str, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """An output of any shape. Boxes and scores are floats, indices are what suppression chooses."""
    from onnx import TensorProto, helper

    chosen = any(name in node.output and node.op_type == "NonMaxSuppression" for node in model.graph.node)
    return helper.make_tensor_value_info(name, TensorProto.INT64 if chosen else TensorProto.FLOAT, None)


def _columns(rows: list[dict[str, int]]) -> dict[str, NDArray[np.int64]]:
    import numpy as np

    return {name: np.asarray([row[name] for row in rows], np.int64) for name in (rows[0] if rows else ())}

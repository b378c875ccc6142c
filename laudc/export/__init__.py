"""laudnet model → portable ONNX, and the two plain graphs derived from it.

model = laudc.export("checkpoint.pth.tar", "model.onnx")
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from laudc import make_callable

if TYPE_CHECKING:
    import onnx
    from laudnet import AnyConfig, AnyNetwork

__all__ = ["dense_twin", "export", "with_masks_as_outputs"]


def export(
    checkpoint_or_model: str | os.PathLike[str] | AnyNetwork,
    output: str | os.PathLike[str] | None = None,
    *,
    arch: str | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | AnyConfig | None = None,
    input_size: int | tuple[int, int] | None = None,
    dynamic_batch: bool = True,
    opset: int = 20,
    se_pool: str | None = None,
    head: str | os.PathLike[str] | Any = None,
) -> onnx.ModelProto:
    """Turn a LAUDNet checkpoint or model into portable ONNX.

    The result has one node of the domain `ai.laudc` per masker and per dynamic block, each with a function
    body of standard ops, so that any ONNX runtime runs it. The same input gives the same bytes.

    Args:
        checkpoint_or_model: path of a checkpoint, or one of laudnet's networks.
        output: where to write the file; None writes none.
        arch: architecture of a checkpoint that does not say it; else it must agree with the checkpoint.
        config: configuration record, mapping, or path of a JSON or YAML file; overrules what the checkpoint
            says.
        input_size: side of the image in pixels, or (height, width). Only models without spatial and layer
            masks can take another one than they were configured for, which is the default.
        dynamic_batch: leave the number of images open; else it is 1.
        opset: version of the default ONNX domain, 18 to 23.
        se_pool: RegNetY with spatial masks only. "all" averages over all positions before squeeze-excitation, as
            the network was trained; "active" over kept positions only, which is faster and another network,
            whose outputs differ. None takes what the configuration says, "all" by default.
        head: detector backbones only: what is put behind the maps of backbone or neck; needs onnxscript. "mmdet": the
            checkpoint's own head (DDQ-DETR, Mask2Former), built by MMDetection 3; a transformers model (Mask2Former,
            Deformable DETR), or the folder it was saved to.

    Returns:
        The model; input `input` (N, 3, H, W) float32, output `logits` (N, classes), or a detector's outputs.

    Raises:
        UserError: the checkpoint cannot be used, an option does not fit, or the file cannot be written.
    """
    from laudc.export.source import load_source
    from laudc.export.write import build_model, write_model
    from laudc.files import check_apart

    if output is not None:
        for read in (checkpoint_or_model, config):
            check_apart(read, output)
    source = load_source(checkpoint_or_model, arch=arch, config=config, se_pool=se_pool)
    model = build_model(source, input_size=input_size, dynamic_batch=dynamic_batch and head is None, opset=opset)
    if head is not None:
        from laudc.export.head_choice import find_head
        from laudc.export.heads import with_head

        height, width = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[2:])
        model = with_head(model, find_head(head, checkpoint_or_model, config, source, (height, width)))
    if output is not None:
        write_model(model, output)
    return model


def dense_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network as plain ONNX without masks: what to compare the speed with.

    See `laudc.export.rewrite.dense_twin`.
    """
    from laudc.export import rewrite

    return rewrite.dense_twin(model)


def with_masks_as_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The portable graph with every mask as a further graph output.

    See `laudc.export.rewrite.with_masks_as_outputs`.
    """
    from laudc.export import rewrite

    return rewrite.with_masks_as_outputs(model)


make_callable(__name__, export)

"""Which head of another library `--head` names."""

from __future__ import annotations

import os
from typing import Any

from laudc.errors import UserError
from laudc.export.heads import Head
from laudc.export.source import Config, Source, read_detector_file

#: Stands for the head in the checkpoint itself, as MMDetection trained it.
MMDETECTION = "mmdet"
_TORCHVISION = "torchvision"


def find_head(
    head: str | os.PathLike[str] | Any, origin: Any, config: Config | Any, source: Source, size: tuple[int, int]
) -> Head:
    """The head that follows the maps of `source`, which was loaded from `origin` with `config`.

    Args:
        head: "mmdet", a folder, or a model of the transformers library. size: (height, width) of the images.

    Raises:
        UserError: the library is not installed, or there is no such head.
    """
    if not hasattr(source.model, "outputs"):
        raise UserError(
            f"no head can follow a {source.config.arch}",
            "it is no detector's backbone: it ends with class scores",
            "Leave --head out",
        )
    if head == _TORCHVISION:
        raise UserError(
            "there is no head 'torchvision' to choose",
            "RetinaNet, Faster R-CNN and Mask R-CNN under torchvision's keys are whole without it: laudc computes "
            "their heads itself, by torchvision's rules",
            "Leave --head out",
        )
    if head != MMDETECTION:
        from laudc.export.transformers_heads import transformers_head

        return transformers_head(head, size)
    if not isinstance(origin, (str, os.PathLike)):
        raise UserError(
            "the head 'mmdet' cannot be found",
            "its weights are in a detector's checkpoint, and a model in memory was given",
            "Give the path of the checkpoint",
        )
    from laudc.export.mmdetection_heads import mmdetection_head

    file = read_detector_file(origin, config=config)
    with_neck = getattr(source.config, "neck", "none") == "none"
    return mmdetection_head(os.fspath(origin), file, size, with_neck=with_neck)

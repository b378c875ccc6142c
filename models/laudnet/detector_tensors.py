"""What the tensors of a detector's checkpoint tell of its configuration, and what has to be told beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from . import torchvision_layout
from .config import STAGES
from .detector_config import DetectorConfig
from .errors import CheckpointError
from .mmdetection import detector_options, image_statistics, training_config

Tensors = Mapping[str, Tensor]

_TOLD_FIX = (
    "give the configuration that it was trained with (MMDetection's .py file, with the _base_ files beside it) with "
    "--config, or describe the detector in a YAML file (laudnet.DetectorConfig has the fields)"
)


def read_config(content: Mapping[Any, Any], tensors: Tensors) -> DetectorConfig | None:
    """A detector's configuration; None for a static one.

    Tensors tell backbone, neck and the kind of head; what else a head needs is in the training configuration, which
    MMDetection leaves in `meta`. CheckpointError where it is needed and not there, ValueError for an impossible one.
    """
    if not any(".masker_" in key for key in tensors):
        return None
    depth = _depth(tensors)
    named = [arch for arch, layers in DetectorConfig.DEPTHS.items() if layers == depth]
    arch = (*named, *DetectorConfig.FREE_DEPTH)[0]
    options = options_from_shapes(tensors)
    if options["head"] != "none":
        options.update(_told(content, options["head"], options["neck_levels"]))
    return DetectorConfig.for_arch(arch, layers=depth, **options)


def _told(content: Mapping[Any, Any], head: str, levels: int) -> dict[str, Any]:
    sources = [content, *(value for value in content.values() if isinstance(value, Mapping))]
    names = (key.removeprefix("module.") for source in sources for key in source if isinstance(key, str))
    if torchvision_layout.is_torchvision(names):
        return {"rules": torchvision_layout.rules_of(head), "extra_relu": head == "retinanet"}
    training = training_config(content)
    if training is None:
        raise CheckpointError(
            "its configuration",
            f"it holds the tensors of a {head} head and not how it was trained: anchors, regions and thresholds cannot "
            "be read from tensors",
            _TOLD_FIX,
        )
    try:
        return detector_options(training, head, levels)
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"the training configuration makes no sense: {error}") from None


def read_metrics(content: Mapping[Any, Any]) -> dict[str, Any]:
    """What the training configuration says of the images. ValueError for images that are not made here."""
    training = training_config(content)
    statistics = image_statistics(training) if training is not None else {}
    return {"preprocess": statistics} if statistics else {}


def select(config: Any, tensors: Tensors) -> Tensors:
    """The tensors of the parts that the configuration names; other parts are computed by nobody."""
    parts = ["backbone.", *(["neck."] if config.neck != "none" else [])]
    heads = {"retinanet": ["bbox_head."], "faster_rcnn": ["rpn_head.", "roi_head.bbox_head."]}
    parts += heads.get(config.head, ["rpn_head.", "roi_head."] if config.head != "none" else [])
    return {key: value for key, value in tensors.items() if key.startswith(tuple(parts))}


def options_from_shapes(tensors: Tensors) -> dict[str, Any]:
    """All options that tensors tell: only channel and layer modes exist, and their maskers differ."""
    options: dict[str, Any] = {}
    groups = []
    for stage in range(1, STAGES + 1):
        last = _first(tensors, f"backbone.layer{stage}.0.masker_channel.conv.2.weight", f"{_mask_at(stage)}.weight")
        width = tensors.get(f"backbone.layer{stage}.0.conv1.weight")
        groups.append(1 if last is None or width is None else max(1, 2 * width.shape[0] // max(1, last.shape[0])))
    channel = [_first(tensors, f"{_mask_at(s)}.2.weight", f"{_mask_at(s)}.weight") for s in range(1, STAGES + 1)]
    options["dyn_mode"] = ["layer" if mask is None else "channel" for mask in channel]
    options["channel_dyn_granularity"] = groups
    options["channel_masker_layers"] = [2 if f"{_mask_at(s)}.2.weight" in tensors else 1 for s in range(1, STAGES + 1)]
    stem = tensors.get("backbone.conv1.weight")
    if stem is not None and stem.dim() == 4:
        options["width_mult"] = stem.shape[0] / 64
    options.update(_neck_options(tensors))
    options.update(_retina_options(tensors) or _two_stage_options(tensors) or {"head": "none"})
    return options


def _mask_at(stage: int) -> str:
    return f"backbone.layer{stage}.0.masker_channel.conv"


def _first(tensors: Tensors, *names: str) -> Tensor | None:
    return next((tensors[name] for name in names if name in tensors), None)


def _neck_options(tensors: Tensors) -> dict[str, Any]:
    kinds = {"fpn": ("neck.lateral_convs", "neck.fpn_convs"), "channel_mapper": ("neck.convs", "neck.extra_convs")}
    for neck, (lateral, further) in kinds.items():
        stages = _count(tensors, lateral)
        if not 1 <= stages <= STAGES:
            continue
        levels = _count(tensors, further) + (stages if neck == "channel_mapper" else 0)
        channels = tensors[f"{lateral}.0.conv.weight"].shape[0]
        # Two-stage detectors have a level more than convolutions: every second pixel of the last one.
        pooled = neck == "fpn" and levels == stages
        extra = tensors.get(f"{further}.{stages}.conv.weight")
        on_output = extra is not None and extra.dim() == 4 and extra.shape[1] == channels
        return {
            "neck": neck,
            "stages": list(range(STAGES - stages, STAGES)),
            "neck_channels": channels,
            "neck_levels": levels + int(pooled),
            "extra_levels": "pool" if pooled else "on_output" if neck == "fpn" and on_output else "on_input",
        }
    return {"neck": "none"}


def _retina_options(tensors: Tensors) -> dict[str, Any]:
    scores, boxes = tensors.get("bbox_head.retina_cls.weight"), tensors.get("bbox_head.retina_reg.weight")
    if scores is None or boxes is None or boxes.shape[0] < 4 or "neck.lateral_convs.0.conv.weight" not in tensors:
        return {}
    anchors = boxes.shape[0] // 4
    return {
        "head": "retinanet",
        "anchors": anchors,
        "num_classes": max(1, scores.shape[0] // anchors),
        "head_depth": max(1, _count(tensors, "bbox_head.cls_convs")),
    }


def _count(tensors: Tensors, prefix: str) -> int:
    return sum(f"{prefix}.{i}.conv.weight" in tensors for i in range(16))


def _two_stage_options(tensors: Tensors) -> dict[str, Any]:
    """Of Faster and Mask R-CNN with the usual heads: two shared layers, and convolutions before the masks."""
    proposals, box = tensors.get("rpn_head.rpn_cls.weight"), tensors.get("roi_head.bbox_head.fc_cls.weight")
    if proposals is None or box is None or box.dim() != 2:
        return {}
    if not any(key.startswith("roi_head.bbox_head.shared_fcs.") for key in tensors):
        return {}  # a cascade, say
    options = {
        "head": "faster_rcnn",
        "anchors": max(1, proposals.shape[0]),
        "num_classes": max(1, box.shape[0] - 1),
        "box_width": box.shape[1],
    }
    masks = tensors.get("roi_head.mask_head.upsample.weight")
    if masks is not None and masks.dim() == 4:
        depth = max(1, _count(tensors, "roi_head.mask_head.convs"))
        options.update(head="mask_rcnn", mask_width=masks.shape[1], mask_depth=depth)
    return options


def _depth(tensors: Tensors) -> tuple[int, ...]:
    """Blocks per stage that the keys speak of."""
    blocks = [re.match(r"backbone\.layer(\d)\.(\d{1,4})\.", key) for key in tensors]
    found = {match.groups() for match in blocks if match}
    return tuple(sum(stage == str(number) for stage, _ in found) for number in range(1, STAGES + 1))

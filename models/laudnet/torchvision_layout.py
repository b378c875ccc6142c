"""torchvision's detectors (FasterRCNN, MaskRCNN, RetinaNet) around a LAUD-ResNet: their keys, and their rules.

torchvision's rules are in its code, not in a configuration, so its state dicts need none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from .detector_rules import AnchorRule, DetectionRules, ProposalRule, RegionRule, ResultRule

_BACKBONE = "backbone.body."
_RENAMED = (
    (r"backbone\.body\.", "backbone."),
    (r"backbone\.fpn\.inner_blocks\.(\d+)\.(?:0\.)?(weight|bias)$", r"neck.lateral_convs.\1.conv.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d+)\.(?:0\.)?(weight|bias)$", r"neck.fpn_convs.\1.conv.\2"),
    (r"rpn\.head\.conv\.(?:0\.0\.)?(weight|bias)$", r"rpn_head.rpn_conv.\1"),
    (r"rpn\.head\.cls_logits\.", "rpn_head.rpn_cls."),
    (r"rpn\.head\.bbox_pred\.", "rpn_head.rpn_reg."),
    (r"roi_heads\.box_head\.fc6\.", "roi_head.bbox_head.shared_fcs.0."),
    (r"roi_heads\.box_head\.fc7\.", "roi_head.bbox_head.shared_fcs.1."),
    (r"roi_heads\.box_predictor\.cls_score\.", "roi_head.bbox_head.fc_cls."),
    (r"roi_heads\.box_predictor\.bbox_pred\.", "roi_head.bbox_head.fc_reg."),
    (r"roi_heads\.mask_head\.(\d+)\.0\.(weight|bias)$", r"roi_head.mask_head.convs.\1.conv.\2"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.", "roi_head.mask_head.upsample."),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.", "roi_head.mask_head.conv_logits."),
    (r"head\.classification_head\.conv\.(\d+)\.(?:0\.)?(weight|bias)$", r"bbox_head.cls_convs.\1.conv.\2"),
    (r"head\.regression_head\.conv\.(\d+)\.(?:0\.)?(weight|bias)$", r"bbox_head.reg_convs.\1.conv.\2"),
    (r"head\.classification_head\.cls_logits\.", "bbox_head.retina_cls."),
    (r"head\.regression_head\.bbox_reg\.", "bbox_head.retina_reg."),
)


def is_torchvision(keys: Iterable[object]) -> bool:
    """Whether these are the keys of one of torchvision's detectors."""
    return any(isinstance(key, str) and key.startswith(_BACKBONE) for key in keys)


def to_mmdetection(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under MMDetection's keys; others as they are.

    torchvision counts the background as class 0, MMDetection as the last one, without boxes and masks of its own.
    """
    if not is_torchvision(tensors):
        return dict(tensors)
    levels = sum(key.startswith("backbone.fpn.inner_blocks.") and key.endswith("weight") for key in tensors)
    return {_renamed(key, levels): _reordered(key, value) for key, value in tensors.items()}


def _renamed(key: str, levels: int) -> str:
    extra = re.match(r"backbone\.fpn\.extra_blocks\.p(\d)\.(weight|bias)$", key)
    if extra:
        return f"neck.fpn_convs.{levels + int(extra.group(1)) - 6}.conv.{extra.group(2)}"
    for pattern, name in _RENAMED:
        found, count = re.subn(f"^{pattern}", name, key)
        if count:
            return found
    return key


def _reordered(key: str, value: Tensor) -> Tensor:
    if ".box_predictor.cls_score." in key:
        return torch.cat([value[1:], value[:1]])
    if ".box_predictor.bbox_pred." in key:
        return value[4:]
    if ".mask_predictor.mask_fcn_logits." in key:
        return value[1:]
    return value


def rules_of(head: str) -> DetectionRules:
    """torchvision's defaults for a head."""
    if head == "retinanet":
        sizes = [[side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))] for side in (32, 64, 128, 256, 512)]
        anchors = AnchorRule(tuple(tuple(map(float, row)) for row in sizes), rounded=True, strides="measured")
        return DetectionRules(anchors, results=ResultRule(most=300))
    return DetectionRules(
        AnchorRule(tuple((32.0 * 2**level,) for level in range(5)), rounded=True, strides="measured"),
        ProposalRule(min_side=1e-3),
        RegionRule(sampling=2, aligned=False),
        ResultRule(min_side=1e-2),
    )

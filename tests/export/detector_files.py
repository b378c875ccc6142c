"""Detectors in the forms that training leaves behind: MMDetection's checkpoints and configurations."""

from __future__ import annotations

from pathlib import Path

import laudnet
import torch

from tests.export.models import small_detector

RETINANET = """
model = dict(
    type='RetinaNet',
    backbone=dict(type='LAD_MMDet_ResNet', depth=101, norm_cfg=dict(type='BN', requires_grad=True)),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], start_level=1, add_extra_convs='on_input', num_outs=5),
    bbox_head=dict(
        type='RetinaHead',
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 1.0, 1.0])),
    test_cfg=dict(nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=100))
"""
TWO_STAGE = """
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
model = dict(
    type='{type}',
    neck=dict(type='FPN', num_outs=5),
    rpn_head=dict(
        type='RPNHead',
        anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 1.0, 1.0])),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0), featmap_strides=[4, 8, 16, 32]),
        bbox_head=dict(type='Shared2FCBBoxHead', bbox_coder=dict(
            type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.], target_stds=[0.1, 0.1, 0.2, 0.2])),
        mask_roi_extractor=dict(roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0))),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100, mask_thr_binary=0.5)))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(1333, 800), transforms=[dict(type='Pad', size_divisor=32)])]
"""
CONFIGS = {
    "retinanet": RETINANET,
    "faster_rcnn": TWO_STAGE.replace("{type}", "FasterRCNN"),
    "mask_rcnn": TWO_STAGE.replace("{type}", "MaskRCNN"),
}


def mmdetection_file(path: Path, model: laudnet.LaudDetector, **more: torch.Tensor) -> Path:
    """A checkpoint as MMDetection writes it: everything under `state_dict`, the configuration's text in `meta`."""
    meta = {"epoch": 12, "CLASSES": ("a",), "config": CONFIGS.get(model.config.head, "")}
    torch.save({"meta": meta, "state_dict": {**model.state_dict(), **more}}, path)
    return path


def two_stage_detector(mode: str, head: str, **options: object) -> laudnet.LaudDetector:
    """A small seeded Faster or Mask R-CNN whose scores and boxes differ as those of a trained one do."""
    small: dict[str, object] = {
        "stages": (0, 1, 2, 3),
        "extra_levels": "pool",
        "box_width": 64,
        "mask_width": 24,
        "mask_depth": 2,
    }
    model = small_detector(mode, "fpn", head, **{**small, **options})
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("fc_cls.weight", "rpn_cls.weight")):
                tensor.mul_(30)
            elif name.endswith(("fc_reg.weight", "rpn_reg.weight", "conv_logits.weight")):
                tensor.mul_(10)
    return model

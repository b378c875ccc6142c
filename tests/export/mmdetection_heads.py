"""Small detectors with heads of MMDetection: configurations and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import laudnet
import torch
from torch import Tensor

from tests.export.models import small_detector

DDQ = """
model = dict(
    type='DDQDETR', num_queries=40, dense_topk_ratio=1.5, with_box_refine=True, as_two_stage=True,
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_size_divisor=1),
    backbone=dict(type='LAD_MMDet_ResNet', depth=101, out_indices=(1, 2, 3), init_cfg=dict(type='Pretrained')),
    neck=dict(type='ChannelMapper', in_channels=[64, 128, 256], kernel_size=1, out_channels=32, act_cfg=None,
        norm_cfg=dict(type='GN', num_groups=32), num_outs=4),
    encoder=dict(num_layers=2, num_cp=2, layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=32, num_levels=4, dropout=0.0),
        ffn_cfg=dict(embed_dims=32, feedforward_channels=64, ffn_drop=0.0))),
    decoder=dict(num_layers=3, num_cp=3, return_intermediate=True, layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=32, num_heads=8, dropout=0.0),
        cross_attn_cfg=dict(embed_dims=32, num_levels=4, dropout=0.0),
        ffn_cfg=dict(embed_dims=32, feedforward_channels=64, ffn_drop=0.0)), post_norm_cfg=None),
    positional_encoding=dict(num_feats=16, normalize=True, offset=0.0, temperature=20),
    bbox_head=dict(type='DDQDETRHead', num_classes=7, embed_dims=32, sync_cls_avg_factor=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0), loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
    dn_cfg=dict(label_noise_scale=0.5, box_noise_scale=1.0,
        group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=100)),
    dqs_cfg=dict(type='nms', iou_threshold=0.8),
    train_cfg=dict(assigner=dict(type='HungarianAssigner')),
    test_cfg=dict(max_per_img=30))
"""
MASK2FORMER = """
num_things_classes = 7
num_stuff_classes = 0
num_classes = num_things_classes + num_stuff_classes
attention = dict(embed_dims=32, num_heads=8, dropout=0.0, batch_first=True)
ffn = dict(embed_dims=32, feedforward_channels=64, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type='ReLU', inplace=True))
model = dict(
    type='Mask2Former',
    backbone=dict(type='LAD_MMDet_ResNet', depth=101, out_indices=(0, 1, 2, 3)),
    panoptic_head=dict(
        type='Mask2FormerHead', in_channels=[32, 64, 128, 256], strides=[4, 8, 16, 32], feat_channels=32,
        out_channels=32, num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes, num_queries=20,
        num_transformer_feat_level=3,
        pixel_decoder=dict(
            type='MSDeformAttnPixelDecoder', num_outs=3, norm_cfg=dict(type='GN', num_groups=8),
            act_cfg=dict(type='ReLU'),
            encoder=dict(num_layers=2, layer_cfg=dict(
                self_attn_cfg=dict(
                    embed_dims=32, num_heads=8, num_levels=3, num_points=4, dropout=0.0, batch_first=True),
                ffn_cfg=ffn)),
            positional_encoding=dict(num_feats=16, normalize=True)),
        enforce_decoder_input_project=False, positional_encoding=dict(num_feats=16, normalize=True),
        transformer_decoder=dict(return_intermediate=True, num_layers=4, layer_cfg=dict(
            self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn), init_cfg=None),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=2.0, reduction='mean',
            class_weight=[1.0] * num_classes + [0.1]),
        loss_mask=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='mean', loss_weight=5.0),
        loss_dice=dict(type='DiceLoss', use_sigmoid=True, activate=True, reduction='mean', naive_dice=True, eps=1.0,
            loss_weight=5.0)),
    panoptic_fusion_head=dict(type='MaskFormerFusionHead', num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes, loss_panoptic=None, init_cfg=None),
    train_cfg=dict(num_points=12544),
    test_cfg=dict(panoptic_on=False, instance_on=True, max_per_image=100))
"""
CONFIGS = {"DDQDETR": DDQ, "Mask2Former": MASK2FORMER}
CLASSES = 7


def small_backbone(kind: str) -> laudnet.LaudDetector:
    """Backbone and, for DDQ-DETR, neck."""
    if kind == "DDQDETR":
        return small_detector("channel", "channel_mapper", "none", stages=(1, 2, 3), neck_levels=4)
    return small_detector("layer", "none", "none", stages=(0, 1, 2, 3))


def detector_file(path: Path, config: str, parts: Mapping[str, Tensor], kind: str) -> Path:
    """A checkpoint as MMDetection 3 writes it: our backbone, `parts`, and the configuration's text in `meta`."""
    tensors = {**small_backbone(kind).state_dict(), **parts}
    torch.save({"meta": {"epoch": 1, "cfg": config}, "state_dict": tensors}, path)
    return path

"""Just so much of MMDetection that its heads can be built and loaded where it is not installed."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

VERSION = "3.3.0"


class Registry:
    """Classes by name; as in mmengine, names that the registry lacks are those of its parent."""

    def __init__(self, classes: dict[str, Any], parent: Registry | None = None) -> None:
        self.module_dict, self.parent = classes, parent

    def build(self, config: dict[str, Any]) -> Any:
        parts = dict(config)
        kind = parts.pop("type")
        return (kind if isinstance(kind, type) else self.module_dict[kind])(**parts)


class Forbidden(nn.Module):
    """Is registered, as classes are that would run what their arguments name."""

    built = 0

    def __init__(self, **options: Any) -> None:
        type(self).built += 1
        super().__init__()


class Attention(nn.Module):
    """Where a deformable attention would be."""

    def __init__(self) -> None:
        super().__init__()
        self.value_proj = nn.Linear(4, 4)


class BoxHead(nn.Module):
    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.cls_out_channels = options["num_classes"]
        self.loss_cls, self.test_cfg = SimpleNamespace(use_sigmoid=options["loss_cls"]["use_sigmoid"]), None
        self.aux_reg_branches = nn.ModuleList([nn.Linear(4, 4)])

    def predict(self, found: Any, rescale: bool, batch_data_samples: list[Any]) -> list[Any]:
        return [SimpleNamespace(bboxes=found[0, :, :4], scores=found[0, :, 4], labels=found[0, :, 5].long())]


class Detector(nn.Module):
    """In place of DDQDETR."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options, self.num_queries, self.embed_dims, self.num_feature_levels = options, 40, 32, 4
        self.backbone = options["backbone"]["type"]()
        self.decoder = nn.Module()
        self.decoder.layers = nn.ModuleList(Attention() for _ in range(options["decoder"]["num_layers"]))
        self.bbox_head = BoxHead(options["bbox_head"])
        self.bbox_head.test_cfg = options["test_cfg"]

    def forward_transformer(self, levels: Any, samples: list[Any]) -> dict[str, Any]:
        most = self.bbox_head.test_cfg["max_per_img"]
        return {"found": torch.zeros(1, most, 6) + levels[0].mean()}


class MaskHead(nn.Module):
    """In place of Mask2FormerHead."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options, self.num_classes = options, options["num_things_classes"] + options["num_stuff_classes"]
        self.cls_embed = nn.Linear(32, self.num_classes + 1)

    def forward(self, levels: Any, samples: Any) -> Any:
        classes = self.cls_embed(levels[0].mean((2, 3)))[None]
        return [classes + 1, classes], [levels[0] + 1, levels[0]]


class Neck(nn.Module):
    """In place of ChannelMapper."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, maps: Any) -> list[Any]:
        return [self.scale * level for level in maps]


def install(monkeypatch: pytest.MonkeyPatch, version: str = VERSION) -> None:
    """Let `mmdet` and what is below it be these."""
    shared = ("ReLU", "GN")
    ours = {"DDQDETR": Detector, "Mask2FormerHead": MaskHead, "ChannelMapper": Neck, "Forbidden": Forbidden}
    names = ("DDQDETRHead", "FocalLoss", "L1Loss", "GIoULoss", "CrossEntropyLoss", "DiceLoss")
    others = dict.fromkeys((*names, "MSDeformAttnPixelDecoder", "BFP"), nn.Identity)
    models = Registry({**ours, **others}, Registry(dict.fromkeys(shared, nn.Identity)))
    contents: dict[str, dict[str, Any]] = {
        "mmdet": {"__version__": version},
        "mmdet.models": {},
        "mmdet.registry": {"MODELS": models},
        "mmdet.structures": {"DetDataSample": lambda metainfo: SimpleNamespace(metainfo=metainfo)},
        "mmcv": {},
        "mmcv.ops": {"MultiScaleDeformableAttention": Attention},
        "mmengine": {},
        "mmengine.config": {"ConfigDict": dict},
    }
    for name, members in contents.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)

"""The heads of Faster and Mask R-CNN by MMDetection's keys: `rpn_head`, `roi_head.bbox_head`, `roi_head.mask_head`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .boxes import anchors_of, decode, longer_than, roi_align, suppress
from .detector_config import DetectorConfig
from .detector_layers import ConvModule


@dataclass(frozen=True)
class Regions:
    """Proposals of one image: boxes (n, 4) in pixels, and which of them are proposals at all, bool (n,).

    The number n is that of the rules, or of all anchors where there are fewer; what is no proposal fills up.
    """

    boxes: Tensor
    valid: Tensor


class RpnHead(nn.Module):
    """Region proposals. Keys: `rpn_conv`, `rpn_cls`, `rpn_reg`."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels, anchors = config.neck_channels, config.anchors_per_position
        self.rules = config.detection_rules
        self.strides = config.level_strides
        self.rpn_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(channels, anchors, 1)
        self.rpn_reg = nn.Conv2d(channels, anchors * 4, 1)

    def anchors(self, maps: list[tuple[int, int]], image: tuple[int, int]) -> list[Tensor]:
        """Anchors (n, 4) of every level for maps and an image of these sizes (height, width)."""
        return anchors_of(self.rules.anchors, maps, self.strides, image)

    def forward(self, levels: list[Tensor], image: tuple[int, int]) -> list[Regions]:
        """Neck maps (B, C, H, W) -> proposals of each image."""
        shared = [torch.relu(self.rpn_conv(x)) for x in levels]
        scores = [_rows(self.rpn_cls(x), 1).squeeze(2).sigmoid() for x in shared]
        deltas = [_rows(self.rpn_reg(x), 4) for x in shared]
        anchors = [level.to(levels[0]) for level in self.anchors([(x.shape[2], x.shape[3]) for x in levels], image)]
        return [
            self._propose([s[i] for s in scores], [d[i] for d in deltas], anchors, image)
            for i in range(levels[0].shape[0])
        ]

    def _propose(
        self, scores: list[Tensor], deltas: list[Tensor], anchors: list[Tensor], image: tuple[int, int]
    ) -> Regions:
        rule = self.rules.proposals
        boxes, marks = [], []
        for values, moves, level in zip(scores, deltas, anchors, strict=True):
            best, at = values.topk(min(rule.candidates, len(values)))
            found = decode(level[at], moves[at], image)
            boxes.append(found)
            marks.append(_after_suppression(found, best, longer_than(found, rule.min_side), rule.overlap))
        candidates = torch.cat(marks)
        best, at = candidates.topk(min(rule.most, len(candidates)))
        return Regions(torch.cat(boxes)[at], best >= 0)


class BoxHead(nn.Module):
    """Class and box of each region. Keys: `shared_fcs.0`, `shared_fcs.1`, `fc_cls`, `fc_reg`; background comes last."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        features = config.neck_channels * config.detection_rules.regions.box_cells**2
        width = config.box_width
        self.classes = config.num_classes
        self.shared_fcs = nn.ModuleList([nn.Linear(features, width), nn.Linear(width, width)])
        self.fc_cls = nn.Linear(width, config.num_classes + 1)
        self.fc_reg = nn.Linear(width, config.num_classes * 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, C, cells, cells) -> class logits (n, classes + 1) and deltas (n, classes, 4)."""
        y = features.flatten(1)
        for layer in self.shared_fcs:
            y = torch.relu(layer(y))
        return self.fc_cls(y), self.fc_reg(y).unflatten(1, (self.classes, 4))


class MaskHead(nn.Module):
    """A mask per class of each region. Keys: `convs.i.conv`, `upsample`, `conv_logits`."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels = config.mask_width
        inputs = [config.neck_channels, *[channels] * config.mask_depth][: config.mask_depth]
        self.convs = nn.ModuleList(ConvModule(count, channels, 3) for count in inputs)
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.conv_logits = nn.Conv2d(channels, config.num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, C, cells, cells) -> mask logits (n, classes, 2·cells, 2·cells)."""
        for conv in self.convs:
            features = torch.relu(conv(features))
        return self.conv_logits(torch.relu(self.upsample(features)))


class RoiHead(nn.Module):
    """The second stage: from proposals to boxes, scores, classes and, in Mask R-CNN, masks."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.rules = config.detection_rules
        # The level that only proposals use has no regions of its own.
        self.strides = config.level_strides[: len(config.stages)]
        self.bbox_head = BoxHead(config)
        self.mask_head = MaskHead(config) if config.head == "mask_rcnn" else None

    def forward(self, levels: list[Tensor], regions: list[Regions], image: tuple[int, int]) -> list[Tensor]:
        """Neck maps and proposals -> boxes (B, n, 4), scores (B, n), classes (B, n) int64, masks (B, n, m, m).

        Best first; what is left of n has score 0. Masks are probabilities inside the box.
        """
        found = [self._find([x[i] for x in levels], at, image) for i, at in enumerate(regions)]
        return [torch.stack(parts) for parts in zip(*found, strict=True)]

    def _find(self, levels: list[Tensor], regions: Regions, image: tuple[int, int]) -> list[Tensor]:
        rule, cells = self.rules.results, self.rules.regions
        logits, deltas = self.bbox_head(self.features(levels, regions.boxes, cells.box_cells))
        scores = logits.softmax(1)[:, :-1].T
        boxes = decode(regions.boxes[:, None], deltas * deltas.new_tensor(rule.stds), image).transpose(0, 1)
        usable = regions.valid & (scores > rule.score) & longer_than(boxes, rule.min_side)
        marks = [_after_suppression(*one, rule.overlap) for one in zip(boxes, scores, usable, strict=True)]
        best, at = torch.cat(marks).topk(min(rule.most, scores.numel()))
        chosen, labels = boxes.flatten(0, 1)[at], at // len(regions.boxes)
        results = [chosen, best.clamp(min=0), labels]
        if self.mask_head is not None:
            masks = self.mask_head(self.features(levels, chosen, cells.mask_cells))
            results.append(masks[torch.arange(len(at)), labels].sigmoid())
        return results

    def features(self, levels: list[Tensor], boxes: Tensor, cells: int) -> Tensor:
        """Features (n, C, cells, cells) of boxes (n, 4), each from the level that its size asks for."""
        rule = self.rules.regions
        size = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt() / rule.finest + 1e-6
        level = sum((size >= 2**i).long() for i in range(1, len(self.strides)))
        features = boxes.new_zeros(len(boxes), levels[0].shape[0], cells, cells)
        for i, stride in enumerate(self.strides):
            members = (level == i).nonzero().squeeze(1)
            features[members] = roi_align(levels[i], boxes[members], cells, 1 / stride, rule.sampling, rule.aligned)
        return features


def _rows(x: Tensor, values: int) -> Tensor:
    """(B, A·values, H, W) -> (B, H·W·A, values)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


def _after_suppression(boxes: Tensor, scores: Tensor, usable: Tensor, overlap: float) -> Tensor:
    """Scores (n,) of those that stay, -1 for all others."""
    at = usable.nonzero().squeeze(1)
    stay = at[suppress(boxes[at], scores[at], overlap)]
    marks = torch.full_like(scores, -1)
    marks[stay] = scores[stay]
    return marks

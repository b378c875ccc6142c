"""Detectors on a LAUD-ResNet backbone: MMDetection's necks and heads around our own blocks.

Parameter names equal those of the authors' detector checkpoints (MMDetection 2.21 and 3.3). What the configuration
leaves out of a checkpoint (a transformer's decoder, say) is not read: the outputs are then the maps of the neck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .detector_config import DetectorConfig
from .detector_layers import ChannelMapper, FeaturePyramid, RetinaHead
from .network import BlockRun, DynamicNetwork, ModelRun
from .resnet import Bottleneck, ResNetTrunk
from .two_stage import RoiHead, RpnHead


class LaudDetector(DynamicNetwork):
    """Backbone, neck and head of a detector.

    `outputs(x)`: the tensors that the configuration ends with. `forward` and `run` join them, flattened, to one row
    per image, in the place of a classifier's logits.
    """

    config: DetectorConfig

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = ResNetTrunk(config)
        necks = {"fpn": FeaturePyramid, "channel_mapper": ChannelMapper}
        self.neck = necks[config.neck](config) if config.neck != "none" else None
        self.bbox_head = RetinaHead(config) if config.head == "retinanet" else None
        two_stages = config.head in ("faster_rcnn", "mask_rcnn")
        self.rpn_head = RpnHead(config) if two_stages else None
        self.roi_head = RoiHead(config) if two_stages else None

    def blocks(self) -> Iterator[tuple[str, Bottleneck]]:
        """('backbone.layer1.0', block) ... in forward order."""
        return ((f"backbone.{name}", block) for name, block in self.backbone.blocks())

    def last_of_stages(self) -> list[str]:
        """Names of the blocks whose outputs are the stage maps in use."""
        depths = self.config.layers
        return [f"backbone.layer{stage + 1}.{depths[stage] - 1}" for stage in self.config.stages]

    def outputs(self, x: Tensor) -> list[Tensor]:
        """x (B, 3, H, W) of any size -> stage maps, neck maps, RetinaNet's (class logits, box deltas), or what
        `RoiHead` finds: (boxes, scores, classes) and masks.
        """
        return self._finish(x, lambda name, block, y: block(y))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> all outputs as one row per image."""
        return _joined(self.outputs(x))

    def forward_dense(self, x: Tensor) -> Tensor:
        """As `forward`, of the static network."""
        return _joined(self._finish(x, lambda name, block, y: block.forward_dense(y)))

    def run(self, x: Tensor) -> ModelRun:
        """As `forward`, with every block's decisions."""
        outputs, runs = self.run_outputs(x)
        return ModelRun(_joined(outputs), runs, (x.shape[2], x.shape[3]))

    def run_outputs(self, x: Tensor) -> tuple[list[Tensor], tuple[BlockRun, ...]]:
        """As `outputs`, with every block's decisions."""
        runs: list[BlockRun] = []

        def step(name: str, block: Bottleneck, y: Tensor) -> Tensor:
            y, block_run = block.run(y, name)
            runs.append(block_run)
            return y

        return self._finish(x, step), tuple(runs)

    def _finish(self, x: Tensor, step: Callable[[str, Bottleneck, Tensor], Tensor]) -> list[Tensor]:
        self._check_input(x)
        wanted, maps = self.last_of_stages(), []
        y = self.backbone.stem(x)
        for name, block in self.blocks():
            y = step(name, block, y)
            if name in wanted:
                maps.append(y)
        maps = maps if self.neck is None else self.neck(maps)
        if self.rpn_head is not None and self.roi_head is not None:
            image = (x.shape[2], x.shape[3])
            return self.roi_head(maps, self.rpn_head(maps, image), image)
        return maps if self.bbox_head is None else self.bbox_head(maps)


def _joined(outputs: list[Tensor]) -> Tensor:
    return torch.cat([output.flatten(1) for output in outputs], 1)

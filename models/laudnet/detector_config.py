"""Detectors on a LAUD-ResNet backbone, as the authors train them in MMDetection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .config import ARCH_LAYERS, LaudConfig
from .detector_rules import DetectionRules, usual_rules

NECKS = ("none", "fpn", "channel_mapper")
HEADS = ("none", "retinanet", "faster_rcnn", "mask_rcnn")
#: Strides of the backbone's four stage maps.
STAGE_STRIDES = (4, 8, 16, 32)
# Far above any real detector; keeps a hostile file from asking for an endless one.
_MOST: Mapping[str, int] = {
    "neck_channels": 4096,
    "neck_levels": 16,
    "head_depth": 64,
    "anchors": 4096,
    "box_width": 4096,
    "mask_width": 4096,
    "mask_depth": 64,
}


@dataclass(frozen=True)
class DetectorConfig(LaudConfig):
    """A detector: backbone, neck and head, as far as they are computed.

    arch: 'lad_mmdet_resnet50', 'lad_mmdet_resnet101', or 'laud_detector' (any `layers`).
    dyn_mode: 'channel' or 'layer'; masks are made by global averages, so images of any height and width will do.
    neck: 'none' (the maps of `stages` are the outputs), 'fpn', or 'channel_mapper' (DDQ-DETR's).
    stages: which of the backbone's stages (0..3) are used, without gaps up to the last.
    neck_channels: of every map that the neck makes; neck_levels: how many these are.
    extra_levels: where the first level beyond the stages comes from: 'on_input' (a strided convolution of the last
    stage's map), 'on_output' (of the last level), 'pool' (every second pixel of the last level). extra_relu: further
    ones come from what is positive in the level before.
    head: 'none' (the neck's maps are the outputs), 'retinanet', 'faster_rcnn' or 'mask_rcnn'; head_depth: RetinaNet's
    convolutions before the last; anchors: per position (the rules' number if not given); num_classes: of the head.
    box_width: of the box head's layers; mask_width, mask_depth: of the mask head's convolutions.
    rules: anchors, regions and thresholds; MMDetection's usual ones if not given.
    test_size: (height, width) of the padded images, in pixels.
    """

    arch: str = "lad_mmdet_resnet101"
    layers: tuple[int, ...] = ARCH_LAYERS["uni_resnet101"]
    dyn_mode: tuple[str, ...] = ("channel",) * 4
    channel_masker_layers: tuple[int, ...] = (2,) * 4
    num_classes: int = 80
    neck: str = "none"
    stages: tuple[int, ...] = (0, 1, 2, 3)
    neck_channels: int = 256
    neck_levels: int = 5
    extra_levels: str = "on_input"
    extra_relu: bool = False
    head: str = "none"
    head_depth: int = 4
    anchors: int | None = None
    box_width: int = 1024
    mask_width: int = 256
    mask_depth: int = 4
    rules: DetectionRules | None = None
    test_size: tuple[int, ...] = (800, 1344)

    MODES: ClassVar[tuple[str, ...]] = ("channel", "layer")
    DEPTHS: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "lad_mmdet_resnet101": ARCH_LAYERS["uni_resnet101"],
        "lad_mmdet_resnet50": ARCH_LAYERS["uni_resnet50"],
    }
    FREE_DEPTH: ClassVar[tuple[str, ...]] = ("laud_detector",)

    @property
    def has_spatial_masks(self) -> bool:
        """Never: a mask of one cell fits maps of any size."""
        return False

    @property
    def image_size(self) -> tuple[int, int]:
        """See `test_size`."""
        return self.test_size[0], self.test_size[1]

    @property
    def level_strides(self) -> list[int]:
        """Pixels of the image between two positions of each of the neck's maps."""
        return [STAGE_STRIDES[self.stages[0]] << level for level in range(self.neck_levels)]

    @property
    def detection_rules(self) -> DetectionRules:
        """The rules of a detector that has a head."""
        assert self.rules is not None
        return self.rules

    @property
    def anchors_per_position(self) -> int:
        """`anchors` of a detector that has a head."""
        assert self.anchors is not None
        return self.anchors

    def __post_init__(self) -> None:
        if self.head != "none":
            rules = usual_rules(self.head) if self.rules is None else DetectionRules.from_dict(self.rules)
            object.__setattr__(self, "rules", rules)
            if self.anchors is None:
                object.__setattr__(self, "anchors", rules.anchors.per_position)
        super().__post_init__()

    def _check_types(self) -> None:
        super()._check_types()
        for name, allowed in (
            ("neck", NECKS),
            ("head", HEADS),
            ("extra_levels", ("on_input", "on_output", "pool")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name}: {value!r} is not one of {', '.join(allowed)}")
        for name, most in _MOST.items():
            value = getattr(self, name)
            if name == "anchors" and value is None and self.head == "none":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"{name}: expected a number from 1 to {most}, got {value!r}")
        if not isinstance(self.extra_relu, bool):
            raise ValueError(f"extra_relu: expected true or false, got {self.extra_relu!r}")
        if not self.stages or self.stages != tuple(range(self.stages[0], 4)) or self.stages[0] not in range(4):
            raise ValueError(f"stages: expected consecutive numbers up to 3, got {self.stages!r}")
        if self.neck != "none" and self.neck_levels < len(self.stages):
            raise ValueError(f"neck_levels: {self.neck_levels} is less than the {len(self.stages)} stages")
        if self.head != "none":
            self._check_head()
        size = self.test_size
        if len(size) != 2 or not all(isinstance(side, int) and 1 <= side <= 1 << 14 for side in size):
            raise ValueError(f"test_size: expected height and width in pixels, got {size!r}")

    def _check_head(self) -> None:
        if self.neck == "none":
            raise ValueError(f"head: {self.head!r} needs a neck")
        rules = self.detection_rules
        if len(rules.anchors.sizes) != self.neck_levels:
            own = len(rules.anchors.sizes)
            raise ValueError(f"rules: anchors of {own} levels, and the neck has {self.neck_levels}")
        own = rules.anchors.per_position
        if own != self.anchors:
            raise ValueError(f"rules: {own} anchors per position, and the head has {self.anchors}")

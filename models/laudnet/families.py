"""The network families: which architecture names, configuration, network and tensors belong together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from . import adavit
from .config import STAGES, DynamicConfig, LaudConfig
from .detector import LaudDetector
from .detector_config import DetectorConfig
from .network import DynamicNetwork
from .regnet import LaudRegNet
from .regnet_config import RegNetConfig
from .resnet import LaudResNet
from .vit import LaudVit
from .vit_config import VitConfig

Tensors = Mapping[str, Tensor]
AnyConfig = DynamicConfig | VitConfig
AnyNetwork = DynamicNetwork | LaudVit


def _resnet_options(tensors: Tensors) -> dict[str, Any]:
    options = _head_options(tensors)
    stem, grouped = tensors.get("conv1.weight"), tensors.get("layer1.0.conv2.weight")
    if stem is not None and stem.dim() == 4:
        options["width_mult"] = stem.shape[0] / 64
    if grouped is not None and grouped.dim() == 4 and grouped.shape[1] > 0:
        options["groups"] = max(1, grouped.shape[0] // grouped.shape[1])
    return options


def _head_options(tensors: Tensors) -> dict[str, Any]:
    head = tensors.get("fc.weight")
    return {"num_classes": head.shape[0]} if head is not None and head.dim() == 2 else {}


def _detector_options(tensors: Tensors) -> dict[str, Any]:
    """Everything: only channel and layer modes exist, and their maskers differ; MMDetection's keys name the parts."""
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
    options.update(_retina_options(tensors))
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
        return {"head": "none"}
    anchors = boxes.shape[0] // 4
    return {
        "head": "retinanet",
        "anchors": anchors,
        "num_classes": max(1, scores.shape[0] // anchors),
        "head_depth": max(1, _count(tensors, "bbox_head.cls_convs")),
    }


def _count(tensors: Tensors, prefix: str) -> int:
    return sum(f"{prefix}.{i}.conv.weight" in tensors for i in range(16))


def _detector_tensors(config: Any, tensors: Tensors) -> Tensors:
    """The tensors of the parts that the configuration names; other parts are computed by nobody."""
    parts = ("backbone.", *(["neck."] if config.neck != "none" else []))
    parts += ("bbox_head.",) if config.head != "none" else ()
    return {key: value for key, value in tensors.items() if key.startswith(parts)}


def _all_tensors(config: Any, tensors: Tensors) -> Tensors:
    return tensors


@dataclass(frozen=True)
class Family:
    """One family of networks.

    name: with its article, for messages. config, network: classes. mark: how the keys of such a state dict begin.
    block_key: pattern whose two groups are the number of a stage (from 1) and of a block (from 0); one group, the
    block, where there are no stages.
    options_from_shapes: what tensor shapes give away of a configuration, nothing for tensors of another family.
    select: the tensors of a file that a configuration needs.
    deciders: what the keys of maskers or policies have in common.
    read_config: from a file's content and tensors, where the family's authors have their own layout; its errors are
    CheckpointError and ValueError. convert: other forms of the tensors to ours.
    """

    name: str
    config: type[Any]
    network: Callable[[Any], AnyNetwork]
    mark: str
    block_key: re.Pattern[str]
    options_from_shapes: Callable[[Tensors], dict[str, Any]]
    select: Callable[[Any, Tensors], Tensors] = _all_tensors
    deciders: str = ".masker_"
    read_config: Callable[[Mapping[Any, Any], Tensors], AnyConfig | None] | None = None
    convert: Callable[[Tensors], dict[str, Tensor]] = dict

    @property
    def archs(self) -> tuple[str, ...]:
        """Architecture names, those of published networks first."""
        return (*self.config.DEPTHS, *self.config.FREE_DEPTH)

    def depth(self, tensors: Tensors) -> tuple[int, ...]:
        """Blocks per stage that the keys speak of."""
        found = [self.block_key.match(key) for key in tensors]
        if self.block_key.groups == 1:
            return (len({match.group(1) for match in found if match}),)
        blocks = {(int(match.group(1)), int(match.group(2))) for match in found if match}
        return tuple(sum(stage == number for stage, _ in blocks) for number in range(1, STAGES + 1))


def _read_detector(content: Mapping[Any, Any], tensors: Tensors) -> DynamicConfig | None:
    """A detector's configuration, which its tensors tell; None for a static one. ValueError for an impossible one."""
    if not any(".masker_" in key for key in tensors):
        return None
    blocks = [re.match(r"backbone\.layer(\d)\.(\d{1,4})\.", key) for key in tensors]
    found = {match.groups() for match in blocks if match}
    depth = tuple(sum(stage == str(number) for stage, _ in found) for number in range(1, STAGES + 1))
    named = [arch for arch, layers in DetectorConfig.DEPTHS.items() if layers == depth]
    arch = (*named, *DetectorConfig.FREE_DEPTH)[0]
    return DetectorConfig.for_arch(arch, layers=depth, **_detector_options(tensors))


FAMILIES = (
    Family(
        name="a LAUD-ResNet",
        config=LaudConfig,
        network=LaudResNet,
        mark="layer1.",
        block_key=re.compile(r"layer(\d)\.(\d{1,4})\."),
        options_from_shapes=_resnet_options,
    ),
    Family(
        name="a RegNet",
        config=RegNetConfig,
        network=LaudRegNet,
        mark="trunk_output.",
        block_key=re.compile(r"trunk_output\.block(\d)\.block\d-(\d{1,4})\."),
        options_from_shapes=_head_options,
    ),
    Family(
        name="a detector",
        config=DetectorConfig,
        network=LaudDetector,
        mark="backbone.",
        block_key=re.compile(r"backbone\.layer(\d)\.(\d{1,4})\."),
        options_from_shapes=_detector_options,
        read_config=_read_detector,
        select=_detector_tensors,
    ),
    Family(
        name="a vision transformer",
        config=VitConfig,
        network=LaudVit,
        mark="cls_token",
        block_key=re.compile(r"blocks\.(\d{1,4})\."),
        options_from_shapes=adavit.options_from_shapes,
        deciders="_select.",
        read_config=adavit.read_config,
        convert=adavit.split_qkv,
    ),
)


def known_archs() -> tuple[str, ...]:
    """Architecture names of all families."""
    return tuple(arch for family in FAMILIES for arch in family.archs)


def family_of_arch(arch: object) -> Family | None:
    """The family that has this architecture name."""
    return next((family for family in FAMILIES if arch in family.archs), None)


def family_of(config: AnyConfig) -> Family:
    """The family of a configuration."""
    return next(family for family in FAMILIES if type(config) is family.config)


def family_of_tensors(tensors: Tensors) -> Family | None:
    """The family whose state dict this looks like."""
    return next((f for f in FAMILIES if any(key.startswith(f.mark) for key in tensors)), None)


def name_of_tensors(tensors: Tensors) -> str | None:
    """What these tensors look like ('a RegNet'), None if like nothing known."""
    family = family_of_tensors(tensors)
    return family.name if family else None


def config_from_dict(data: Mapping[str, Any]) -> AnyConfig:
    """Configuration of any family; `arch` decides which. ValueError for anything that is none."""
    if not isinstance(data, Mapping):
        raise ValueError(f"configuration: expected a mapping, got {type(data).__name__}")
    arch = data.get("arch", LaudConfig.arch)
    family = family_of_arch(arch)
    if family is None:
        raise ValueError(f"arch: {arch!r} is not known; known are {', '.join(known_archs())}")
    config: AnyConfig = family.config.from_dict(data)
    return config


def build_model(config: AnyConfig) -> AnyNetwork:
    """A freshly initialised model of `config`, in training mode as any new module."""
    return family_of(config).network(config)

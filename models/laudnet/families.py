"""The network families: which architecture names, configuration, network and tensors belong together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from . import adavit, detector_tensors, torchvision_layout
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


def _all_tensors(config: Any, tensors: Tensors) -> Tensors:
    return tensors


def _no_metrics(content: Mapping[Any, Any]) -> dict[str, Any]:
    return {}


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
    CheckpointError and ValueError. read_metrics: what such a file says of its images. convert: other forms of the
    tensors to ours.
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
    read_metrics: Callable[[Mapping[Any, Any]], Mapping[str, Any]] = _no_metrics
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
        options_from_shapes=detector_tensors.options_from_shapes,
        read_config=detector_tensors.read_config,
        read_metrics=detector_tensors.read_metrics,
        select=detector_tensors.select,
        convert=torchvision_layout.to_mmdetection,
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

"""The configurations that a search looks at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from laudc.predict.architectures import AnyBlueprint
from laudc.predict.blueprint import MODES, Blueprint
from laudc.predict.regnet_blueprint import RegNetBlueprint
from laudc.predict.vit_blueprint import VitBlueprint

RATES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SPATIAL = (1, 2, 4, 7, 8)
CHANNEL = (1, 2, 4, 8)
_POLICIES = ("token", "head", "layer")
# A transformer's policies combine freely.
_VIT_MODES = tuple(
    "+".join(some) for number in range(1, len(_POLICIES) + 1) for some in itertools.combinations(_POLICIES, number)
)
_REGNET_MODES = ("spatial", "channel", "both")


@dataclass(frozen=True)
class Uniform:
    """One mode, one S, one G and one rate in all stages: what is predicted; stages are then combined freely."""

    mode: str
    spatial: int
    channel: int
    rate: float

    def blueprint(self, base: AnyBlueprint) -> AnyBlueprint:
        """The network with these options."""
        if isinstance(base, VitBlueprint):
            policies = self.mode.split("+")
            return base.with_policies(token="token" in policies, head="head" in policies, layer="layer" in policies)
        stages = len(base.layers)
        return replace(
            base, modes=(self.mode,) * stages, spatial=(self.spatial,) * stages, channel=(self.channel,) * stages
        )


def modes_of(base: AnyBlueprint) -> tuple[str, ...]:
    """What networks of this family can be trained to skip."""
    if isinstance(base, VitBlueprint):
        return _VIT_MODES
    return MODES if isinstance(base, Blueprint) else _REGNET_MODES


def uniform_options(
    base: AnyBlueprint,
    modes: Sequence[str],
    spatial: Sequence[int] = SPATIAL,
    channel: Sequence[int] = CHANNEL,
    rates: Sequence[float] = RATES,
) -> list[Uniform]:
    """Everything worth predicting: options that a mode ignores are not varied."""
    found = []
    for mode in modes:
        patches = spatial if mode in ("spatial", "both") else (1,)
        groups = [g for g in channel if _divides(base, g)] if mode in ("channel", "both") else [1]
        found += [Uniform(mode, s, g, rate) for s in patches for g in groups for rate in rates]
    return found


def _divides(base: AnyBlueprint, group: int) -> bool:
    assert isinstance(base, (Blueprint, RegNetBlueprint))
    return all(width % group == 0 for width in base.widths)


def stages_of(base: AnyBlueprint) -> list[int]:
    """The stage of every block, from 0 on; a transformer has one stage."""
    layers = (len(base.hidden),) if isinstance(base, VitBlueprint) else base.layers
    return [stage for stage, blocks in enumerate(layers) for _ in range(blocks)]


def stage_maps(base: Blueprint | RegNetBlueprint) -> list[int]:
    """Side of the output map of every stage, in pixels."""
    sizes = {stage: record.hout for stage, (_, record) in zip(stages_of(base), base.blocks(), strict=True)}
    return list(sizes.values())


def fits(option: Uniform, size: int) -> bool:
    """Whether patches of this size make sense on a map: more than one of them."""
    return option.mode not in ("spatial", "both") or size // option.spatial > 1 or option.spatial == 1


def stage_options(options: Sequence[Uniform], base: AnyBlueprint) -> Iterator[list[int]]:
    """For every stage the indices of the options that fit it."""
    if isinstance(base, VitBlueprint):
        yield list(range(len(options)))
        return
    for size in stage_maps(base):
        yield [index for index, option in enumerate(options) if fits(option, size)]

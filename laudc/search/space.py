"""The configurations that a search looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from laudc.predict.blueprint import MODES, STAGES, Blueprint

RATES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SPATIAL = (1, 2, 4, 7, 8)
CHANNEL = (1, 2, 4, 8)


@dataclass(frozen=True)
class Uniform:
    """One mode, one S, one G and one rate in all stages: what is predicted; stages are then combined freely."""

    mode: str
    spatial: int
    channel: int
    rate: float

    def blueprint(self, base: Blueprint) -> Blueprint:
        """The network with these options."""
        return Blueprint(
            layers=base.layers,
            modes=(self.mode,) * STAGES,
            spatial=(self.spatial,) * STAGES,
            channel=(self.channel,) * STAGES,
            input_size=base.input_size,
            width_mult=base.width_mult,
            num_classes=base.num_classes,
        )


def uniform_options(
    base: Blueprint,
    modes: Sequence[str] = MODES,
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


def _divides(base: Blueprint, group: int) -> bool:
    return all(int(64 * 2**stage * base.width_mult) % group == 0 for stage in range(STAGES))


def stage_maps(base: Blueprint) -> list[int]:
    """Side of the output map of every stage, in pixels."""
    sizes: list[int] = []
    size = base.stem_size
    for stage in range(STAGES):
        size = (size - 1) // (2 if stage else 1) + 1
        sizes.append(size)
    return sizes


def fits(option: Uniform, size: int) -> bool:
    """Whether patches of this size make sense on a map: more than one of them."""
    return option.mode not in ("spatial", "both") or size // option.spatial > 1 or option.spatial == 1


def stage_options(options: Sequence[Uniform], base: Blueprint) -> Iterator[list[int]]:
    """For every stage the indices of the options that fit it."""
    for size in stage_maps(base):
        yield [index for index, option in enumerate(options) if fits(option, size)]

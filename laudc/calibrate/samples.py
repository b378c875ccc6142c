"""What calibration measures, as records that survive in a side file, so that an interrupted run goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from laudc.calibrate.synthetic import Drawn
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.blueprint import STAGES, Blueprint

# Both ends matter: at low rates fixed costs show, at high ones the arithmetic.
_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SIZES = (64, 96, 128, 160, 192, 224, 224, 256, 288)
_WIDTHS = (0.25, 0.5, 0.5, 0.75, 1.0, 1.0, 1.0, 1.25)
_GRANULES = (1, 2, 3, 4, 7, 8)
_GROUPS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Design:
    """One network to measure: what it is, what it keeps, and which blocks use Winograd."""

    blueprint: Blueprint
    drawn: Drawn
    winograd: tuple[bool, ...]
    seed: int

    def records(self, panel: int) -> list[tuple[str, BlockRecord]]:
        """The blocks with the algorithms of this design."""
        return [
            (name, replace(record, conv2_algorithm=Conv2Algorithm.WINOGRAD_2X2 if fast else Conv2Algorithm.DIRECT))
            for (name, record), fast in zip(self.blueprint.blocks(panel), self.winograd, strict=True)
        ]


@dataclass(frozen=True)
class BlockSample:
    """One block of a measured network: record, counts of the image, and the median of its time in ns."""

    name: str
    record: dict[str, int]
    counts: tuple[float, ...]
    ns: float


@dataclass(frozen=True)
class NetworkSample:
    """One network timed with one number of threads. `total_ns` is the median around the whole call, `spread` the
    width of its middle half over the median. kind: "sparse" (our kernels) or "dense" (the runtime's own)."""

    design: int
    kind: str
    threads: int
    input_size: int
    stem_channels: int
    num_classes: int
    total_ns: float
    spread: float
    blocks: tuple[BlockSample, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NetworkSample:
        """Inverse of `to_dict`."""
        blocks = tuple(BlockSample(**{**block, "counts": tuple(block["counts"])}) for block in data["blocks"])
        return cls(**{**data, "blocks": blocks})


def draw_designs(count: int, seed: int = 0) -> list[Design]:
    """Networks that cover the space of geometries, masks and rates; the same for every machine."""
    random = np.random.default_rng(seed)
    return [_draw(random, index) for index in range(count)]


def _draw(random: np.random.Generator, index: int) -> Design:
    def pick(values: Iterable[Any], size: int = STAGES) -> tuple[Any, ...]:
        options = list(values)
        return tuple(options[i] for i in random.integers(0, len(options), size))

    blueprint = Blueprint(
        layers=tuple(int(n) for n in (random.integers(1, 4), random.integers(1, 4), *random.integers(1, 5, 2))),
        modes=pick(("spatial", "spatial", "channel", "channel", "layer", "both")),
        spatial=pick(_GRANULES),
        channel=pick(_GROUPS),
        input_size=pick(_SIZES, 1)[0],
        width_mult=pick(_WIDTHS, 1)[0],
        num_classes=int(pick((10, 100, 1000), 1)[0]),
    )
    records = [record for _, record in blueprint.blocks()]
    blocks = len(records)
    layer = [record.mask_groups and record.mask_h == record.mask_w == 1 for record in records]
    spatial = [float(random.random() < 0.7) if whole else rate for whole, rate in zip(layer, pick(_RATES, blocks), strict=True)]
    channel = [max(0.05, rate) for rate in pick(_RATES, blocks)]
    winograd = [record.stride == 1 and bool(random.random() < 0.5) for record in records]
    return Design(blueprint, Drawn(tuple(spatial), tuple(channel)), tuple(winograd), index)

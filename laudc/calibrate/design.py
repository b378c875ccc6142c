"""Which networks a calibration measures: drawn so that they cover geometries, masks and rates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from laudc.calibrate.synthetic import Drawn
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.blueprint import STAGES, Blueprint

# "sparse": all blocks by our kernels. "dense": all by the runtime. "mixed": some of each, for the borders between.
KINDS = ("sparse", "dense", "mixed")

# Both ends matter: at low rates fixed costs show, at high ones the arithmetic.
_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SIZES = (64, 96, 128, 160, 192, 224, 224, 256, 288)
_WIDTHS = (0.25, 0.5, 0.5, 0.75, 1.0, 1.0, 1.0, 1.25)
_SHALLOW, _DEEP = (3, 3, 5, 3), (3, 4, 14, 3)
_GRANULES = (1, 2, 3, 4, 7, 8)
_GROUPS = (1, 2, 4, 8, 16)
_MODES = ("spatial", "spatial", "channel", "channel", "layer", "both")


@dataclass(frozen=True)
class Design:
    """One network to measure: what it is and what it keeps, which blocks use Winograd, which the runtime computes in
    the mixed form."""

    index: int
    blueprint: Blueprint
    drawn: Drawn
    winograd: tuple[bool, ...]
    dense: tuple[bool, ...]

    def records(self, panel: int) -> list[tuple[str, BlockRecord]]:
        """The blocks with the algorithms of this design."""
        algorithms = (Conv2Algorithm.WINOGRAD_2X2 if fast else Conv2Algorithm.DIRECT for fast in self.winograd)
        return [
            (name, replace(record, conv2_algorithm=algorithm))
            for (name, record), algorithm in zip(self.blueprint.blocks(panel), algorithms, strict=True)
        ]

    def executions(self, kind: str) -> list[str]:
        """Who computes each block in one of the KINDS."""
        if kind != "mixed":
            return [kind] * len(self.dense)
        return ["dense" if dense else "sparse" for dense in self.dense]


def draw_designs(count: int, seed: int = 0) -> list[Design]:
    """`count` networks; the same ones for every machine."""
    random = np.random.default_rng(seed)
    return [_draw(random, index) for index in range(count)]


def _draw(random: np.random.Generator, index: int) -> Design:
    def pick(values: Iterable[Any], size: int = STAGES) -> tuple[Any, ...]:
        options = list(values)
        return tuple(options[i] for i in random.integers(0, len(options), size))

    # Every third network is as deep as real ones, so that what a long call pushes out of the caches is seen too.
    most = _DEEP if index % 3 == 0 else _SHALLOW
    layers = [random.integers(1, blocks + 1) for blocks in most]
    blueprint = Blueprint(
        layers=tuple(int(n) for n in layers),
        modes=pick(_MODES),
        spatial=pick(_GRANULES),
        channel=pick(_GROUPS),
        input_size=pick(_SIZES, 1)[0],
        width_mult=pick(_WIDTHS, 1)[0],
        num_classes=int(pick((10, 100, 1000), 1)[0]),
    )
    records = [record for _, record in blueprint.blocks()]
    rates = pick(_RATES, len(records))
    spatial = [
        float(random.random() < 0.7) if record.mask_h == record.mask_w == 1 else rate
        for record, rate in zip(records, rates, strict=True)
    ]
    channel = [max(0.05, rate) for rate in pick(_RATES, len(records))]
    winograd = [record.stride == 1 and bool(random.random() < 0.5) for record in records]
    dense = [bool(random.random() < 0.4) for _ in records]
    return Design(index, blueprint, Drawn(tuple(spatial), tuple(channel)), tuple(winograd), tuple(dense))

"""Which networks a calibration measures: drawn so that they cover geometries, masks and rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from laudc.calibrate.synthetic import Drawn
from laudc.calibrate.synthetic_detector import Tail
from laudc.calibrate.synthetic_vit import VitDrawn
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.ops.transformer import DroppedHead, MlpWidth
from laudc.predict.blueprint import STAGES, Blueprint
from laudc.predict.families import REGNET, RESNET, VIT, Record, family_of
from laudc.predict.regnet_blueprint import RegNetBlueprint
from laudc.predict.vit_blueprint import PATCH, VitBlueprint
from laudc.schedule.plan import by_rule

# "sparse": all blocks by our kernels. "dense": all by the runtime. "mixed": some of each, for the borders between.
# "swapped": by our kernels, conv2 by its other algorithm wherever there is one, for what the two differ by.
KINDS = ("sparse", "dense", "mixed", "swapped")

# Both ends matter: at low rates fixed costs show, at high ones the arithmetic.
_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SIZES = (64, 96, 128, 160, 192, 224, 224, 256, 288)
_WIDTHS = (0.25, 0.5, 0.5, 0.75, 1.0, 1.0, 1.0, 1.25)
_SHALLOW, _DEEP = (3, 3, 5, 3), (3, 4, 14, 3)
# Every second network is like those that are deployed: deep, masks of one kind and similar rates throughout. Depths and
# sizes are none of the published networks', which the model is tested on.
_LIFELIKE_LAYERS = ((3, 4, 5, 3), (3, 4, 5, 3), (3, 4, 9, 3), (3, 4, 14, 3))
_LIFELIKE_SIZES = (96, 160, 192, 192, 240, 256, 288)
_LIFELIKE_WIDTHS = (0.5, 0.5, 0.75, 1.0, 1.0, 1.25)
_LIFELIKE_MODES = ("spatial", "spatial", "channel", "channel", "layer", "both")
# Every sixth network is so small that all of it stays in a core's caches: its call is mostly fixed costs.
_TINY_EVERY, _TINY = 6, 4
_TINY_LAYERS = (1, 2, 2, 3)
_TINY_SIZES = (32, 48, 64, 64, 96, 96)
_TINY_WIDTHS = (0.1875, 0.25, 0.25)
_TINY_CLASSES = (10, 10, 100)
_GRANULES = (1, 2, 3, 4, 7, 8)
_GROUPS = (1, 2, 4, 8, 16)
_MODES = ("spatial", "spatial", "channel", "channel", "layer", "both", "both")

# RegNetY: what its maps and groups look like; widths of the stages as multiples of the group width, from and to.
_REGNET_SIZES = (96, 128, 160, 192, 224, 224, 256)
# As deep as real ones: their blocks are small, and in a short call all weights would stay in the cache.
_REGNET_LAYERS = ((1, 2), (2, 6), (5, 17), (2, 6))
_REGNET_GROUPS = (8, 16, 24)
_REGNET_MODES = ("channel", "channel", "spatial", "both", "both")
_REGNET_WIDTHS = ((32, 80), (80, 168), (160, 360), (320, 900))
_REGNET_GRANULES = (1, 2, 4, 7, 8)
_REGNET_CHANNELS = (1, 2, 4, 8)
# Every second one is lifelike, as among ResNets.
_LIFELIKE_REGNET_LAYERS = ((1, 3, 7, 5), (1, 4, 10, 3), (2, 4, 7, 3), (2, 5, 13, 3), (2, 6, 15, 4))
_LIFELIKE_REGNET_SIZES = (160, 192, 208, 240, 256, 288)
_LIFELIKE_REGNET_MODES = ("channel", "spatial", "both", "both")
_LIFELIKE_RATES = (0.15, 0.95)

# Transformers.
_VIT_SIZES = (112, 160, 192, 224, 224, 224, 256)
_VIT_HEADS = (3, 4, 6, 6, 7, 7, 8, 12)
_VIT_HEAD_DIMS = (64, 64, 64, 64, 64, 48)
_VIT_RATIOS = (2, 3, 3, 4)
_VIT_RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_VIT_VARIANTS = (
    (DroppedHead.NOTHING, MlpWidth.INPUTS),
    (DroppedHead.NOTHING, MlpWidth.INPUTS),
    (DroppedHead.NOTHING, MlpWidth.OUTPUTS),
    (DroppedHead.VALUES, MlpWidth.FULL),
)
_WIDE_VIT = 640  # with more features a few blocks are enough to measure

# Indices of the designs of each family: none is another's.
_FIRST_INDEX: Mapping[str, int] = {RESNET: 0, REGNET: 100_000, VIT: 200_000}
_FIRST_DETECTOR = 50_000
# Every further calibration of a machine has other networks: their indices begin so much higher. What is decided by the
# remainder of an index (every second, every sixth) stays as it is.
_TURN = 600_000

# Detectors.
_DETECTOR_EVERY = 3
_PARTS = 4  # pyramid, boxes, masks, suppression: one after the other is large, so that their terms can be told apart
_MAP_SIDES = ((56, 112, 160), (40, 80, 160), (28, 32, 40), (28, 32, 40))


@dataclass(frozen=True)
class Design:
    """One network to measure: what it is and what it keeps, which blocks use Winograd (of a ResNet), which the runtime
    computes in the mixed form, in which of the KINDS it is measured, and of a detector what follows the blocks."""

    index: int
    blueprint: Blueprint | RegNetBlueprint | VitBlueprint
    drawn: Drawn | VitDrawn
    winograd: tuple[bool, ...]
    dense: tuple[bool, ...]
    kinds: tuple[str, ...] = KINDS
    tail: Tail | None = None

    @property
    def family(self) -> str:
        """One of `laudc.predict.families.FAMILIES`."""
        return family_of(self.blueprint.blocks()[0][1])

    def records(self, panel: int, kind: str = "sparse") -> list[tuple[str, Record]]:
        """The blocks with the algorithms of this design in one of the KINDS."""
        blocks: list[tuple[str, Record]] = list(self.blueprint.blocks(panel))
        swapped = kind == "swapped"
        return [
            (name, _with_algorithm(record, fast, swapped))
            for (name, record), fast in zip(blocks, self.winograd, strict=True)
        ]

    def executions(self, kind: str) -> list[str]:
        """Who computes each block in one of the KINDS."""
        if kind != "mixed":
            return ["dense" if kind == "dense" else "sparse"] * len(self.dense)
        return ["dense" if dense else "sparse" for dense in self.dense]


def _with_algorithm(record: Record, winograd: bool, swapped: bool) -> Record:
    """The other one where they are swapped; a block with a stride has only one."""
    if not isinstance(record, BlockRecord):
        return record
    fast = winograd != (swapped and record.stride == 1)
    return replace(record, conv2_algorithm=Conv2Algorithm.WINOGRAD_2X2 if fast else Conv2Algorithm.DIRECT)


def draw_designs(count: int, turn: int = 0, family: str = RESNET) -> list[Design]:
    """`count` networks of a family; the same ones for every machine. `turn`: of how many-th calibration (0, 1, ...)."""
    random = np.random.default_rng(turn)
    first = _FIRST_INDEX[family] + turn * _TURN
    return [_DRAW[family](random, first + number) for number in range(count)]


def draw_detectors(count: int, turn: int = 0) -> list[Design]:
    """`count` detectors, small ResNets with neck, heads and second stage; otherwise as `draw_designs`."""
    random = np.random.default_rng([turn, _FIRST_DETECTOR])
    first = _FIRST_DETECTOR + turn * _TURN
    return [_draw_detector(random, first + number) for number in range(count)]


def turn_of(index: int) -> int:
    """Of which calibration the network of this index is."""
    return index // _TURN


def draw_families(networks: Mapping[str, int], turn: int = 0) -> list[Design]:
    """So many networks of each family, evenly mixed: a calibration that runs out of time has seen some of all. Every
    third ResNet is a detector. `turn`: see `draw_designs`."""
    groups = {family: draw_designs(count, turn, family) for family, count in networks.items()}
    if RESNET in groups:
        detectors = networks[RESNET] // _DETECTOR_EVERY
        groups[RESNET] = draw_designs(networks[RESNET] - detectors, turn)
        groups["detectors"] = draw_detectors(detectors, turn)
    return evenly_mixed(groups.values())


def evenly_mixed(groups: Iterable[Sequence[Design]]) -> list[Design]:
    """The designs of all groups, so that every stretch has its share of each."""
    found = [((number + 0.5) / len(group), design) for group in groups for number, design in enumerate(group)]
    return [design for _, design in sorted(found, key=lambda one: one[0])]


def _picker(random: np.random.Generator) -> Any:
    def pick(values: Iterable[Any], size: int = STAGES) -> tuple[Any, ...]:
        options = list(values)
        return tuple(options[i] for i in random.integers(0, len(options), size))

    return pick


def _similar_rates(random: np.random.Generator, blocks: int) -> tuple[float, np.ndarray]:
    """A network's rate and, around it, the spatial and channel rates (2, blocks) of its blocks."""
    rate = random.uniform(*_LIFELIKE_RATES)
    return rate, random.normal(rate, 0.1, (2, blocks)).clip(0.05, 1.0)


def _draw_resnet(random: np.random.Generator, index: int) -> Design:
    if index % _TINY_EVERY == _TINY:
        return _tiny(random, index)
    return _lifelike(random, index) if index % 2 else _varied(random, index)


def _tiny(random: np.random.Generator, index: int) -> Design:
    pick = _picker(random)
    blueprint = Blueprint(
        layers=pick(_TINY_LAYERS),
        modes=pick(_MODES, 1) * STAGES,
        spatial=pick(_GRANULES),
        channel=pick(_GROUPS, 1) * STAGES,
        input_size=pick(_TINY_SIZES, 1)[0],
        width_mult=pick(_TINY_WIDTHS, 1)[0],
        num_classes=pick(_TINY_CLASSES, 1)[0],
    )
    if blueprint.modes[0] == "channel":
        # Blocks narrower than their groups would have no mask at all.
        narrowest = min(record.width for _, record in blueprint.blocks())
        blueprint = replace(blueprint, channel=tuple(min(size, narrowest) for size in blueprint.channel))
    return _of_any_rates(random, index, blueprint)


def _lifelike(random: np.random.Generator, index: int) -> Design:
    pick = _picker(random)
    (mode,) = pick(_LIFELIKE_MODES, 1)
    blueprint = Blueprint(
        layers=pick(_LIFELIKE_LAYERS, 1)[0],
        modes=(mode,) * STAGES,
        spatial=pick(_GRANULES),
        channel=pick(_GROUPS, 1) * STAGES,
        input_size=pick(_LIFELIKE_SIZES, 1)[0],
        width_mult=pick(_LIFELIKE_WIDTHS, 1)[0],
    )
    records = [record for _, record in blueprint.blocks()]
    rate, drawn = _similar_rates(random, len(records))
    whole = [record.mask_h == record.mask_w == 1 for record in records]
    spatial = np.where(whole, random.random(len(records)) < rate, drawn[0])
    usual = [by_rule(record).conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2 for record in records]
    other = [record.stride == 1 and bool(random.random() < 0.2) for record in records]
    dense = tuple(bool(random.random() < 0.4) for _ in records)
    return Design(
        index,
        blueprint,
        Drawn(tuple(map(float, spatial)), tuple(map(float, drawn[1]))),
        tuple(one != change for one, change in zip(usual, other, strict=True)),
        dense,
        _lifelike_kinds(index // 2),
    )


def _varied(random: np.random.Generator, index: int) -> Design:
    pick = _picker(random)
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
    return _of_any_rates(random, index, blueprint)


def _of_any_rates(random: np.random.Generator, index: int, blueprint: Blueprint) -> Design:
    """With rates, algorithms and dense blocks drawn block by block."""
    pick = _picker(random)
    records = [record for _, record in blueprint.blocks()]
    rates = pick(_RATES, len(records))
    spatial = [
        float(random.random() < 0.7) if record.mask_h == record.mask_w == 1 else rate
        for record, rate in zip(records, rates, strict=True)
    ]
    channel = [max(0.05, rate) for rate in pick(_RATES, len(records))]
    winograd = [record.stride == 1 and bool(random.random() < 0.5) for record in records]
    dense = [bool(random.random() < 0.4) for _ in records]
    drawn = Drawn(tuple(spatial), tuple(channel))
    return Design(index, blueprint, drawn, tuple(winograd), tuple(dense), _two_kinds(index // 2))


def _draw_regnet(random: np.random.Generator, index: int) -> Design:
    return _lifelike_regnet(random, index) if index % 2 else _varied_regnet(random, index)


def _lifelike_regnet(random: np.random.Generator, index: int) -> Design:
    pick = _picker(random)
    (mode,) = pick(_LIFELIKE_REGNET_MODES, 1)
    blueprint = RegNetBlueprint(
        layers=pick(_LIFELIKE_REGNET_LAYERS, 1)[0],
        **_regnet_widths(random, index),
        modes=(mode,) * STAGES,
        spatial=pick(_REGNET_GRANULES),
        channel=pick(_REGNET_CHANNELS, 1) * STAGES,
        se_pool=int(random.random() < 0.2),
        input_size=pick(_LIFELIKE_REGNET_SIZES, 1)[0],
    )
    _, drawn = _similar_rates(random, sum(blueprint.layers))
    return _regnet_design(random, index, blueprint, Drawn(*(tuple(map(float, rates)) for rates in drawn)))


def _varied_regnet(random: np.random.Generator, index: int) -> Design:
    pick = _picker(random)
    layers = [random.integers(least, most + 1) for least, most in _REGNET_LAYERS]
    blueprint = RegNetBlueprint(
        layers=tuple(int(n) for n in layers),
        **_regnet_widths(random, index),
        modes=pick(_REGNET_MODES),
        spatial=pick(_REGNET_GRANULES),
        channel=pick(_REGNET_CHANNELS),
        se_pool=int(random.random() < 0.3),
        input_size=pick(_REGNET_SIZES, 1)[0],
    )
    count = sum(blueprint.layers)
    drawn = Drawn(pick(_RATES, count), tuple(max(0.05, rate) for rate in pick(_RATES, count)))
    return _regnet_design(random, index, blueprint, drawn)


def _regnet_widths(random: np.random.Generator, index: int) -> dict[str, Any]:
    # One after the other: all occur, however few networks there are.
    group = _REGNET_GROUPS[index % len(_REGNET_GROUPS)]
    widths = tuple(group * max(1, round(float(random.uniform(*span)) / group)) for span in _REGNET_WIDTHS)
    return {"widths": widths, "group_width": group}


def _regnet_design(random: np.random.Generator, index: int, blueprint: RegNetBlueprint, drawn: Drawn) -> Design:
    count = sum(blueprint.layers)
    dense = tuple(bool(random.random() < 0.4) for _ in range(count))
    return Design(index, blueprint, drawn, (False,) * count, dense, _two_kinds(index // 2))


def _draw_vit(random: np.random.Generator, index: int) -> Design:
    pick = _picker(random)

    def flags(share: float, count: int) -> tuple[bool, ...]:
        return tuple(bool(flag) for flag in random.random(count) < share)

    heads, head_dim = pick(_VIT_HEADS, 1)[0], pick(_VIT_HEAD_DIMS, 1)[0]
    dim = heads * head_dim
    count = 4 if dim > _WIDE_VIT else int(random.integers(6, 10))
    dropped, width = pick(_VIT_VARIANTS, 1)[0]
    blueprint = VitBlueprint(
        dim=dim,
        heads=heads,
        hidden=tuple(dim * ratio for ratio in pick(_VIT_RATIOS, count)),
        token=flags(0.7, count),
        head=flags(0.6, count),
        layer=flags(0.6, count),
        tokens_in_mlp=bool(random.random() < 0.8),
        dropped_heads=int(dropped),
        head_width=int(width),
        # Both stems occur, however few networks there are.
        t2t=index % 3 != 2,
        input_size=PATCH * (pick(_VIT_SIZES, 1)[0] // PATCH),
    )
    drawn = VitDrawn(pick(_VIT_RATES, count), pick(_VIT_RATES, count), flags(0.85, count), flags(0.85, count))
    return Design(index, blueprint, drawn, (False,) * count, flags(0.4, count), _two_kinds(index))


def _two_kinds(index: int) -> tuple[str, ...]:
    """What the runtime does is soon known: one of two networks is measured dense, the other mixed."""
    return ("sparse", "dense" if index % 2 else "mixed")


def _lifelike_kinds(index: int) -> tuple[str, ...]:
    """Which way of conv2 is faster is decided by some per cent, which only the same masks at the same time tell: two of
    three networks are measured with both."""
    return ("sparse", "swapped") if index % 3 else _two_kinds(index // 3)


def _draw_detector(random: np.random.Generator, index: int) -> Design:
    pick = _picker(random)

    def sized(part: int, small: tuple[int, ...], large: tuple[int, ...]) -> int:
        return int(pick(large if index % _PARTS == part else small, 1)[0])

    blueprint = Blueprint(
        layers=(1, 1, 1, 1), modes=("layer",) * 4, input_size=pick((128, 160, 192, 224), 1)[0], width_mult=0.25
    )
    classes = sized(2, (8, 20, 40), (40, 80))
    boxes = sized(3, (100, 200), (400, 1000))
    tail = Tail(
        channels=int(pick((128, 256, 256), 1)[0]),
        # Large maps, which real detectors have, do not stay in a core's cache, wherever they are read.
        side=int(pick(_MAP_SIDES[index % _PARTS], 1)[0]),
        convs=sized(0, (0, 1), (1, 2)),
        scores=sized(0, (3, 9), (3, 36)),
        regions=sized(1, (16, 32), (100, 200, 400)),
        samples=sized(1, (1, 2), (2, 3, 4)),
        width=sized(1, (128, 256), (512, 1024)),
        classes=classes,
        mask_regions=sized(2, (2, 4), (10, 20, 40)),
        mask_convs=sized(2, (0, 1), (1, 2, 3)),
        lists=sized(3, (1, 5), (5, 80)),
        boxes=boxes,
        kept=max(1, round(boxes * float(pick((0.02, 0.05, 0.1, 0.5), 1)[0]))),
    )
    every = len(blueprint.blocks())
    return Design(
        index, blueprint, Drawn((1.0,) * every, (1.0,) * every), (False,) * every, (False,) * every, ("dense",), tail
    )


_DRAW = {RESNET: _draw_resnet, REGNET: _draw_regnet, VIT: _draw_vit}

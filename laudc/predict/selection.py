"""Work that depends on what is found in an image: suppression of overlapping boxes, and features read from regions.

Both have bounds in the graph. What an image really asks for is counted from the inputs of these operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

Array = np.ndarray

# Pyramids (FPN's rule, MMDetection's and torchvision's alike) read a region from a level on which it covers less than
# so many positions per side, as a geometric mean; only on the last level it may be larger.
_LARGEST_SIDE = 28
# The share of a map that caches no longer hold when RoIAlign reads it grows with its size; of one with so many values
# (32 MiB) they hold nothing. Measured on one machine; on others the coefficient makes up for some of the difference.
_UNCACHED = 1 << 23


@dataclass(frozen=True)
class Amounts:
    """Work of each image, (images,) each.

    sampled: values that RoIAlign interpolates, over all channels. touched: values that it brings from memory for
    this, each once. candidates: boxes that suppression sorts. compared: pairs of boxes that it compares.
    """

    sampled: Array
    touched: Array
    candidates: Array
    compared: Array

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @classmethod
    def of(cls, images: int, **amounts: Array | float) -> Amounts:
        """For so many images; what is not named is nothing."""
        return cls(*(np.broadcast_to(np.asarray(amounts.get(one.name, 0.0), float), images) for one in fields(cls)))


@dataclass(frozen=True)
class Suppression:
    """A NonMaxSuppression.

    lists, boxes: it goes through so many lists of so many boxes. most: that stay of each. above: only scores above it
    compete (None: all). scores, chosen: names of its input and output. of_regions: whether its boxes were made of
    features of regions, not of proposals' anchors.
    """

    name: str
    lists: int
    boxes: int
    most: int
    above: float | None
    scores: str
    chosen: str
    of_regions: bool = False

    @property
    def watched(self) -> tuple[str, ...]:
        """Values that `count` needs."""
        return self.scores, self.chosen

    @property
    def counts(self) -> tuple[str, ...]:
        """Names of what `count` finds."""
        return f"{self.name}.candidates", f"{self.name}.kept", f"{self.name}.compared"

    def count(self, values: Mapping[str, Array]) -> dict[str, int]:
        """The counts of one image, from the watched values of a run."""
        scores = values[self.scores].reshape(self.lists, self.boxes)
        chosen = values[self.chosen]
        kept = np.zeros(self.lists, np.int64)
        classes = values[self.scores].shape[1]
        np.add.at(kept, chosen[:, 0] * classes + chosen[:, 1], 1)
        candidates = np.full(self.lists, self.boxes) if self.above is None else (scores > self.above).sum(axis=1)
        numbers = candidates.sum(), kept.sum(), _pairs(candidates, kept).sum()
        return dict(zip(self.counts, map(int, numbers), strict=True))

    def amounts(self, found: Mapping[str, Array], images: int) -> Amounts:
        """What was counted in `images` images, or the most that is possible."""
        candidates, _, compared = (found.get(name) for name in self.counts)
        if candidates is None or compared is None:
            return self.most_amounts(images)
        return Amounts.of(images, candidates=candidates, compared=compared)

    def most_amounts(self, images: int) -> Amounts:
        """Every box competes, and as many stay as may."""
        numbers = zip(self.counts, self.kept_of_each(self.most), strict=True)
        return self.amounts({name: np.full(images, number) for name, number in numbers}, images)

    def kept_of_each(self, kept: int) -> tuple[int, int, int]:
        """The counts where all boxes compete and `kept` of each list stay."""
        pairs = int(_pairs(np.asarray(self.boxes), np.asarray(kept)))
        return self.lists * self.boxes, self.lists * kept, self.lists * pairs


def _pairs(candidates: Array, kept: Array) -> Array:
    """Comparisons of candidates that come in the order of their scores: each with those kept before it, and on average
    that is half of all."""
    return np.asarray(candidates * kept // 2)


@dataclass(frozen=True)
class Level:
    """One RoiAlign: its map (height, width), what image pixels are multiplied with, and the name of its regions."""

    height: int
    width: int
    scale: float
    regions: str


@dataclass(frozen=True)
class RegionReading:
    """Features of regions, each read from one level of a pyramid.

    regions: how many there are, on all levels together. cells: (height, width) of the grid in a region. sampling:
    samples per cell and side; 0: as many as the cell has positions. at_least_one: no region is less than one position
    wide.
    """

    name: str
    regions: int
    channels: int
    cells: tuple[int, int]
    sampling: int
    at_least_one: bool
    levels: tuple[Level, ...]

    @property
    def watched(self) -> tuple[str, ...]:
        """Values that `count` needs."""
        return tuple(level.regions for level in self.levels)

    @property
    def counts(self) -> tuple[str, ...]:
        """Names of what `count` finds."""
        return f"{self.name}.sampled", f"{self.name}.touched"

    def count(self, values: Mapping[str, Array]) -> dict[str, int]:
        """The counts of one image, from the watched values of a run."""
        sampled = touched = 0
        for level in self.levels:
            boxes = values[level.regions]
            sides = (boxes[:, 2:] - boxes[:, :2])[:, ::-1] * level.scale
            sides = np.maximum(sides, 1.0 if self.at_least_one else 0.0)
            sampled += int(self._samples(sides).sum())
            touched += int(self._touched(level, sides))
        return dict(zip(self.counts, (sampled, touched), strict=True))

    def _samples(self, sides: Array) -> Array:
        """Of regions with sides (n, 2) in positions of their level."""
        adaptive = np.ceil(sides / np.asarray(self.cells))
        per_side = np.full(sides.shape, self.sampling) if self.sampling else adaptive
        return np.asarray(per_side.prod(axis=1) * self.channels * self.cells[0] * self.cells[1])

    def _touched(self, level: Level, sides: Array) -> float:
        """Values that regions at random places cover, as far as they come from memory."""
        positions = level.height * level.width
        from_memory = min(1.0, positions * self.channels / _UNCACHED)
        covered = np.minimum(sides + 1, (level.height, level.width)).prod(axis=1).sum()
        return from_memory * self.channels * positions * -float(np.expm1(-covered / positions))

    def amounts(self, found: Mapping[str, Array], images: int) -> Amounts:
        """What was counted in `images` images, or the most that is usual."""
        sampled, touched = (found.get(name) for name in self.counts)
        if sampled is None or touched is None:
            return self.most_amounts(images)
        return Amounts.of(images, sampled=sampled, touched=touched)

    def most_amounts(self, images: int) -> Amounts:
        """Every region as large as its level takes it, all on the level where that is most."""
        sampled, touched = [], []
        for level in self.levels:
            sides = np.tile(self._most_sides(level), (self.regions, 1))
            sampled.append(self._samples(sides).sum())
            touched.append(self._touched(level, sides))
        return Amounts.of(images, sampled=max(sampled), touched=max(touched))

    def _most_sides(self, level: Level) -> tuple[float, float]:
        limit = _LARGEST_SIDE if len(self.levels) > 1 else max(level.height, level.width)
        return min(limit, level.height), min(limit, level.width)


Selecting = Suppression | RegionReading


def count_found(selecting: Sequence[Selecting], values: Mapping[str, Array]) -> dict[str, int]:
    """All counts of one image, by name, from the watched values of a run."""
    return {name: number for one in selecting for name, number in one.count(values).items()}


def amounts_of(selecting: Sequence[Selecting], found: Mapping[str, Array], images: int) -> Amounts:
    """The work of each of `images` images; `found` holds counts (images,) by name, and what is missing is taken at its
    most."""
    return sum((one.amounts(found, images) for one in selecting), Amounts.of(images))


def most_amounts(selecting: Sequence[Selecting]) -> Amounts:
    """The work of one image that has the most of everything."""
    return amounts_of(selecting, {}, 1)


PROPOSALS, DETECTIONS = "proposals", "detections"


def most_found(selecting: Sequence[Selecting]) -> dict[str, int]:
    """The most proposals and detections of an image: rows of the box head and of the mask head, or what suppression
    lets through where there is none."""
    regions = [one.regions for one in selecting if isinstance(one, RegionReading)]
    if not regions:
        return {}
    last = min(regions) if len(regions) > 1 else _most_kept(selecting, of_regions=True)
    return {PROPOSALS: max(regions), **({DETECTIONS: last} if last else {})}


def _most_kept(selecting: Sequence[Selecting], *, of_regions: bool) -> int:
    kept = (one.most for one in selecting if isinstance(one, Suppression) and one.of_regions == of_regions)
    return max(kept, default=0)


def regions_and_objects(selecting: Sequence[Selecting], found: Mapping[str, Array]) -> dict[str, Array]:
    """Proposals and detections of each image, as far as they were counted: boxes that stay, no more than the graph has
    room for."""
    shown = {}
    for name, limit in most_found(selecting).items():
        kept = [
            found[one.counts[1]]
            for one in selecting
            if isinstance(one, Suppression) and one.of_regions == (name == DETECTIONS) and one.counts[1] in found
        ]
        if kept:
            shown[name] = np.minimum(np.sum(kept, axis=0), limit)
    return shown

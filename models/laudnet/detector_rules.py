"""What a detector's tensors do not tell: anchors, regions, thresholds. Training configurations say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

STRIDES = ("nominal", "measured")
_Rule = TypeVar("_Rule", bound="_Record")


@dataclass(frozen=True)
class _Record:
    """A record that files may hold as a mapping: lists become tuples, numbers are checked."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            object.__setattr__(self, entry.name, _frozen(getattr(self, entry.name)))
        self._check()

    @classmethod
    def from_dict(cls: type[_Rule], data: object) -> _Rule:
        """From a mapping with some or all fields, or a record as it is; ValueError for anything else."""
        if isinstance(data, cls):
            return data
        name = cls.__name__
        if not isinstance(data, Mapping):
            raise ValueError(f"{name}: expected a mapping, got {type(data).__name__}")
        known = [entry.name for entry in fields(cls)]
        unknown = sorted(str(key) for key in data if key not in known)
        if unknown:
            raise ValueError(f"{name}: unknown field {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**data)

    def _check(self) -> None:
        raise NotImplementedError

    def _number(self, name: str, low: float, high: float, *, whole: bool = False) -> None:
        value = getattr(self, name)
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {value!r}")

    def _flag(self, name: str) -> None:
        if not isinstance(getattr(self, name), bool):
            raise ValueError(f"{name}: expected true or false, got {getattr(self, name)!r}")


def _frozen(value: Any) -> Any:
    return tuple(_frozen(entry) for entry in value) if isinstance(value, (list, tuple)) else value


def _is_positive(values: object) -> bool:
    numbers = isinstance(values, tuple) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e6 for value in values
    )
    return numbers and bool(values)


@dataclass(frozen=True)
class AnchorRule(_Record):
    """Boxes that every position of every level starts from.

    sizes: per level the square roots of their areas in pixels, finest level first; ratios: height over width.
    rounded: half sides are rounded to whole pixels (torchvision). strides: 'nominal' (powers of two) or 'measured'
    (image side // map side, torchvision; another number where sides do not divide).
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rounded: bool = False
    strides: str = "nominal"

    @property
    def per_position(self) -> int:
        """Anchors at each position."""
        return len(self.sizes[0]) * len(self.ratios)

    def _check(self) -> None:
        rows = self.sizes if isinstance(self.sizes, tuple) and self.sizes else ((),)
        if not all(_is_positive(row) for row in rows) or len({len(row) for row in rows}) != 1:
            raise ValueError(f"sizes: expected as many sizes for every level, got {self.sizes!r}")
        if not _is_positive(self.ratios):
            raise ValueError(f"ratios: expected positive numbers, got {self.ratios!r}")
        if self.strides not in STRIDES:
            raise ValueError(f"strides: {self.strides!r} is not one of {', '.join(STRIDES)}")
        self._flag("rounded")


@dataclass(frozen=True)
class ProposalRule(_Record):
    """How regions are proposed: the best `candidates` of each level, those that overlap a better one of the level by
    more than `overlap` left out, the best `most` of all. Sides must be longer than `min_side` pixels.
    """

    candidates: int = 1000
    overlap: float = 0.7
    most: int = 1000
    min_side: float = 0.0

    def _check(self) -> None:
        for name in ("candidates", "most"):
            self._number(name, 1, 100_000, whole=True)
        self._number("overlap", 0, 1)
        self._number("min_side", 0, 1e4)


@dataclass(frozen=True)
class RegionRule(_Record):
    """How a region's features are read (RoIAlign).

    box_cells, mask_cells: side of the grid for boxes and for masks. sampling: samples per cell and side, 0 for as
    many as the cell has pixels. aligned: pixel centres lie at half numbers. finest: regions below twice this size in
    pixels are read from the finest level, from twice on from the next, and so on.
    """

    box_cells: int = 7
    mask_cells: int = 14
    sampling: int = 0
    aligned: bool = True
    finest: float = 56.0

    def _check(self) -> None:
        for name in ("box_cells", "mask_cells"):
            self._number(name, 1, 64, whole=True)
        self._number("sampling", 0, 64, whole=True)
        self._number("finest", 1, 1e5)
        self._flag("aligned")


@dataclass(frozen=True)
class ResultRule(_Record):
    """What counts as found: scores above `score`; of boxes of a class that overlap by more than `overlap` the best;
    the best `most` of all classes. Sides must be longer than `min_side` (-1: any). candidates: per level (one-stage).
    stds: what the second stage's deltas are multiplied with.
    """

    score: float = 0.05
    overlap: float = 0.5
    most: int = 100
    min_side: float = -1.0
    candidates: int = 1000
    stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)

    def _check(self) -> None:
        for name in ("score", "overlap"):
            self._number(name, 0, 1)
        for name in ("most", "candidates"):
            self._number(name, 1, 100_000, whole=True)
        self._number("min_side", -1, 1e4)
        if not _is_positive(self.stds) or len(self.stds) != 4:
            raise ValueError(f"stds: expected four positive numbers, got {self.stds!r}")


@dataclass(frozen=True)
class DetectionRules(_Record):
    """All of it."""

    anchors: AnchorRule
    proposals: ProposalRule = field(default_factory=ProposalRule)
    regions: RegionRule = field(default_factory=RegionRule)
    results: ResultRule = field(default_factory=ResultRule)

    def _check(self) -> None:
        for name, kind in (
            ("anchors", AnchorRule),
            ("proposals", ProposalRule),
            ("regions", RegionRule),
            ("results", ResultRule),
        ):
            object.__setattr__(self, name, kind.from_dict(getattr(self, name)))


def usual_rules(head: str) -> DetectionRules:
    """MMDetection's base configurations of RetinaNet and of two-stage detectors, five levels."""
    if head == "retinanet":
        octave = [2 ** (i / 3) for i in range(3)]
        sizes = tuple(tuple(32.0 * 2**level * part for part in octave) for level in range(5))
        return DetectionRules(AnchorRule(sizes), results=ResultRule(min_side=0.0))
    return DetectionRules(AnchorRule(tuple((32.0 * 2**level,) for level in range(5))))

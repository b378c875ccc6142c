"""The rules of a one-stage detector, from what an engine's manifest says of its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laudc.errors import UserError


@dataclass(frozen=True)
class OneStageRules:
    """Anchors and selection; `laudnet.detector_rules` explains the fields. The defaults are MMDetection's.

    sizes: per level, in pixels. first_stride: of the finest level. score: least score of all. min_side: sides are
    longer than that, in pixels (-1: any).
    """

    sizes: tuple[tuple[float, ...], ...] = tuple(
        tuple(32.0 * 2**level * 2 ** (part / 3) for part in range(3)) for level in range(5)
    )
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rounded: bool = False
    measured_strides: bool = False
    first_stride: int = 8
    score: float = 0.0
    overlap: float = 0.5
    most: int = 100
    candidates: int = 1000
    min_side: float = 0.0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> OneStageRules:
        """From a detector's configuration; engines of older versions have none and get the defaults.

        Raises UserError for a configuration that makes no sense.
        """
        rules = config.get("rules")
        if not isinstance(rules, Mapping):
            return cls()
        try:
            anchors, results = rules["anchors"], rules["results"]
            return cls(
                sizes=tuple(tuple(map(float, row)) for row in anchors["sizes"]),
                ratios=tuple(map(float, anchors["ratios"])),
                rounded=bool(anchors["rounded"]),
                measured_strides=anchors["strides"] == "measured",
                first_stride=4 << int(config["stages"][0]),
                score=float(results["score"]),
                overlap=float(results["overlap"]),
                most=int(results["most"]),
                candidates=int(results["candidates"]),
                min_side=float(results["min_side"]),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(
                "the engine's detector cannot be used",
                f"its configuration makes no sense: {type(error).__name__} {error}",
                "export the checkpoint again with this version of laudc",
            ) from error

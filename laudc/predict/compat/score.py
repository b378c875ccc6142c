"""How close the model comes to recorded outputs of the authors' program."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .density import ClosedForm, SeededDraws, WorstTileDensity
from .golden import GoldenRow
from .model import Model
from .operators import predict


@dataclass(frozen=True)
class RowScore:
    """One row: predicted and recorded seconds, and the signed relative error to the nearer accepted value."""

    row: GoldenRow
    predicted_s: float
    reference_s: float

    @property
    def error(self) -> float:
        """Signed relative error."""
        return self.predicted_s / self.reference_s - 1

    @property
    def within(self) -> bool:
        """Whether the error is within the row's tolerance."""
        return abs(self.error) <= self.row.tolerance

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "id": self.row.id,
            "device": self.row.device.name,
            "batch": self.row.device.batch,
            "op": self.row.call.op,
            "predicted_s": self.predicted_s,
            "reference_s": self.reference_s,
            "rel_error": self.error,
            "accept_rel_tol": self.row.tolerance,
            "within_tolerance": self.within,
        }


@dataclass(frozen=True)
class Score:
    """All rows of a file."""

    rows: tuple[RowScore, ...]

    @property
    def within_share(self) -> float:
        """Share of rows within their tolerance."""
        return sum(row.within for row in self.rows) / len(self.rows)

    def worst(self, count: int) -> list[RowScore]:
        """The rows with the largest error for their tolerance."""
        return sorted(self.rows, key=lambda row: (row.within, -abs(row.error)))[:count]

    def to_dict(self, worst: int = 10) -> dict[str, Any]:
        """Plain data for JSON."""
        errors = [abs(row.error) for row in self.rows]
        return {
            "kind": "laudnet-compat-score",
            "rows": len(self.rows),
            "within_tolerance": sum(row.within for row in self.rows),
            "within_tolerance_share": self.within_share,
            "max_abs_rel_error": max(errors),
            "median_abs_rel_error": statistics.median(errors),
            "worst": [row.to_dict() for row in self.worst(worst)],
            "per_row": [row.to_dict() for row in self.rows],
        }


def score(rows: Sequence[GoldenRow], *, draws: bool = False) -> Score:
    """Predicts every row, at least one; with `draws` as the authors' program does with the row's seed.

    Raises UserError for a row whose sizes do not go together.
    """
    expected = ClosedForm()
    return Score(tuple(_score_row(row, SeededDraws(row.seed) if draws else expected) for row in rows))


def _score_row(row: GoldenRow, density: WorstTileDensity) -> RowScore:
    predicted = predict(Model(row.device, density), row.call).latency_s
    nearest = min(row.references_s, key=lambda reference: abs(predicted / reference - 1))
    return RowScore(row, predicted, nearest)

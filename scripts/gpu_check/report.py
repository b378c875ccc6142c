"""One table for people and one JSON file for docs/benchmarks.md and for calibrating a device profile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laudc.report.tables import Column, number, render_table, times

from .journal import FAILED, SKIPPED, Journal

if TYPE_CHECKING:
    from .measure import Row
    from .numerics import Check

SCHEMA_VERSION = 2
_COLUMNS = (
    Column("case", left=True),
    Column("precision", left=True),
    Column("laudc", "µs"),
    Column("dense", "µs"),
    Column("best dense", left=True),
    Column("speed-up", "×"),
)


def table(rows: Sequence[Row]) -> str:
    """All comparisons, one a line."""
    return render_table(
        _COLUMNS,
        [
            [
                f"{row.name}" if row.stage else f"{row.name} batch {row.batch}",
                row.precision,
                number(row.sparse_us),
                number(row.times[row.best_dense].median_us),
                row.best_dense,
                times(row.speedup),
            ]
            for row in rows
        ],
    )


def numerics_summary(checks: Sequence[Check]) -> str:
    """What was compared and what failed, with numbers."""
    failed = [check for check in checks if not check.passed]
    lines = [f"numerics: {len(checks) - len(failed)} of {len(checks)} comparisons within tolerance"]
    for precision in dict.fromkeys(check.precision for check in checks):
        errors = [check.error for check in checks if check.precision == precision]
        lines.append(f"  {precision}: largest error {max(errors):.1e} of the largest value")
    for check in failed:
        repeat = "" if check.repeatable else ", not repeatable"
        errors_of = f"error {check.error:.1e}, of margins {check.margin_error:.1e}"
        lines.append(f"  FAILED {check.name} {check.precision}: {errors_of}, {check.flipped} flips{repeat}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Findings:
    """All that was found so far; `complete`: nothing that was asked for is open."""

    device: Mapping[str, Any]
    launch: Mapping[str, float]
    checks: Sequence[Check]
    blocks: Sequence[Row]
    networks: Sequence[Row]
    failed: Sequence[Mapping[str, Any]]
    skipped: Sequence[Mapping[str, Any]]
    complete: bool

    @classmethod
    def of(cls, journal: Journal, device: Mapping[str, Any], *, complete: bool) -> Findings:
        """What a journal holds."""
        from .measure import Row
        from .numerics import Check

        blocks, networks = ([Row.from_dict(row) for row in journal.results(part)] for part in ("blocks", "networks"))
        launch = next(iter(journal.results("launch")), {})
        checks = [Check(**check) for check in journal.results("numerics")]
        failed, skipped = journal.without_result(FAILED), journal.without_result(SKIPPED)
        return cls(device, launch, checks, blocks, networks, failed, skipped, complete)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "gpu-check",
            "complete": self.complete,
            "device": dict(self.device),
            "clock": "CUDA events; candidates in turn; laudc always as one CUDA graph",
            "launch": dict(self.launch),
            "numerics": [check.to_dict() for check in self.checks],
            "blocks": [row.to_dict() for row in self.blocks],
            "networks": [row.to_dict() for row in self.networks],
            "failed": list(self.failed),
            "skipped": list(self.skipped),
        }


def summary(findings: Findings) -> str:
    """Everything for people."""
    texts = [numerics_summary(findings.checks)] if findings.checks else []
    if findings.launch:
        costs = (f"{name.removesuffix('_us')} {value:.1f} µs" for name, value in findings.launch.items())
        texts.append(f"per launch: {', '.join(costs)}")
    texts += [table(rows) for rows in (findings.networks, findings.blocks) if rows]
    for title, cases in (("FAILED", findings.failed), ("left out", findings.skipped)):
        texts += [f"{title}: {case['part']}: {case['name']}: {case['why']}" for case in cases]
    return "\n\n".join(texts)


def write(folder: Path, findings: Findings) -> None:
    """results.json and table.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(findings.to_dict(), indent=1) + "\n")
    (folder / "table.txt").write_text(summary(findings) + "\n")

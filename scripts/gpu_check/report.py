"""One table for people and one JSON file for docs/benchmarks.md and for calibrating a device profile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laudc.report.tables import Column, number, render_table, times

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
        lines.append(f"  FAILED {check.name} {check.precision}: error {check.error:.1e}, {check.flipped} flips{repeat}")
    return "\n".join(lines)


def document(
    device: dict[str, Any],
    launch: dict[str, float],
    checks: Sequence[Check],
    blocks: Sequence[Row],
    networks: Sequence[Row],
) -> dict[str, Any]:
    """Everything, as plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "gpu-check",
        "device": device,
        "clock": "CUDA events; candidates in turn; laudc always as one CUDA graph",
        "launch": launch,
        "numerics": [check.to_dict() for check in checks],
        "blocks": [row.to_dict() for row in blocks],
        "networks": [row.to_dict() for row in networks],
    }


def write(folder: Path, data: dict[str, Any], text: str) -> None:
    """results.json and table.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / "table.txt").write_text(text + "\n")

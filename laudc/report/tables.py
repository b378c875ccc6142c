"""Text tables: one unit per column, numbers aligned."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

MISSING = "-"
RULE = "rule"


@dataclass(frozen=True)
class Column:
    """A column's title and unit; numbers go to the right, words to the left."""

    title: str
    unit: str = ""
    left: bool = False


Row = Sequence[str]


def render_table(columns: Sequence[Column], rows: Sequence[Row | str]) -> str:
    """The table as lines without trailing blanks; the row `RULE` is a horizontal line."""
    head: list[Row] = [[column.title for column in columns]]
    if any(column.unit for column in columns):
        head.append([column.unit for column in columns])
    cells = [*head, *(row for row in rows if not isinstance(row, str))]
    widths = [max(_width(row[index]) for row in cells) for index in range(len(columns))]
    rule = "  ".join("-" * width for width in widths)
    lines = [_line(columns, widths, row) for row in head] + [rule]
    lines += [rule if isinstance(row, str) else _line(columns, widths, row) for row in rows]
    return "\n".join(lines)


def _width(text: str) -> int:
    """Columns that a terminal gives the text; East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _line(columns: Sequence[Column], widths: Sequence[int], row: Row) -> str:
    parts = []
    for column, width, text in zip(columns, widths, row, strict=True):
        fill = " " * (width - _width(text))
        parts.append(text + fill if column.left else fill + text)
    return "  ".join(parts).rstrip()


def number(value: float | None, digits: int = 0, scale: float = 1.0) -> str:
    """`value * scale` with fixed digits; a dash when there is none."""
    return MISSING if value is None else f"{value * scale:.{digits}f}"


def percent(value: float | None) -> str:
    """A share between 0 and 1 in percent, without the sign (the column has the unit)."""
    return number(value, 0, 100.0)


def times(value: float | None) -> str:
    """A speed-up factor with two digits."""
    return number(value, 2)

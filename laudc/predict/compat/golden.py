"""Recorded outputs of the authors' program, one operator per row of a CSV file."""

from __future__ import annotations

import csv
import functools
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from laudc.errors import UserError

from .device import CompatDevice, compat_device
from .operators import Call

REQUIRED = ("id", "device", "batch", "op", "args", "latency_s", "accept_rel_tol")


@dataclass(frozen=True)
class GoldenRow:
    """One call and what the authors' program answered.

    `references_s`: the recorded latency and, for a row that depends on random numbers, its expected value; either is
    accepted. `tolerance` is relative, `seed` that of the recorded random numbers.
    """

    id: str
    device: CompatDevice
    call: Call
    references_s: tuple[float, ...]
    tolerance: float
    seed: int = 0


def read_golden(path: str | os.PathLike[str]) -> list[GoldenRow]:
    """All rows of a file with at least the columns `REQUIRED`.

    Raises:
        UserError: the file cannot be read, lacks columns or rows, or a row holds nonsense; the row is named.
    """
    shown = os.fspath(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise _bad(shown, f"it lacks the columns {', '.join(missing)}")
            device = functools.cache(_device)
            rows = [_row(shown, record, device) for record in reader]
    except OSError as error:
        raise UserError(f"cannot read {shown}", error.strerror or str(error), "check the path") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise _bad(shown, f"it is not CSV text: {error}") from error
    if not rows:
        raise _bad(shown, "it has no rows")
    return rows


def _device(name: str, batch: int) -> CompatDevice:
    return compat_device(name, batch=batch)


def _row(path: str, record: Mapping[str, str | None], device: Callable[[str, int], CompatDevice]) -> GoldenRow:
    name = record["id"] or "without an id"
    try:
        batch = _number(record, "batch")
        if batch != int(batch):
            raise ValueError(f"batch is {record['batch']!r}, wanted a whole number")
        return GoldenRow(
            id=name,
            device=device(_text(record, "device"), int(batch)),
            call=Call.of(_text(record, "op"), **_arguments(record)),
            references_s=_references(record),
            tolerance=_number(record, "accept_rel_tol"),
            seed=int(_number(record, "seed")) if record.get("seed") else 0,
        )
    except ValueError as error:
        raise _bad(path, f"row {name}: {error}") from error
    except UserError as error:
        raise _bad(path, f"row {name}: {error.what}: {error.why}") from error


def _text(record: Mapping[str, str | None], column: str) -> str:
    value = record.get(column)
    if not value:
        raise ValueError(f"{column} is empty")
    return value


def _number(record: Mapping[str, str | None], column: str) -> float:
    text = _text(record, column)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{column} is {text!r}, wanted a number, 0 or larger")
    return value


def _arguments(record: Mapping[str, str | None]) -> dict[str, object]:
    try:
        arguments = json.loads(_text(record, "args"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"args is not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise ValueError("args is not a JSON object")
    return arguments


def _references(record: Mapping[str, str | None]) -> tuple[float, ...]:
    expected = record.get("stochastic") == "1" and record.get("latency_closed_form_s")
    return tuple(_latency(record, name) for name in ("latency_s", *(["latency_closed_form_s"] if expected else [])))


def _latency(record: Mapping[str, str | None], column: str) -> float:
    recorded = _number(record, column)
    if recorded == 0:
        raise ValueError(f"{column} is 0, which no operator takes")
    return recorded


def _bad(path: str, why: str) -> UserError:
    return UserError(
        f"{path} is not a file of recorded predictions",
        why,
        f"wanted a CSV file with the columns {', '.join(REQUIRED)}, one operator per row",
    )

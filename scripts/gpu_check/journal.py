"""What has been measured so far, on disk after every case: a call that is cut off loses one case at most."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# How a case can end: with a result, without room for it in the GPU's memory, or in an error.
RESULT, SKIPPED, FAILED = "result", "skipped", "failed"


class Journal:
    """JSON lines: what was measured on and with, then one case a line.

    A file of another GPU, other kernels or other settings is moved aside, each under a name of its own.
    """

    def __init__(self, path: Path, setting: Mapping[str, Any]) -> None:
        self._path = path
        self._cases: dict[tuple[str, str], tuple[str, Any]] = {}
        lines = path.read_text().splitlines() if path.is_file() else []
        if lines and _parsed(lines[0]) == dict(setting):
            for line in lines[1:]:
                case = _parsed(line)
                if case is not None:  # the line that a killed call was writing
                    self._cases[case["part"], case["name"]] = case["end"], case["value"]
            if lines[-1] and _parsed(lines[-1]) is None:
                self._append("")
            return
        if lines:
            path.replace(_free_name(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._append(json.dumps(dict(setting)))

    def has(self, part: str, name: str) -> bool:
        """Whether the case has ended, in one way or another."""
        return (part, name) in self._cases

    def add(self, part: str, name: str, end: str, value: Any) -> None:
        """Writes a case down: its result, or why there is none."""
        self._cases[part, name] = end, value
        self._append(json.dumps({"part": part, "name": name, "end": end, "value": value}))

    def results(self, part: str) -> list[Any]:
        """The results of a part, in the order in which they were found."""
        return [value for (where, _), (end, value) in self._cases.items() if where == part and end == RESULT]

    def without_result(self, end: str) -> list[dict[str, Any]]:
        """Cases that ended so, with the reason."""
        cases = self._cases.items()
        return [{"part": part, "name": name, "why": why} for (part, name), (how, why) in cases if how == end]

    def _append(self, line: str) -> None:
        with self._path.open("a") as file:
            file.write(line + "\n")


def _free_name(path: Path) -> Path:
    """The first of PATH.old1, PATH.old2, ... that does not exist: hours of an earlier GPU are not overwritten."""
    names = (path.with_name(f"{path.name}.old{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None

"""Machine-readable results."""

from __future__ import annotations

import json
import sys
from typing import Any

from laudc.files import atomic_write


def write_json(data: dict[str, Any], target: str) -> None:
    """Writes `data` to the file `target`, or to standard output for "-".

    Raises UserError when the file cannot be written. Numbers that JSON lacks (NaN, infinity) become null.
    """
    text = json.dumps(_plain(data), indent=2, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    with atomic_write(target) as file:
        file.write(text.encode())


def _plain(value: Any) -> Any:
    """Only what JSON has; NumPy scalars and arrays, paths and mappings become their plain counterparts."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value)

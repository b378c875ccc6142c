"""Reads MMDetection's configuration files, which are Python, as data: nothing in them is executed.

What is understood: assignments of literals, `dict(...)`, arithmetic of numbers, lists joined with `+` or repeated with
`*`, names assigned before, and `_base_` files. A value that is anything else is left out, as if it were not there.
"""

from __future__ import annotations

import ast
import contextlib
import operator
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

_LARGEST_FILE = 1 << 20
_DEEPEST = 16
_LONGEST_LIST = 1 << 14
_LARGEST_NUMBER = 1 << 64
# Of all names of a file together, and lists and dicts inside one another: names that hold the same value several times
# would else grow beyond all bounds for whoever goes through them.
_MOST_VALUES, _DEEPEST_VALUE = 1 << 20, 64
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class _Unreadable(Exception):
    """An expression that is no data."""


def read_config_text(text: str) -> dict[str, Any]:
    """Names and values of a configuration without `_base_`. ValueError for what is not Python or too large."""
    return _statements(text, {})


def read_config_file(path: Path) -> dict[str, Any]:
    """Names and values of a configuration file with those of its `_base_` files beneath.

    OSError when a file cannot be read, ValueError when it is not Python or its bases have no end.
    """
    return _read_file(path, _DEEPEST)


def _read_file(path: Path, depth: int) -> dict[str, Any]:
    if depth == 0:
        raise ValueError(f"{path}: more than {_DEEPEST} _base_ files on top of each other")
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path}: too large for a configuration")
    text = path.read_text(encoding="utf-8")
    own = _statements(text, {})
    bases = own.pop("_base_", [])
    values: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases if isinstance(bases, list) else []:
        values = _merged(values, _read_file(path.parent / str(base), depth - 1))
    return _merged(values, own)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, dict by dict, as MMDetection inherits: `_delete_` in a dict drops what is below it."""
    result = dict(below)
    for key, value in above.items():
        if not isinstance(value, Mapping):
            result[key] = value
            continue
        beneath = result.get(key)
        keep = isinstance(beneath, Mapping) and not value.get("_delete_")
        own = {name: entry for name, entry in value.items() if name != "_delete_"}
        result[key] = _merged(beneath if keep and isinstance(beneath, Mapping) else {}, own)
    return result


def _statements(text: str, values: dict[str, Any]) -> dict[str, Any]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"the training configuration is not Python: {error}") from None
    left = _MOST_VALUES
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
            if isinstance(target, ast.Name):
                try:
                    value = _value(statement.value, values)
                    left -= _size_of(value, left)
                    values[target.id] = value
                except (_Unreadable, TypeError, ArithmeticError, RecursionError):
                    values.pop(target.id, None)
    return values


def _size_of(value: Any, most: int) -> int:
    """Values inside `value`, itself included. ValueError for more than `most`, _Unreadable for what is too deep."""
    count, open_values = 0, [(value, 0)]
    while open_values:
        one, depth = open_values.pop()
        count += 1
        if count > most:
            raise ValueError(f"the training configuration holds more than {_MOST_VALUES} values")
        if depth > _DEEPEST_VALUE:
            raise _Unreadable
        entries = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        open_values += [(entry, depth + 1) for entry in entries]
    return count


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return _bounded(node.value)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(entry, known) for entry in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return _entries(((str(_value(key, known)), entry) for key, entry in pairs if key is not None), known)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return _entries(((word.arg, word.value) for word in node.keywords if word.arg is not None), known)
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, known)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _computed(node.op, _value(node.left, known), _value(node.right, known))
    raise _Unreadable


def _entries(pairs: Iterable[tuple[str, ast.expr]], known: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are data."""
    result = {}
    for key, entry in pairs:
        with contextlib.suppress(_Unreadable):
            result[key] = _value(entry, known)
    return result


def _computed(op: ast.operator, left: Any, right: Any) -> Any:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (left, right))
    lists = isinstance(op, ast.Add) and isinstance(left, list) and isinstance(right, list)
    if not numbers and not lists and not (isinstance(op, ast.Mult) and _is_repeatable(left, right)):
        raise _Unreadable
    if lists and len(left) + len(right) > _LONGEST_LIST:
        raise _Unreadable
    result = _ARITHMETIC[type(op)](left, right)
    return _bounded(result) if numbers else result


def _bounded(value: Any) -> Any:
    # Squares of squares would fill memory, and whole numbers of hundreds of digits fit no float.
    if isinstance(value, (int, float)) and not abs(value) <= _LARGEST_NUMBER:
        raise _Unreadable
    return value


def _is_repeatable(values: Any, times: Any) -> bool:
    """Whether this is a list of plain values that does not grow beyond all bounds."""
    if not isinstance(values, list) or type(times) is not int:
        return False
    return len(values) * times <= _LONGEST_LIST and not any(isinstance(value, (list, dict)) for value in values)

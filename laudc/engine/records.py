"""JSON to dataclasses with every type checked: what a file claims is believed only after this."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class FieldError(ValueError):
    """A field of a JSON document is not what it must be; `field` is its dotted path."""

    def __init__(self, field: str, found: object, wanted: str) -> None:
        super().__init__(f"field '{field}': found {_short(found)}, wanted {wanted}")
        self.field = field


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def decode(cls: type[T], data: Any, path: str = "") -> T:
    """Builds the dataclass `cls` from parsed JSON.

    Raises FieldError for a missing, unknown or wrongly typed field.
    """
    if not isinstance(data, dict):
        raise FieldError(path or "(document)", data, "an object")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise FieldError(_join(path, key), data[key], "no such field")
    values = {}
    for name, field in fields.items():
        if name not in data and field.default is not dataclasses.MISSING:
            continue
        values[name] = _value(hints[name], data.get(name, MISSING), _join(path, name))
    return cls(**values)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _value(kind: Any, data: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        if data is MISSING:
            raise FieldError(path, data, "a value")
        return data
    if origin in (types.UnionType, typing.Union):
        return _union(arguments, data, path)
    if origin is tuple:
        items = _expect(list, data, path)
        return tuple(_value(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(items))
    if origin in (dict, Mapping):
        mapping = _expect(dict, data, path)
        return {key: _value(arguments[1], item, _join(path, key)) for key, item in mapping.items()}
    if dataclasses.is_dataclass(kind):
        return decode(typing.cast("type[Any]", kind), data, path)
    return _expect(kind, data, path)


def _union(kinds: tuple[Any, ...], data: Any, path: str) -> Any:
    if data is None and type(None) in kinds:
        return None
    wanted = [kind for kind in kinds if kind is not type(None)]
    for kind in wanted:
        try:
            return _value(kind, data, path)
        except FieldError:
            if len(wanted) == 1:
                raise
    raise FieldError(path, data, " or ".join(_NAMES.get(kind, str(kind)) for kind in wanted))


_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def _expect(kind: type, data: Any, path: str) -> Any:
    # JSON has one number type, Python's bool is an int: neither may blur what a field means.
    matches = isinstance(data, kind) and (kind is bool or not isinstance(data, bool))
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not matches:
        raise FieldError(path, data, _NAMES.get(kind, kind.__name__))
    return data

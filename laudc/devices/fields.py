"""Reading a mapping field by field, with errors that name the path to the key."""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

# How a number of a profile came to be; anything after a colon says more ("datasheet: DA-09366-001").
SOURCE_KINDS = ("datasheet", "documented", "laudnet", "calibrated", "modelled", "host", "user")
FROM_HOST = "host"
# What any number of a device lies between, whatever its unit; beyond, times are no longer numbers.
_SMALLEST, _LARGEST = 1e-9, 1e12
_SHOWN = 60  # characters of a wrong value


class Fields:
    """One mapping of a profile file, read key by key.

    `fail` builds the error from a sentence that names the field. `host` holds numbers that this machine gives, by
    path ("compute.units"), each with its source; a profile takes them by writing `host`, or by leaving the key out.
    `sources` collects where each number comes from.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        fail: Callable[[str], Exception],
        *,
        prefix: str = "",
        host: Mapping[str, tuple[float, str]] | None = None,
        sources: dict[str, str] | None = None,
    ) -> None:
        self._data = data
        self._fail = fail
        self._prefix = prefix
        self._host = host
        self._asked: list[str] = []
        self.sources: dict[str, str] = {} if sources is None else sources

    @property
    def empty(self) -> bool:
        """Whether the mapping holds nothing."""
        return not self._data

    def path(self, key: str) -> str:
        """The key as a user finds it in the file: sections joined by dots."""
        return f"{self._prefix}{key}"

    def error(self, key: str, wanted: str) -> Exception:
        """The error for a value that is missing or no good."""
        value = self._data.get(key)
        found = f"is missing{self._misspelt(key)}" if value is None else f"is {_shown(value)}"
        return self._fail(f"field '{self.path(key)}' {found}, wanted {wanted}")

    def _misspelt(self, key: str) -> str:
        """Names a key of the file that looks as if it were meant to be `key`."""
        close = difflib.get_close_matches(key, [str(name) for name in self._data if name not in self._asked], n=1)
        return f" (is '{self.path(close[0])}' meant to be it?)" if close else ""

    def raw(self, key: str) -> Any:
        """The value as it is; None when missing."""
        self._asked.append(key)
        return self._data.get(key)

    def text(
        self,
        key: str,
        default: str | None = None,
        *,
        one_of: tuple[str, ...] = (),
        like: str = "",
        wanted: str = "text",
    ) -> str:
        """A text; `one_of` lists the values allowed, `like` is a pattern that the whole of it has to match."""
        value = self.raw(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value.strip() or (like and not re.fullmatch(like, value)):
            raise self.error(key, wanted)
        if one_of and value not in one_of:
            raise self.error(key, f"one of: {', '.join(one_of)}")
        return value

    def name(self, key: str) -> str:
        """A text that can be a part of a file's name, and stand in a sentence."""
        wanted = "a name of letters, digits, '.', '_' and '-' that begins with a letter or digit"
        return self.text(key, like=r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", wanted=wanted)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty when missing."""
        value = self.raw(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "a list of texts")
        return tuple(value)

    def whole(self, key: str, *, least: int = 0, most: int | None = None) -> int:
        """A whole number without a source (an identity, not a measurement)."""
        value = self.raw(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(key, "a whole number")
        if value < least:
            raise self.error(key, f"at least {least}")
        if most is not None and value > most:
            raise self.error(key, f"at most {most}")
        return value

    def number(
        self, key: str, default: float | None = None, *, zero: bool = False, least: float = _SMALLEST
    ) -> float:
        """A number, plain or as `{value: NUMBER, source: TEXT}`; at least `least`, or also 0 with `zero`.

        One that is left out is the host's, else `default`, which has no source.
        """
        raw = self.raw(key)
        path = self.path(key)
        if raw is None or raw == FROM_HOST:
            if self._host is not None and path in self._host:
                value, self.sources[path] = self._host[path]
                return value
            if default is None or raw == FROM_HOST:
                raise self._nothing_known(key, path, asked=raw == FROM_HOST)
            return default
        if isinstance(raw, Mapping):
            inner = self._inner(key, raw)
            self.sources[path] = _checked_source(inner)
            raw = inner.raw("value")
            inner.done()
            if raw is None:
                raise inner.error("value", "a number")
        else:
            self.sources[path] = "user: no source stated"
        return self._checked_number(path, raw, zero=zero, least=least)

    def section(self, key: str) -> Fields:
        """A nested mapping; an empty one when missing."""
        value = self.raw(key)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise self.error(key, "a mapping of fields")
        return self._inner(key, value)

    def nested(self, name: str, value: Mapping[str, Any]) -> Fields:
        """A mapping inside a list, to be named `name` in errors."""
        return self._inner(name, value)

    def done(self) -> None:
        """Call after the last key: raises for keys that nobody asked for."""
        for key in self._data:
            if key not in self._asked:
                close = difflib.get_close_matches(str(key), self._asked, n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(self._asked)}"
                raise self._fail(f"field '{self.path(str(key))}' is unknown; {hint}")

    def _inner(self, key: str, value: Mapping[str, Any]) -> Fields:
        return Fields(value, self._fail, prefix=f"{self.path(key)}.", host=self._host, sources=self.sources)

    def _nothing_known(self, key: str, path: str, *, asked: bool) -> Exception:
        if not asked:
            return self.error(key, "a number, or {value: NUMBER, source: TEXT}")
        return self._fail(f"field '{path}' is 'host', but only a profile of kind 'cpu' is of the host")

    def _checked_number(self, path: str, value: Any, *, zero: bool, least: float) -> float:
        wanted = "a number above 0"
        if zero or least > _SMALLEST:
            wanted = f"a number, {0 if zero else least:g} or larger"
        if isinstance(value, str) and _looks_like_number(value):
            wanted += f" (YAML reads {value!r} as text: write a decimal point and a signed exponent, 1.5e+9)"
        number = math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                number = float(value)
        if number > _LARGEST or 0 < number < _SMALLEST:
            wanted = f"a number that a device can have: {_SMALLEST:g} to {_LARGEST:g}"
        if not (least <= number <= _LARGEST or (number == 0 and zero)):
            raise self._fail(f"field '{path}' is {_shown(value)}, wanted {wanted}")
        return number


def _checked_source(fields: Fields) -> str:
    source = fields.text("source")
    if source.split(":", 1)[0].strip() not in SOURCE_KINDS:
        raise fields.error("source", f"text that begins with one of: {', '.join(SOURCE_KINDS)}")
    return source


def _looks_like_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    """A value for a message: not all of it where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print whole numbers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

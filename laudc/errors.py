"""Errors that laudc raises on purpose, each with the exit status the command line gives it.

Anything else that escapes is a bug in laudc; the command line reports it as an `InternalError`.
"""

from __future__ import annotations


def _sentence(text: str) -> str:
    """`text` with a capital first letter and a full stop, so that the parts read as one paragraph."""
    text = " ".join(text.split())
    if not text:
        return ""
    # A first word with capitals, dots or a colon is a name (`layer1.0`, `model.onnx`, `opset:`) and stays as
    # it is.
    first = text.split(" ", 1)[0].rstrip(",;.?!")
    if first.isalpha() and first.islower():
        text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else text + "."


class LaudcError(Exception):
    """Base of all errors raised by laudc.

    Attributes:
        what: what happened, naming the file, node or value concerned.
        why: the cause, as far as it is known.
        fix: what the caller can do about it.
        exit_code: exit status of a command that ends with this error.
    """

    exit_code: int = 1

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return " ".join(part for part in map(_sentence, (self.what, self.why, self.fix)) if part)


class UserError(LaudcError):
    """The input, the options or the machine do not allow what was asked; the caller can change that."""

    exit_code = 2

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(what, why, fix)


class CheckFailed(LaudcError):
    """A check ran to its end and its result is outside the limits that were asked for."""

    exit_code = 3


class InternalError(LaudcError):
    """Something that should be impossible: a bug in laudc."""

    exit_code = 1

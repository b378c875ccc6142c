"""What versions of TensorRT look like, and what follows from them."""

from __future__ import annotations

import re

from ..errors import UserError

_KNOWN_MAJORS = (8, 10, 11)


def release(version: str) -> str:
    """The first three parts: Python's package says a fourth ("8.6.1.6") that the library itself does not."""
    return ".".join(version.split(".")[:3])


def major(version: str) -> int:
    """Major number. Raises UserError for one that the plugins are not built for."""
    match = re.match(r"(\d+)(\.|$)", version)
    found = int(match.group(1)) if match else 0
    if found not in _KNOWN_MAJORS:
        raise UserError(
            f"TensorRT {version} is not supported",
            "the plugins exist for TensorRT 8 (from 8.2), 10 and 11",
            "install one of these, or correct the version in the device profile",
        )
    return found


def release_line(text: str) -> str:
    """The version that a device profile names: "8.2.1" as it is, ">= 8.6" as its lowest.

    Raises UserError when there is none in it.
    """
    match = re.search(r"\d+\.\d+(\.\d+)?", text)
    if match is None:
        raise UserError(
            "the device profile does not say its TensorRT",
            f"toolchain.tensorrt is {text!r}",
            "give it with --tensorrt VERSION",
        )
    return match.group()

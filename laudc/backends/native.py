"""Finds our native library and asks it what it is."""

from __future__ import annotations

import ctypes
import functools
import json
import os
from pathlib import Path
from typing import Any

from laudc.errors import UserError

LIBRARY = "liblaudc_ort.so"
OVERRIDE = "LAUDC_NATIVE_LIBRARY"


def searched_paths(library: str = LIBRARY, override: str = OVERRIDE) -> list[Path]:
    """Where a library is looked for, in order: where the environment variable `override` says, else in the package."""
    named = os.environ.get(override)
    if named:
        return [Path(named)]
    import laudc

    # An editable install keeps the compiled files elsewhere and lists that folder in __path__.
    return [Path(folder) / "_native" / library for folder in laudc.__path__]


def find_library(library: str, override: str, missing: str, advice: str) -> Path:
    """The first place that has the library. Raises UserError where none has: `missing`, the places, `advice`."""
    paths = searched_paths(library, override)
    for path in paths:
        if path.is_file():
            return path
    raise UserError(missing, f"looked for {', '.join(map(str, paths))}", advice)


def library_path() -> Path:
    """The native library.

    Raises:
        UserError: it is nowhere; the message lists where it was looked for and how to build it.
    """
    return find_library(
        LIBRARY,
        OVERRIDE,
        f"the native library {LIBRARY} is missing",
        "build it with 'make native', or reinstall laudc with 'pip install .' (needs a C++ compiler), or set "
        f"{OVERRIDE} to the file",
    )


@functools.lru_cache(maxsize=4)
def _abi_of(path: Path) -> dict[str, Any]:
    try:
        library = ctypes.CDLL(str(path))
        describe = library.laudc_abi
    except (OSError, AttributeError) as error:
        raise UserError(
            f"{path} is not a usable laudc library", str(error), "build it again with 'make native'"
        ) from error
    describe.restype = ctypes.c_char_p
    description: dict[str, Any] = json.loads(describe().decode())
    return description


def library_abi() -> dict[str, Any]:
    """abi, version, isa (families built in), active (the one this CPU runs), panel. Raises UserError if missing."""
    return _abi_of(library_path())

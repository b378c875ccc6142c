"""The library with our TensorRT plugins: found, asked what it is, and only then loaded into TensorRT."""

from __future__ import annotations

import ctypes
import functools
import json
import os
from pathlib import Path
from typing import Any

from laudc.devices.tensorrt import major
from laudc.errors import UserError
from laudc.ops.scheduled import ABI_VERSION

OVERRIDE = "LAUDC_TENSORRT_PLUGIN"
_BUILD = "build it: cmake -S plugins/tensorrt -B build && cmake --build build (needs CUDA and TensorRT's headers)"


def library_path(tensorrt: str) -> Path:
    """The plugin library for this TensorRT. Raises UserError, saying where it was looked for, when there is none."""
    name = f"liblaudc_trt{major(tensorrt)}.so"
    places = _places(name)
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"the plugin library {name} is missing",
        f"looked for {', '.join(map(str, places))}",
        f"{_BUILD}, or set {OVERRIDE} to the file",
    )


def _places(name: str) -> list[Path]:
    override = os.environ.get(OVERRIDE)
    if override:
        return [Path(override)]
    import laudc

    return [Path(folder) / "_native" / name for folder in laudc.__path__]


@functools.lru_cache(maxsize=4)
def _open(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise UserError(f"the plugin library {path} cannot be loaded", str(error), _BUILD) from error


def describe(path: Path) -> dict[str, Any]:
    """abi, version, api ("trt8"), tensorrt, cuda and sm of a library. Raises UserError when it is not one of ours."""
    library = _open(path)
    try:
        function = library.laudc_abi
        function.restype = ctypes.c_char_p
        about = json.loads(function().decode())
        return {**about, "abi": int(about["abi"]), "version": str(about["version"]), "api": str(about["api"])}
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a usable laudc plugin library", f"laudc_abi: {error}", _BUILD) from error


def check(path: Path, tensorrt: str) -> dict[str, Any]:
    """What the library says about itself. Raises UserError when it is for another TensorRT major or another ABI."""
    about = describe(path)
    wanted = f"trt{major(tensorrt)}"
    if about["api"] != wanted:
        raise UserError(
            f"the plugin library {path} is for another TensorRT",
            f"it is made for {about['api']}, here it must be {wanted}",
            _BUILD,
        )
    if about["abi"] != ABI_VERSION:
        raise UserError(
            f"the plugin library {path} is of another version of laudc",
            f"field 'abi': it has {about['abi']}, this laudc has {ABI_VERSION}",
            _BUILD,
        )
    return about


def last_error(path: Path) -> str:
    """Why the library refused to make or read a plugin in this thread; empty if it did not."""
    try:
        function = _open(path).laudc_trt_last_error
    except (AttributeError, UserError):
        return ""
    function.restype = ctypes.c_char_p
    return (function() or b"").decode(errors="replace")


_loaded: set[Path] = set()


def load(path: Path, trt: Any) -> None:
    """Makes the plugins known to TensorRT; once per process. Raises UserError when it does not take them."""
    if path in _loaded:
        return
    check(path, trt.__version__)
    if not (_load_by_registry(path, trt) if major(trt.__version__) > 8 else _register(path)):
        raise UserError(
            f"TensorRT does not load the plugins of {path}",
            last_error(path) or "it does not say why; another library may have plugins of the same names",
            _BUILD,
        )
    _loaded.add(path)


def _load_by_registry(path: Path, trt: Any) -> bool:
    return trt.get_plugin_registry().load_library(str(path)) is not None


def _register(path: Path) -> bool:
    """TensorRT 8.2 to 8.5 load no libraries: ours registers itself with the registry that it is handed."""
    try:
        # The Python package has loaded it already.
        find_registry = ctypes.CDLL("libnvinfer.so.8").getPluginRegistry
        register = _open(path).laudc_trt_register
    except (OSError, AttributeError) as error:
        raise UserError(f"the plugins of {path} cannot be registered", str(error), _BUILD) from error
    find_registry.restype = ctypes.c_void_p
    register.argtypes, register.restype = [ctypes.c_void_p], ctypes.c_bool
    return bool(register(find_registry()))

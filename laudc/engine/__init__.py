"""Engines: one file with the compiled model and everything that is needed to trust it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laudc.engine.build import build_engine
    from laudc.engine.bundle import Bundle, open_bundle
    from laudc.engine.engine import Engine, load_engine
    from laudc.engine.manifest import Manifest

__all__ = ["Bundle", "Engine", "Manifest", "build_engine", "load_engine", "open_bundle"]

_HOMES = {
    "Bundle": "bundle",
    "Engine": "engine",
    "Manifest": "manifest",
    "build_engine": "build",
    "load_engine": "engine",
    "open_bundle": "bundle",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'laudc.engine' has no attribute {name!r}")
    return getattr(importlib.import_module(f"laudc.engine.{_HOMES[name]}"), name)

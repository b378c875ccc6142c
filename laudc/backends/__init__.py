"""Runtimes behind one small interface. `get(name)` imports only the one that is asked for."""

from __future__ import annotations

from laudc.backends.interface import Availability, Backend, Runner
from laudc.errors import UserError

NAMES = ("onnxruntime",)

__all__ = ["NAMES", "Availability", "Backend", "Runner", "get"]


def get(name: str) -> Backend:
    """The backend of that name.

    Raises:
        UserError: there is none.
    """
    if name == "onnxruntime":
        from laudc.backends.onnxruntime_cpu import OnnxRuntimeCpu

        return OnnxRuntimeCpu()
    raise UserError(f"unknown backend '{name}'", f"known are {', '.join(NAMES)}", "use one of these")

"""Runtimes behind one small interface. `get(name)` imports only the one that is asked for."""

from __future__ import annotations

from laudc.backends.interface import Availability, Backend, Runner
from laudc.errors import UserError

# The first works on every machine; the others need a GPU and what goes with it.
NAMES = ("onnxruntime", "onnxruntime-cuda", "tensorrt")

__all__ = ["NAMES", "Availability", "Backend", "Runner", "get"]


def get(name: str) -> Backend:
    """The backend of that name.

    Raises:
        UserError: there is none.
    """
    if name == "onnxruntime":
        from laudc.backends.onnxruntime_cpu import OnnxRuntimeCpu

        return OnnxRuntimeCpu()
    if name == "onnxruntime-cuda":
        from laudc.backends.onnxruntime_cuda import OnnxRuntimeCuda

        return OnnxRuntimeCuda()
    if name == "tensorrt":
        from laudc.backends.tensorrt import TensorRt

        return TensorRt()
    raise UserError(f"unknown backend '{name}'", f"known are {', '.join(NAMES)}", "use one of these")

"""The CUDA kernels' C interface (plugins/cuda/laudc_cuda.h), without anything that owns memory or streams."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from laudc.backends.native import find_library
from laudc.ops.scheduled import BlockRecord
from laudc.ops.scheduled_vit import VitRecord

PRECISIONS = {"fp32": 0, "tf32": 1, "fp16": 2}
OVERRIDE = "LAUDC_CUDA_LIBRARY"
_NAME = "liblaudc_cuda.so"
_ERROR_BYTES = 512


class Device(ctypes.Structure):
    """laudc_cuda_device."""

    _fields_ = [("sm", ctypes.c_int32), ("multiprocessors", ctypes.c_int32)]


class Io(ctypes.Structure):
    """laudc_cuda_io."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("packed", ctypes.POINTER(ctypes.c_void_p)),
        ("prepared", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("margins", ctypes.c_void_p),
        ("margins_stride", ctypes.c_int64),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_size_t),
        ("batch", ctypes.c_int64),
    ]


class KernelError(RuntimeError):
    """What the library says went wrong."""


class Library:
    """The loaded library."""

    def __init__(self, path: str | Path) -> None:
        self._lib = ctypes.CDLL(str(path))
        text = [ctypes.c_char_p, ctypes.c_size_t]
        pointer, size, int64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
        signatures: dict[str, tuple[Any, list[Any]]] = {
            "current_device": (ctypes.c_int, [ctypes.POINTER(Device), *text]),
            "create": (
                pointer,
                [ctypes.c_char_p, ctypes.POINTER(int64), size, ctypes.c_int, ctypes.POINTER(Device), *text],
            ),
            "destroy": (None, [pointer]),
            "margins": (int64, [pointer]),
            "packed_floats": (int64, [pointer, int64]),
            "workspace_bytes": (size, [pointer, int64]),
            "prepared_bytes": (size, [pointer]),
            "prepare": (ctypes.c_int, [pointer, ctypes.POINTER(ctypes.c_void_p), pointer, pointer, *text]),
            "enqueue": (ctypes.c_int, [pointer, ctypes.POINTER(Io), pointer, *text]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self._lib, f"laudc_cuda_{name}")
            function.restype, function.argtypes = result, arguments
        self.device = Device()
        self.call("current_device", ctypes.byref(self.device))

    @property
    def sm(self) -> int:
        """Compute capability of the current GPU: 10 * major + minor."""
        return int(self.device.sm)

    def get(self, name: str, *arguments: Any) -> Any:
        """A function that cannot fail."""
        return getattr(self._lib, f"laudc_cuda_{name}")(*arguments)

    def call(self, name: str, *arguments: Any) -> None:
        """A function that can: raises KernelError with its sentence."""
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        if self.get(name, *arguments, error, _ERROR_BYTES) != 0:
            raise KernelError(f"{name}: {error.value.decode(errors='replace')}")

    def create(self, records: Sequence[BlockRecord | VitRecord], precision: str) -> int:
        """A run's handle."""
        values = [int(value) for record in records for value in astuple(record)]
        array = (ctypes.c_int64 * len(values))(*values)
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        device = ctypes.byref(self.device)
        op = records[0].RUN_OP.encode()
        run = self.get("create", op, array, len(values), PRECISIONS[precision], device, error, _ERROR_BYTES)
        if not run:
            raise KernelError(f"create: {error.value.decode(errors='replace')}")
        return int(run)


def library_path() -> Path:
    """The kernels of this installation, or those that LAUDC_CUDA_LIBRARY names. Raises UserError if there are none."""
    return find_library(
        _NAME,
        OVERRIDE,
        f"the CUDA kernels {_NAME} are missing",
        "build them where nvcc is (cmake -S plugins/cuda -B build/cuda -DLAUDC_CUDA_ARCHITECTURES=native; cmake "
        f"--build build/cuda), and set {OVERRIDE} to the file",
    )

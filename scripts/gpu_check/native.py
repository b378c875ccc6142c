"""The kernels' C interface (plugins/cuda/laudc_cuda.h) over PyTorch's memory and streams."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from laudc.ops.scheduled import BlockRecord, encode_blocks

PRECISIONS = {"fp32": 0, "tf32": 1, "fp16": 2}
_ERROR_BYTES = 512


class _Device(ctypes.Structure):
    _fields_ = [("sm", ctypes.c_int32), ("multiprocessors", ctypes.c_int32)]


class _Io(ctypes.Structure):
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
            "current_device": (ctypes.c_int, [ctypes.POINTER(_Device), *text]),
            "create": (pointer, [ctypes.POINTER(int64), size, ctypes.c_int, ctypes.POINTER(_Device), *text]),
            "destroy": (None, [pointer]),
            "margins": (int64, [pointer]),
            "packed_floats": (int64, [pointer, int64]),
            "workspace_bytes": (size, [pointer, int64]),
            "prepared_bytes": (size, [pointer]),
            "prepare": (ctypes.c_int, [pointer, ctypes.POINTER(ctypes.c_void_p), pointer, pointer, *text]),
            "enqueue": (ctypes.c_int, [pointer, ctypes.POINTER(_Io), pointer, *text]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self._lib, f"laudc_cuda_{name}")
            function.restype, function.argtypes = result, arguments
        self._device = _Device()
        self.call("current_device", ctypes.byref(self._device))

    @property
    def sm(self) -> int:
        """Compute capability of the current GPU: 10 * major + minor."""
        return int(self._device.sm)

    def get(self, name: str, *arguments: Any) -> Any:
        """A function that cannot fail."""
        return getattr(self._lib, f"laudc_cuda_{name}")(*arguments)

    def call(self, name: str, *arguments: Any) -> None:
        """A function that can: raises KernelError with its sentence."""
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        if self.get(name, *arguments, error, _ERROR_BYTES) != 0:
            raise KernelError(f"{name}: {error.value.decode(errors='replace')}")

    def create(self, records: Sequence[BlockRecord], precision: str) -> int:
        """A run's handle."""
        values = encode_blocks(records)
        array = (ctypes.c_int64 * len(values))(*values)
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        device = ctypes.byref(self._device)
        run = self.get("create", array, len(values), PRECISIONS[precision], device, error, _ERROR_BYTES)
        if not run:
            raise KernelError(f"create: {error.value.decode(errors='replace')}")
        return int(run)


class Run:
    """A run of blocks with its weights on `device`, for calls of `batch` images."""

    def __init__(
        self,
        library: Library,
        records: Sequence[BlockRecord],
        packed: Sequence[np.ndarray],
        *,
        precision: str,
        batch: int,
        device: str = "cuda",
    ) -> None:
        import torch

        self._library, self._device = library, device
        self._run = library.create(records, precision)
        for index, array in enumerate(packed):
            wanted = library.get("packed_floats", self._run, index)
            if wanted != array.size:
                raise KernelError(f"block {index}: the library wants {wanted} packed floats, there are {array.size}")
        self._packed = [torch.from_numpy(array).to(device) for array in packed]
        self._pointers = (ctypes.c_void_p * len(packed))(*(t.data_ptr() for t in self._packed))
        self.dtype = torch.float16 if precision == "fp16" else torch.float32
        last = records[-1]
        total = int(library.get("margins", self._run))
        self.y = torch.empty((batch, last.hout, last.wout, last.cout), dtype=self.dtype, device=device)
        self.counts = torch.zeros((batch, len(records), 4), dtype=torch.int32, device=device)
        self.margins = torch.zeros((batch, max(1, total)), device=device)
        self._workspace = self._bytes(library.get("workspace_bytes", self._run, batch))
        self._prepared = self._bytes(library.get("prepared_bytes", self._run))
        if self._prepared is not None:
            prepared = self._prepared.data_ptr()
            library.call("prepare", self._run, self._pointers, prepared, self._stream())
        self._batch = batch

    def _bytes(self, size: int) -> Any:
        import torch

        return torch.empty(size, dtype=torch.uint8, device=self._device) if size else None

    def _stream(self) -> int:
        import torch

        return torch.cuda.current_stream().cuda_stream if self._device != "cpu" else 0

    def __call__(self, x: Any) -> Any:
        """x (B,H,W,C) in the run's type → y, the same memory at every call."""
        io = _Io(
            x=x.data_ptr(),
            packed=ctypes.cast(self._pointers, ctypes.POINTER(ctypes.c_void_p)),
            prepared=self._prepared.data_ptr() if self._prepared is not None else None,
            y=self.y.data_ptr(),
            counts=self.counts.data_ptr(),
            margins=self.margins.data_ptr(),
            margins_stride=self.margins.shape[1],
            workspace=self._workspace.data_ptr() if self._workspace is not None else None,
            workspace_bytes=self._workspace.numel() if self._workspace is not None else 0,
            batch=self._batch,
        )
        self._library.call("enqueue", self._run, ctypes.byref(io), self._stream())
        return self.y

    def close(self) -> None:
        """Gives the run back."""
        if self._run:
            self._library.get("destroy", self._run)
            self._run = 0

"""A run of the kernels over PyTorch's memory and streams."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from laudc.backends.cuda_kernels import Io, KernelError, Library
from laudc.ops.scheduled import BlockRecord

__all__ = ["KernelError", "Library", "Run"]

_ALIGNMENT = 256


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

        if not size:
            return None
        memory = torch.empty(size + _ALIGNMENT, dtype=torch.uint8, device=self._device)
        first = -memory.data_ptr() % _ALIGNMENT  # the CPU's allocator, which tests use, aligns less than the GPU's
        return memory[first : first + size]

    def _stream(self) -> int:
        import torch

        return torch.cuda.current_stream().cuda_stream if self._device != "cpu" else 0

    def __call__(self, x: Any) -> Any:
        """x (B,H,W,C) in the run's type → y, the same memory at every call."""
        io = Io(
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

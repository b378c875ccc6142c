"""The C interface of the CUDA kernels, on a GPU or on the emulated one.

LAUDC_CUDA_LIBRARY names a real `liblaudc_cuda.so` (with LAUDC_CUDART, if libcudart.so is not on the library path);
without it the emulation that the native tests build is used.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from laudc.ops.packing import BlockWeights, pack_block
from laudc.ops.regnet_packing import RegNetWeights, pack_regnet_block
from laudc.ops.scheduled import COUNTS_PER_BLOCK, BlockRecord, RegNetRecord, encode_blocks

Array = np.ndarray
EMULATION = Path("build/native/plugins/tests/liblaudc_cuda_emulation.so")
FP32, TF32, FP16 = 0, 1, 2
_ALIGNMENT = 256


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


def pack(record: BlockRecord, weights: BlockWeights | RegNetWeights) -> Array:
    """The packed initializer of a block of any family."""
    if isinstance(record, RegNetRecord):
        assert isinstance(weights, RegNetWeights)
        return pack_regnet_block(record, weights)
    assert isinstance(weights, BlockWeights)
    return pack_block(record, weights)


def library_path() -> Path:
    """The library under test; it may not exist."""
    return Path(os.environ.get("LAUDC_CUDA_LIBRARY") or EMULATION)


class _HostMemory:
    """The emulated GPU computes where the CPU does."""

    def copy(self, to: int, source: int, size: int) -> None:
        ctypes.memmove(to, source, size)

    def synchronize(self) -> None:
        pass


class _CudaMemory:
    def __init__(self) -> None:
        self._runtime = ctypes.CDLL(os.environ.get("LAUDC_CUDART", "libcudart.so"))

    def copy(self, to: int, source: int, size: int) -> None:
        direction = 4  # cudaMemcpyDefault
        code = self._runtime.cudaMemcpy(ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(size), direction)
        assert code == 0, f"cudaMemcpy: error {code}"

    def synchronize(self) -> None:
        code = self._runtime.cudaDeviceSynchronize()
        assert code == 0, f"a kernel failed: CUDA error {code}"


@dataclass(frozen=True)
class Results:
    """Y (B, C, H, W) as float32, counts (B, blocks, 4), margins (B, total)."""

    y: Array
    counts: Array
    margins: Array


class CudaLibrary:
    """Runs blocks through the C interface."""

    def __init__(self, path: Path) -> None:
        self._native = ctypes.CDLL(str(path.resolve()))
        self.emulated = path == EMULATION
        self._memory = _HostMemory() if self.emulated else _CudaMemory()
        for name, result in (
            ("create", ctypes.c_void_p),
            ("margins", ctypes.c_int64),
            ("workspace_bytes", ctypes.c_size_t),
            ("prepared_bytes", ctypes.c_size_t),
        ):
            getattr(self._native, f"laudc_cuda_{name}").restype = result
        self._error = ctypes.create_string_buffer(512)
        self.device = _Device()
        self._checked("current_device", ctypes.byref(self.device))

    def _checked(self, name: str, *arguments: object) -> None:
        code = getattr(self._native, f"laudc_cuda_{name}")(*arguments, self._error, ctypes.c_size_t(512))
        assert code == 0, self._error.value.decode()

    def run(
        self,
        records: Sequence[BlockRecord],
        weights: Sequence[BlockWeights | RegNetWeights],
        x: Array,
        precision: int = FP32,
    ) -> Results:
        """Runs the blocks on x (B, C, H, W)."""
        values = encode_blocks(records)
        blocks = (ctypes.c_int64 * len(values))(*values)
        run = self._native.laudc_cuda_create(
            records[0].RUN_OP.encode(),
            blocks,
            ctypes.c_size_t(len(blocks)),
            precision,
            ctypes.byref(self.device),
            self._error,
            ctypes.c_size_t(512),
        )
        assert run, self._error.value.decode()
        with ExitStack() as cleanup:
            handle = ctypes.c_void_p(run)
            cleanup.callback(self._native.laudc_cuda_destroy, handle)
            return self._execute(handle, records, weights, x, precision, cleanup)

    def _execute(
        self,
        run: ctypes.c_void_p,
        records: Sequence[BlockRecord],
        weights: Sequence[BlockWeights | RegNetWeights],
        x: Array,
        precision: int,
        cleanup: ExitStack,
    ) -> Results:
        element = np.float16 if precision == FP16 else np.float32
        batch, last = x.shape[0], records[-1]
        y = np.full((batch, last.hout, last.wout, last.cout), np.nan, element)
        counts = np.full((batch, len(records), COUNTS_PER_BLOCK), -1, np.int32)
        margins = np.full((batch, self._native.laudc_cuda_margins(run)), np.nan, np.float32)

        def device(array: Array) -> DeviceArray:
            return cleanup.enter_context(DeviceArray(self, np.ascontiguousarray(array)))

        packed = [device(pack(r, w)) for r, w in zip(records, weights, strict=True)]
        pointers = (ctypes.c_void_p * len(packed))(*(array.address for array in packed))
        workspace_bytes = self._native.laudc_cuda_workspace_bytes(run, ctypes.c_int64(batch))
        dirt = [np.full(size, 255, np.uint8) for size in (self._native.laudc_cuda_prepared_bytes(run), workspace_bytes)]
        x_on, y_on, counts_on, margins_on, prepared, workspace = (
            device(array) for array in (x.transpose(0, 2, 3, 1).astype(element), y, counts, margins, *dirt)
        )
        self._checked("prepare", run, pointers, ctypes.c_void_p(prepared.address), None)
        io = _Io(
            x_on.address,
            pointers,
            prepared.address,
            y_on.address,
            counts_on.address,
            margins_on.address,
            margins.shape[1],
            workspace.address,
            workspace_bytes,
            batch,
        )
        self._checked("enqueue", run, ctypes.byref(io), None)
        self._memory.synchronize()
        for array in (y_on, counts_on, margins_on):
            array.fetch()
        return Results(y_on.host.transpose(0, 3, 1, 2).astype(np.float32), counts_on.host, margins_on.host)


class DeviceArray:
    """A NumPy array and its copy on the device."""

    def __init__(self, library: CudaLibrary, host: Array) -> None:
        self.host = host
        self._library = library
        self._pointer = ctypes.c_void_p()

    def __enter__(self) -> DeviceArray:
        # As cudaMalloc aligns, and not empty: an address is wanted in any case.
        size = max(_ALIGNMENT, self.host.nbytes)
        self._library._checked("allocate", ctypes.c_size_t(size), ctypes.byref(self._pointer))
        self._library._memory.copy(self.address, self.host.ctypes.data, self.host.nbytes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library._native.laudc_cuda_release(self._pointer)

    @property
    def address(self) -> int:
        assert self._pointer.value is not None
        return self._pointer.value

    def fetch(self) -> None:
        """Copies the device's contents into `host`."""
        self._library._memory.copy(self.host.ctypes.data, self.address, self.host.nbytes)

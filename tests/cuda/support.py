"""The C interface of the CUDA kernels, on a GPU or on the emulated one.

LAUDC_CUDA_LIBRARY names a real `liblaudc_cuda.so` (with LAUDC_CUDART, if libcudart.so is not on the library path);
without it the emulation that the native tests build is used.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest

from laudc.backends.cuda_kernels import PRECISIONS, Device, Io, Library
from laudc.calibrate.design import Design
from laudc.calibrate.synthetic import Drawn
from laudc.calibrate.synthetic_vit import VitDrawn
from laudc.devices.gpu import GpuRecord
from laudc.ops.packing import BlockWeights
from laudc.ops.regnet_packing import RegNetWeights, pack_conv_block
from laudc.ops.scheduled import COUNTS_PER_BLOCK, BlockRecord
from laudc.predict.blueprint import Blueprint
from laudc.predict.families import REGNET, VIT
from laudc.predict.regnet_blueprint import RegNetBlueprint
from tests.predict.models import REGNET_SMALL, SMALL, VIT_SMALL

Array = np.ndarray
EMULATION = Path("build/native/plugins/tests/liblaudc_cuda_emulation.so")
FP32, TF32, FP16 = (PRECISIONS[name] for name in ("fp32", "tf32", "fp16"))
_NAMES = {value: name for name, value in PRECISIONS.items()}
_ALIGNMENT = 256


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
        self.kernels = Library(path.resolve())
        self.emulated = path == EMULATION
        self.memory = _HostMemory() if self.emulated else _CudaMemory()

    @property
    def device(self) -> Device:
        """The GPU that runs are made for."""
        return self.kernels.device

    def run(
        self,
        records: Sequence[BlockRecord],
        weights: Sequence[BlockWeights | RegNetWeights],
        x: Array,
        precision: int = FP32,
    ) -> Results:
        """Runs the blocks on x (B, C, H, W)."""
        with ExitStack() as cleanup:
            run = self.kernels.create(records, _NAMES[precision])
            cleanup.callback(self.kernels.get, "destroy", run)
            return self._execute(run, records, weights, x, precision, cleanup)

    def _execute(
        self,
        run: int,
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
        margins = np.full((batch, self.kernels.get("margins", run)), np.nan, np.float32)

        def device(array: Array) -> DeviceArray:
            return cleanup.enter_context(DeviceArray(self, np.ascontiguousarray(array)))

        packed = [device(pack_conv_block(r, w)) for r, w in zip(records, weights, strict=True)]
        pointers = (ctypes.c_void_p * len(packed))(*(array.address for array in packed))
        workspace_bytes = self.kernels.get("workspace_bytes", run, batch)
        dirt = [np.full(size, 255, np.uint8) for size in (self.kernels.get("prepared_bytes", run), workspace_bytes)]
        x_on, y_on, counts_on, margins_on, prepared, workspace = (
            device(array) for array in (x.transpose(0, 2, 3, 1).astype(element), y, counts, margins, *dirt)
        )
        self.kernels.call("prepare", run, pointers, prepared.address, None)
        io = Io(
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
        self.kernels.call("enqueue", run, ctypes.byref(io), None)
        self.memory.synchronize()
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
        self._library.kernels.call("allocate", ctypes.c_size_t(size), ctypes.byref(self._pointer))
        self._library.memory.copy(self.address, self.host.ctypes.data, self.host.nbytes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.kernels.get("release", self._pointer)

    @property
    def address(self) -> int:
        assert self._pointer.value is not None
        return self._pointer.value

    def fetch(self) -> None:
        """Copies the device's contents into `host`."""
        self._library.memory.copy(self.host.ctypes.data, self.address, self.host.nbytes)


def emulated_kernels() -> Library:
    """The kernels on the emulated GPU; the test is skipped where they are not built."""
    if not EMULATION.exists():
        message = f"{EMULATION} is not built: make native"
        if os.environ.get("LAUDC_REQUIRE_NATIVE") == "1" or os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return Library(EMULATION.resolve())


class HostCuda:
    """The emulated GPU computes in the memory of the host; its clock ticks once per call."""

    stream = 0

    def __init__(self):
        self.memory, self.calls = {}, 0

    def allocate(self, size):
        buffer = np.zeros(size + 256, np.uint8)
        address = buffer.ctypes.data + 256 - buffer.ctypes.data % 256
        self.memory[address] = buffer
        return address

    def free(self, address):
        del self.memory[address]

    def upload(self, address, array):
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array, address):
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def wait(self):
        pass

    def capture(self, work):
        def replay():
            self.calls += 1

        return replay

    def elapsed_us(self, work):
        work()
        return 10.0 + 0.01 * (self.calls % 3)

    def gpu(self):
        return GpuRecord("emulated", "8.0", "0.0", "0.0")


def small_design(family: str) -> Design:
    """A network of three stages or blocks whose kernels are soon emulated."""
    if family == VIT:
        vit = VitDrawn((0.5, 0.6, 0.5), (0.5, 0.5, 0.75), (True, True, True), (True, False, True))
        return Design(7, replace(VIT_SMALL, input_size=48), vit, (False,) * 3, (False,) * 3)
    if family == REGNET:
        blueprint: Blueprint | RegNetBlueprint = replace(REGNET_SMALL, input_size=48)
    else:
        blueprint = replace(SMALL, input_size=48, width_mult=0.25)
    count = sum(blueprint.layers)
    return Design(7, blueprint, Drawn((0.5,) * count, (0.5,) * count), (False,) * count, (False,) * count)

"""ONNX Runtime with its CUDA provider, and our operators for it."""

from __future__ import annotations

import ctypes
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laudc.backends.native import find_library
from laudc.backends.onnxruntime_cpu import OnnxRuntimeCpu
from laudc.backends.tensorrt.cuda import open_cuda
from laudc.errors import UserError

if TYPE_CHECKING:
    from laudc.devices.gpu import GpuRecord

LIBRARY = "liblaudc_ort_cuda.so"
OVERRIDE = "LAUDC_ORT_CUDA_LIBRARY"
_PROVIDER = "CUDAExecutionProvider"


class OnnxRuntimeCuda(OnnxRuntimeCpu):
    """The backend `onnxruntime-cuda`: runs of blocks on the GPU by our kernels, everything else by the provider."""

    name = "onnxruntime-cuda"
    providers = (_PROVIDER, "CPUExecutionProvider")

    def check_env(self) -> list[tuple[str, bool, str]]:
        """Runtime, its CUDA provider, library, and whether the one loads the other."""
        checks = [self._check_runtime()]
        if checks[0][1]:
            checks.append(self._check_provider())
        try:
            path, about = self.native_library_path(), self.native_abi()
            checks.append(("native CUDA library", True, f"{path} (ABI {about['abi']})"))
        except UserError as error:
            return [*checks, ("native CUDA library", False, str(error))]
        if all(ok for _, ok, _ in checks):
            checks.append(self._check_registration())
        return checks

    def _check_provider(self) -> tuple[str, bool, str]:
        import onnxruntime

        found = onnxruntime.get_available_providers()
        ok = _PROVIDER in found
        detail = "available" if ok else f"this onnxruntime has only {', '.join(found)}; pip install onnxruntime-gpu"
        return _PROVIDER, ok, detail

    def gpu(self) -> GpuRecord:
        """The GPU of this machine. Raises UserError when there is none."""
        return open_cuda().gpu()

    def native_library_path(self) -> Path:
        """Path of our operator library for CUDA. Raises UserError when it is missing."""
        return find_library(
            LIBRARY,
            OVERRIDE,
            f"the native library {LIBRARY} is missing",
            f"build it on a machine with CUDA's compiler (see docs/gpu.md), or set {OVERRIDE} to the file",
        )

    def native_abi(self) -> dict[str, Any]:
        """What our operator library for CUDA says about itself."""
        return _describe(self.native_library_path())


@functools.lru_cache(maxsize=4)
def _describe(path: Path) -> dict[str, Any]:
    try:
        function = ctypes.CDLL(str(path)).laudc_abi
    except (OSError, AttributeError) as error:
        raise UserError(f"{path} is not a usable laudc library", str(error), "build it again") from error
    function.restype = ctypes.c_char_p
    about: dict[str, Any] = json.loads(function().decode())
    return about

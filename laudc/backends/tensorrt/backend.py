"""The backend `tensorrt`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laudc.backends.interface import Availability
from laudc.backends.tensorrt import plugins
from laudc.backends.tensorrt.cuda import Cuda, open_cuda
from laudc.backends.tensorrt.runner import TensorRtRunner
from laudc.devices.tensorrt import major, release
from laudc.errors import InternalError, UserError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from laudc.devices.gpu import GpuRecord

MIN_VERSION = (8, 2)


class TensorRt:
    """Engines are compiled for the GPU of this machine only: `laudc.engine.finish` does it to an uncompiled bundle."""

    name = "tensorrt"

    def is_available(self) -> Availability:
        """Needs TensorRT 8.2 or newer, Polygraphy, cuda-python or PyCUDA, a GPU and our plugins."""
        problems = [f"{what}: {detail}" for what, ok, detail in self.check_env() if not ok]
        return Availability(not problems, "; ".join(problems))

    def version(self) -> str:
        """Release of TensorRT, such as "8.6.1". Raises ImportError when there is none."""
        import tensorrt

        return release(str(tensorrt.__version__))

    def check_env(self) -> list[tuple[str, bool, str]]:
        """TensorRT, Polygraphy, GPU and plugins, as far as one can be looked at without the others."""
        checks = [self._check_tensorrt(), _check_polygraphy(), _check("GPU", self._describe_gpu)]
        if checks[0][1]:
            checks.append(_check("TensorRT plugins", self._describe_plugins))
        return checks

    def _check_tensorrt(self) -> tuple[str, bool, str]:
        try:
            found = self.version()
        except Exception as error:  # a package without its libraries raises what it likes
            return "tensorrt", False, f"cannot be imported ({error}); pip install tensorrt, or JetPack's own"
        if tuple(int(part) for part in found.split(".")[:2]) < MIN_VERSION:
            return "tensorrt", False, f"{found} is too old, 8.2 is needed"
        return _check("tensorrt", lambda: f"{found} (plugins for TensorRT {major(found)})")

    def _describe_gpu(self) -> str:
        gpu = self.gpu()
        return f"{gpu.name}, sm {gpu.sm}, driver for CUDA {gpu.driver}"

    def _describe_plugins(self) -> str:
        path = self.native_library_path()
        about = plugins.check(path, self.version())
        return f"{path} (ABI {about['abi']}, sm {' '.join(map(str, about.get('sm', ())))})"

    def compile(self, scheduled: onnx.ModelProto) -> bytes:
        """The model as it is: what fits one device only is added when the bundle is finished there."""
        return scheduled.SerializeToString()

    def load(
        self,
        model: bytes,
        *,
        threads: int | None = None,
        weights: Mapping[str, NDArray[Any]] | None = None,
        weights_folder: Path | None = None,
        schedule: Sequence[Mapping[str, Any]] = (),
        spin_us: int | None = None,
    ) -> TensorRtRunner:
        """See `Backend.load`; `model` is a serialised engine, which holds its weights."""
        import tensorrt as trt

        path = self.native_library_path()
        plugins.load(path, trt)
        logger = trt.Logger(trt.Logger.ERROR)
        engine = trt.Runtime(logger).deserialize_cuda_engine(model)
        if engine is None:
            raise UserError(
                "TensorRT does not load the engine",
                plugins.last_error(path) or "its messages above say why",
                "build it again on this machine",
            )
        return TensorRtRunner(engine, self._cuda(), trt, schedule)

    def gpu(self) -> GpuRecord:
        """The GPU of this machine. Raises UserError when there is none, or no CUDA for Python."""
        return self._cuda().gpu()

    def _cuda(self) -> Cuda:
        return _shared_cuda()

    def native_library_path(self) -> Path:
        """Path of our plugin library. Raises UserError when it is missing."""
        return plugins.library_path(self.version())

    def native_abi(self) -> dict[str, Any]:
        """What our plugin library says about itself."""
        return plugins.check(self.native_library_path(), self.version())


@functools.lru_cache(maxsize=1)
def _shared_cuda() -> Cuda:
    return open_cuda()


def _check(what: str, describe: Callable[[], str]) -> tuple[str, bool, str]:
    try:
        return what, True, describe()
    except (UserError, InternalError) as error:
        return what, False, str(error)


def _check_polygraphy() -> tuple[str, bool, str]:
    try:
        import polygraphy
    except ImportError:
        return "polygraphy", False, "not installed; pip install polygraphy"
    return "polygraphy", True, str(polygraphy.__version__)

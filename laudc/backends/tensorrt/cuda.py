"""The little of CUDA that running an engine needs, over cuda-python or PyCUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from laudc.devices.gpu import GpuRecord
from laudc.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Cuda(Protocol):
    """Memory, one stream, its clock and its graphs. Addresses and handles are plain numbers."""

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the GPU."""

    def free(self, address: int) -> None:
        """Gives memory back."""

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Host to device, waiting for the end."""

    def download(self, array: NDArray[Any], address: int) -> None:
        """Device to host, waiting for the end."""

    @property
    def stream(self) -> int:
        """Handle of the stream that everything runs on."""

    def wait(self) -> None:
        """Until the stream is empty."""

    def elapsed_us(self, work: Callable[[], None]) -> float:
        """GPU time between the events before and after what `work` puts on the stream."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """A function that replays what `work` puts on the stream as one graph; None where that is not possible."""

    def gpu(self) -> GpuRecord:
        """The GPU and the software around it."""


def open_cuda() -> Cuda:
    """cuda-python if it is installed, else PyCUDA. Raises UserError when neither is, or there is no GPU."""
    for make in (CudaPython, PyCuda):
        try:
            return make()
        except ImportError:
            continue
    raise UserError(
        "CUDA cannot be used from Python",
        "neither cuda-python nor PyCUDA is installed",
        "pip install cuda-python, or pycuda on older systems",
    )


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


class CudaPython:
    """Over cuda-python's bindings of the runtime."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError:
            from cuda import cudart as runtime
        self._cuda: Any = runtime
        if self._call("cudaGetDeviceCount") < 1:
            raise UserError("there is no GPU here", "the driver lists none", "check the driver with nvidia-smi")
        self._stream = self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)
        self._events = (self._call("cudaEventCreate"), self._call("cudaEventCreate"))

    def _call(self, name: str, *arguments: Any) -> Any:
        """The function's result. Raises UserError with CUDA's reason when it fails."""
        status, *results = getattr(self._cuda, name)(*arguments)
        if int(status) != 0:
            reason = self._cuda.cudaGetErrorString(status)[1]
            text = reason.decode() if isinstance(reason, bytes) else str(reason)
            raise UserError(
                "the GPU cannot be used", f"{name}: {text}", "check GPU and driver with nvidia-smi, and its free memory"
            )
        return results[0] if results else None

    def allocate(self, size: int) -> int:
        """See `Cuda`."""
        return int(self._call("cudaMalloc", max(1, size)))

    def free(self, address: int) -> None:
        """See `Cuda`."""
        self._call("cudaFree", address)

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """See `Cuda`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self._stream)
        self.wait()

    def download(self, array: NDArray[Any], address: int) -> None:
        """See `Cuda`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self._stream)
        self.wait()

    @property
    def stream(self) -> int:
        """See `Cuda`."""
        return int(self._stream)

    def wait(self) -> None:
        """See `Cuda`."""
        self._call("cudaStreamSynchronize", self._stream)

    def elapsed_us(self, work: Callable[[], None]) -> float:
        """See `Cuda`."""
        start, stop = self._events
        self._call("cudaEventRecord", start, self._stream)
        work()
        self._call("cudaEventRecord", stop, self._stream)
        self._call("cudaEventSynchronize", stop)
        return float(self._call("cudaEventElapsedTime", start, stop)) * 1000

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """See `Cuda`."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        failed = False
        try:
            work()
        except Exception:  # whatever work cannot do while it is captured
            failed = True
        status, graph = self._cuda.cudaStreamEndCapture(self._stream)
        if failed or int(status) != 0:
            self._cuda.cudaGetLastError()
            return None
        executable = self._call("cudaGraphInstantiateWithFlags", graph, 0)  # the other has had two signatures
        return lambda: self._call("cudaGraphLaunch", executable, self._stream)

    def gpu(self) -> GpuRecord:
        """See `Cuda`."""
        device = self._call("cudaGetDevice")
        properties = self._call("cudaGetDeviceProperties", device)
        name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
        return GpuRecord(
            name=name.rstrip("\0"),
            sm=f"{properties.major}.{properties.minor}",
            cuda=_version(int(self._call("cudaRuntimeGetVersion"))),
            driver=_version(int(self._call("cudaDriverGetVersion"))),
        )


class PyCuda:
    """Over PyCUDA, which has no CUDA graphs."""

    def __init__(self) -> None:
        import pycuda.driver as driver

        self._cuda: Any = driver
        try:
            driver.init()
            if driver.Device.count() < 1:
                raise UserError("there is no GPU here", "the driver lists none", "check the driver with nvidia-smi")
            self._device = driver.Device(0)
            self._context = self._device.retain_primary_context()
            self._context.push()
        except driver.Error as error:
            raise UserError("the GPU cannot be used", str(error), "check GPU and driver with nvidia-smi") from error
        self._stream = driver.Stream()
        self._events = (driver.Event(), driver.Event())
        self._memory: dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        """See `Cuda`."""
        memory = self._cuda.mem_alloc(max(1, size))
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        """See `Cuda`."""
        self._memory.pop(address).free()

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """See `Cuda`."""
        self._cuda.memcpy_htod_async(address, array, self._stream)
        self.wait()

    def download(self, array: NDArray[Any], address: int) -> None:
        """See `Cuda`."""
        self._cuda.memcpy_dtoh_async(array, address, self._stream)
        self.wait()

    @property
    def stream(self) -> int:
        """See `Cuda`."""
        return int(self._stream.handle)

    def wait(self) -> None:
        """See `Cuda`."""
        self._stream.synchronize()

    def elapsed_us(self, work: Callable[[], None]) -> float:
        """See `Cuda`."""
        start, stop = self._events
        start.record(self._stream)
        work()
        stop.record(self._stream)
        stop.synchronize()
        return float(start.time_till(stop)) * 1000

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """See `Cuda`."""
        return None

    def gpu(self) -> GpuRecord:
        """See `Cuda`."""
        major, minor = self._device.compute_capability()
        runtime = self._cuda.get_version()
        return GpuRecord(
            name=self._device.name(),
            sm=f"{major}.{minor}",
            cuda=".".join(map(str, runtime[:2])),
            driver=_version(self._cuda.get_driver_version()),
        )

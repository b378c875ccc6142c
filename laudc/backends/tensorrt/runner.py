"""A loaded TensorRT engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laudc.backends.tensorrt.cuda import Cuda
from laudc.errors import UserError
from laudc.ops.margins import split_margins

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_COUNTS, _MARGINS = "laudc.counts.", "laudc.margins."


@dataclass
class _Buffer:
    """One input or output on the GPU, and its host side."""

    name: str
    is_input: bool
    host: Any
    address: int


class TensorRtRunner:
    """See `Runner`. `schedule` holds the manifest's blocks: the engine itself knows only tensors' names."""

    def __init__(self, engine: Any, cuda: Cuda, trt: Any, schedule: Sequence[Mapping[str, Any]]) -> None:
        self._engine, self._cuda, self._trt = engine, cuda, trt
        self._context = engine.create_execution_context()
        if self._context is None:
            raise UserError(
                "the engine cannot be made ready to run",
                "TensorRT made no execution context, usually for want of GPU memory",
                "end other programs that use the GPU, or build with a smaller --workspace",
            )
        self._records = [{"name": b["name"], **b["record"]} for b in schedule if b["execution"] == "sparse"]
        self._buffers: list[_Buffer] = []
        self._batch = 0
        self._graph: Callable[[], None] | None = None
        self._values: dict[str, NDArray[Any]] = {}

    @property
    def block_names(self) -> list[str]:
        """See `Runner.block_names`."""
        return [record["name"] for record in self._records]

    @property
    def block_times_ns(self) -> NDArray[np.int64] | None:
        """None: on a GPU nothing waits for a block to read a clock. `layer_times_us` says what TensorRT knows."""
        return None

    @property
    def last_counts(self) -> NDArray[np.int32] | None:
        """See `Runner.last_counts`."""
        return self._joined(_COUNTS)

    def run(self, images: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """See `Runner.run`."""
        self._load(images)
        self._enqueue()
        for buffer in self._buffers:
            if not buffer.is_input:
                self._cuda.download(buffer.host, buffer.address)
        self._values = {buffer.name: buffer.host.copy() for buffer in self._buffers if not buffer.is_input}
        return tuple(value for name, value in self._values.items() if not name.startswith("laudc."))

    def trace(self, images: NDArray[np.float32]) -> tuple[NDArray[Any], dict[str, dict[str, NDArray[Any]]]]:
        """See `Runner.trace`."""
        logits = self.run(images)[0]
        margins = self._joined(_MARGINS)
        return logits, {} if margins is None else split_margins(self._records, margins)

    def time_us(self, images: NDArray[np.float32]) -> float:
        """GPU time of one run between two CUDA events, copies left out; one CUDA graph where that is possible."""
        self._load(images)
        if self._graph is None:
            self._enqueue()  # the first run allocates; nothing may while a graph is captured
            self._cuda.wait()
            self._graph = self._cuda.capture(self._enqueue) or self._enqueue
        return self._cuda.elapsed_us(self._graph)

    @property
    def uses_graph(self) -> bool:
        """Whether `time_us` replays a CUDA graph."""
        return self._graph is not None and self._graph != self._enqueue

    def layer_times_us(self, runs: int) -> dict[str, list[float]]:
        """Time of each layer in `runs` runs over the last images, from TensorRT's profiler."""
        times: dict[str, list[float]] = {}

        class Profiler(self._trt.IProfiler):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times.setdefault(layer_name, []).append(ms * 1000)

        self._context.profiler = Profiler()
        for _ in range(runs):
            self._enqueue()
            self._cuda.wait()
        # A context cannot be told to stop profiling: the next runs get a fresh one.
        self._context = self._engine.create_execution_context()
        self._batch = 0
        return times

    def close(self) -> None:
        """Gives the GPU's memory back."""
        for buffer in self._buffers:
            self._cuda.free(buffer.address)
        self._buffers = []

    def _joined(self, prefix: str) -> Any:
        import numpy as np

        found = {name: value for name, value in self._values.items() if name.startswith(prefix)}
        # Run 10 comes after run 9.
        ordered = sorted(found, key=lambda name: int(name.removeprefix(prefix)))
        return np.concatenate([found[name] for name in ordered], axis=1) if ordered else None

    def _load(self, images: NDArray[np.float32]) -> None:
        import numpy as np

        if len(images) != self._batch:
            self._bind(images.shape)
        for buffer in self._buffers:
            if buffer.is_input:
                self._cuda.upload(buffer.address, np.ascontiguousarray(images, np.float32))

    def _bind(self, shape: tuple[int, ...]) -> None:
        """Shapes and memory for this number of images."""
        self.close()
        self._graph = None
        self._tensors = _NamedTensors if hasattr(self._engine, "num_io_tensors") else _NumberedTensors
        tensors = self._tensors(self._engine, self._context, self._trt)
        if not tensors.set_input_shape(shape):
            raise UserError(
                f"the engine cannot run a batch of {shape[0]}",
                "that is outside the sizes it was built for",
                f"use another batch, or build the engine again with --batch {shape[0]}",
            )
        for name, is_input, size, kind in tensors.describe():
            import numpy as np

            host = np.zeros(size, kind)
            self._buffers.append(_Buffer(name, is_input, host, self._cuda.allocate(host.nbytes)))
        tensors.set_addresses({buffer.name: buffer.address for buffer in self._buffers})
        self._launch = tensors.launcher([buffer.address for buffer in self._buffers])
        self._batch = shape[0]

    def _enqueue(self) -> None:
        if not self._launch(self._cuda.stream):
            raise UserError(
                "the engine failed while running",
                "TensorRT or a plugin refused the call",
                "run it again with -v for what TensorRT says",
            )


class _NamedTensors:
    """TensorRT 8.5 and later: tensors have names."""

    def __init__(self, engine: Any, context: Any, trt: Any) -> None:
        self._engine, self._context, self._trt = engine, context, trt
        self._names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]

    def _is_input(self, name: str) -> bool:
        return bool(self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT)

    def set_input_shape(self, shape: tuple[int, ...]) -> bool:
        return all(self._context.set_input_shape(name, shape) for name in self._names if self._is_input(name))

    def describe(self) -> list[tuple[str, bool, tuple[int, ...], Any]]:
        return [
            (
                name,
                self._is_input(name),
                tuple(self._context.get_tensor_shape(name)),
                self._trt.nptype(self._engine.get_tensor_dtype(name)),
            )
            for name in self._names
        ]

    def set_addresses(self, addresses: Mapping[str, int]) -> None:
        for name, address in addresses.items():
            self._context.set_tensor_address(name, address)

    def launcher(self, addresses: list[int]) -> Callable[[int], bool]:
        return lambda stream: bool(self._context.execute_async_v3(stream))


class _NumberedTensors:
    """TensorRT 8.2 to 8.4: bindings have numbers."""

    def __init__(self, engine: Any, context: Any, trt: Any) -> None:
        self._engine, self._context, self._trt = engine, context, trt

    def set_input_shape(self, shape: tuple[int, ...]) -> bool:
        inputs = [index for index in range(self._engine.num_bindings) if self._engine.binding_is_input(index)]
        return all(self._context.set_binding_shape(index, shape) for index in inputs)

    def describe(self) -> list[tuple[str, bool, tuple[int, ...], Any]]:
        return [
            (
                self._engine.get_binding_name(index),
                bool(self._engine.binding_is_input(index)),
                tuple(self._context.get_binding_shape(index)),
                self._trt.nptype(self._engine.get_binding_dtype(index)),
            )
            for index in range(self._engine.num_bindings)
        ]

    def set_addresses(self, addresses: Mapping[str, int]) -> None:
        """They go with every call."""

    def launcher(self, addresses: list[int]) -> Callable[[int], bool]:
        return lambda stream: bool(self._context.execute_async_v2(addresses, stream))

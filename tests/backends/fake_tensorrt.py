"""Stand-ins for `tensorrt`, `polygraphy` and cuda-python, as far as laudc uses them.

They check what they are handed and compute nothing: the tests that use them say that laudc calls these packages as
documented, not that an engine is right.
"""

from __future__ import annotations

import enum
import json
import sys
import types
from pathlib import Path

import numpy as np


class World:
    """What the stand-ins pretend, and what they were asked."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.major = int(version.split(".")[0])
        self.named = self.major > 8 or version >= "8.5"
        self.runs, self.blocks, self.margins = 1, 2, 5
        self.plugins_loaded: list[str] = []
        self.half = True
        self.can_capture = True
        self.fail = ""
        self.config: dict = {}
        self.network_options: dict = {}
        self.memory: dict[int, bytearray] = {}
        self.launches = 0
        self.graph_launches = 0


class LayerType(enum.Enum):
    """Kinds of layers."""

    CONVOLUTION = 0
    PLUGIN_V2 = 1
    PLUGIN_V3 = 2


class _Layer:
    def __init__(self, kind):
        self.type = kind


class _Network:
    def __init__(self, world):
        kind = LayerType.PLUGIN_V2 if world.major == 8 else LayerType.PLUGIN_V3
        plugins = world.runs if world.plugins_loaded else 0
        self.layers = [_Layer(LayerType.CONVOLUTION)] + [_Layer(kind)] * plugins

    @property
    def num_layers(self):
        return len(self.layers)

    def get_layer(self, index):
        return self.layers[index]


class _Inspector:
    def __init__(self, world):
        self.world = world

    def get_engine_information(self, kind):
        types_ = "Half" if self.world.half else "Row major linear FP32"
        output = {"Name": "x", "Format/Datatype": types_}
        return json.dumps({"Layers": [{"Name": "conv1", "LayerType": "CaskConvolution", "Outputs": [output]}]})


def _tensors(world):
    return [
        ("input", True, (3, 64, 64), np.float32),
        ("logits", False, (10,), np.float32),
        ("laudc.counts.0", False, (world.blocks, 4), np.int32),
        ("laudc.margins.0", False, (world.margins,), np.float32),
    ]


class _Context:
    def __init__(self, world):
        self.world, self.batch, self.profiler, self.addresses = world, 1, None, {}

    def _set(self, shape):
        self.batch = shape[0]
        return 1 <= shape[0] <= 4

    def set_input_shape(self, name, shape):
        return self._set(shape)

    def set_binding_shape(self, index, shape):
        return self._set(shape)

    def get_tensor_shape(self, name):
        return (self.batch, *next(inner for found, _, inner, _ in _tensors(self.world) if found == name))

    def get_binding_shape(self, index):
        return (self.batch, *_tensors(self.world)[index][2])

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        return self._run([self.addresses[name] for name, *_ in _tensors(self.world)])

    def execute_async_v2(self, addresses, stream):
        return self._run(addresses)

    def _run(self, addresses):
        """Class c scores the image's mean times c; odd images drop everything."""
        self.world.launches += 1
        if self.world.fail == "enqueue":
            return False
        images = np.frombuffer(self.world.memory[addresses[0]], np.float32).reshape(self.batch, -1)
        odd = np.arange(self.batch) % 2 == 1
        logits = images.mean(1, keepdims=True) * np.arange(10, dtype=np.float32)
        counts = np.where(odd[:, None, None], 0, np.int32(7)) + np.zeros((self.batch, self.world.blocks, 4), np.int32)
        margins = np.where(odd[:, None], -1, 1) * np.ones((self.batch, self.world.margins), np.float32)
        for address, values in zip(addresses[1:], (logits, counts, margins), strict=True):
            kind = np.int32 if values is counts else np.float32
            self.world.memory[address][:] = values.astype(kind).tobytes()
        if self.profiler is not None:
            for name in ("conv1", "layer1.0-layer2.0"):
                self.profiler.report_layer_time(name, 0.25)
        return True


class _Engine:
    def __init__(self, world):
        self.world = world
        if world.named:
            self.num_io_tensors = len(_tensors(world))
        else:
            self.num_bindings = len(_tensors(world))

    def create_execution_context(self):
        return None if self.world.fail == "context" else _Context(self.world)

    def create_engine_inspector(self):
        return _Inspector(self.world)

    def get_tensor_name(self, index):
        return _tensors(self.world)[index][0]

    get_binding_name = get_tensor_name

    def get_tensor_mode(self, name):
        return "input" if name == "input" else "output"

    def binding_is_input(self, index):
        return _tensors(self.world)[index][1]

    def get_tensor_dtype(self, name):
        return next(kind for found, _, _, kind in _tensors(self.world) if found == name)

    def get_binding_dtype(self, index):
        return _tensors(self.world)[index][3]


def make_tensorrt(world: World) -> types.ModuleType:
    """A module `tensorrt` of the world's version."""
    trt = types.ModuleType("tensorrt")
    trt.__version__ = f"{world.version}.6"
    trt.LayerType = LayerType
    trt.ProfilingVerbosity = types.SimpleNamespace(DETAILED="detailed")
    trt.MemoryPoolType = types.SimpleNamespace(WORKSPACE="workspace")
    trt.LayerInformationFormat = types.SimpleNamespace(JSON="json")
    trt.TensorIOMode = types.SimpleNamespace(INPUT="input", OUTPUT="output")
    trt.nptype = lambda kind: kind
    trt.IProfiler = object

    class Logger:
        ERROR = 1

        def __init__(self, severity):
            pass

    class Runtime:
        def __init__(self, logger):
            pass

        def deserialize_cuda_engine(self, plan):
            return _Engine(world) if plan == b"plan" and world.fail != "plan" else None

    class Registry:
        def load_library(self, path):
            if world.fail == "registry":
                return None
            world.plugins_loaded.append(path)
            return object()

    trt.Logger, trt.Runtime = Logger, Runtime
    trt.get_plugin_registry = Registry
    if world.major > 8:
        trt.IProgressMonitor = object
    return trt


def make_polygraphy(world: World) -> dict[str, types.ModuleType]:
    """The modules of Polygraphy that laudc imports."""

    class PolygraphyException(Exception):
        pass

    class Profile(dict):
        def add(self, name, min, opt, max):
            self[name] = (min, opt, max)
            return self

    def network_from_path(path, **options):
        folder = Path(path).parent
        assert (folder / "weights.bin").is_file() and Path(path).is_file()
        world.network_options = options
        return lambda: ("builder", _Network(world), "parser")

    def create_config(**options):
        world.config = options
        return "config"

    def engine_bytes(loaded, config, save_timing_cache):
        def build():
            if world.fail == "build":
                raise PolygraphyException("Invalid Engine. Please ensure the engine was built correctly")
            monitor = world.config.get("progress_monitor")
            if monitor is not None:
                monitor.phase_start("Building", None, 2)
                monitor.phase_start("Inner", "Building", 9)
                assert monitor.step_complete("Building", 0)
                monitor.step_complete("Inner", 0)
                monitor.phase_finish("Building")
            if save_timing_cache:
                Path(save_timing_cache).write_bytes(b"timings")
            return bytearray(b"plan")

        return build

    root, backend, trt, exception = (
        types.ModuleType(name)
        for name in ("polygraphy", "polygraphy.backend", "polygraphy.backend.trt", "polygraphy.exception")
    )
    root.__version__ = "0.49"
    trt.Profile, trt.CreateConfig, trt.EngineBytesFromNetwork = Profile, create_config, engine_bytes
    trt.NetworkFromOnnxPath = network_from_path
    trt.EngineFromBytes = lambda plan: lambda: _Engine(world)
    exception.PolygraphyException = PolygraphyException
    return {module.__name__: module for module in (root, backend, trt, exception)}


def make_cuda_python(world: World) -> dict[str, types.ModuleType]:
    """cuda-python's bindings of the runtime: memory is real, time is not."""
    runtime = types.ModuleType("cuda.bindings.runtime")
    runtime.cudaStreamNonBlocking = 1
    runtime.cudaMemcpyKind = types.SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    runtime.cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def malloc(size):
        if world.fail == "memory":
            return 2, 0
        address = 4096 * (len(world.memory) + 1)
        world.memory[address] = bytearray(size)
        return 0, address

    def memcpy(target, source, size, kind, stream):
        import ctypes

        if kind == 1:
            world.memory[target][:] = ctypes.string_at(source, size)
        else:
            ctypes.memmove(target, bytes(world.memory[source]), size)
        return (0,)

    def launch(graph, stream):
        world.graph_launches += 1
        return (0,)

    functions = {
        "cudaGetDeviceCount": lambda: (0, 0 if world.fail == "gpu" else 1),
        "cudaGetErrorString": lambda status: (0, b"out of memory"),
        "cudaStreamCreateWithFlags": lambda flags: (0, 77),
        "cudaEventCreate": lambda: (0, object()),
        "cudaMalloc": malloc,
        "cudaFree": lambda address: (0,),
        "cudaMemcpyAsync": memcpy,
        "cudaStreamSynchronize": lambda stream: (0,),
        "cudaEventRecord": lambda event, stream: (0,),
        "cudaEventSynchronize": lambda event: (0,),
        "cudaEventElapsedTime": lambda start, stop: (0, 1.5),
        "cudaStreamBeginCapture": lambda stream, mode: (0,),
        "cudaStreamEndCapture": lambda stream: (0, "graph") if world.can_capture else (900, None),
        "cudaGetLastError": lambda: (0,),
        "cudaGraphInstantiateWithFlags": lambda graph, flags: (0, "executable"),
        "cudaGraphLaunch": launch,
        "cudaGetDevice": lambda: (0, 0),
        "cudaGetDeviceProperties": lambda device: (
            0,
            types.SimpleNamespace(name=b"NVIDIA Test\0\0", major=8, minor=6),
        ),
        "cudaRuntimeGetVersion": lambda: (0, 12040),
        "cudaDriverGetVersion": lambda: (0, 12060),
    }
    for name, function in functions.items():
        setattr(runtime, name, function)
    root, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    bindings.runtime = runtime
    return {"cuda": root, "cuda.bindings": bindings, "cuda.bindings.runtime": runtime}


def install(world: World, monkeypatch) -> None:
    """Makes the stand-ins what `import` finds."""
    modules = {"tensorrt": make_tensorrt(world), **make_polygraphy(world), **make_cuda_python(world)}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)

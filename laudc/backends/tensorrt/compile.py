"""A scheduled model to a serialised engine, through Polygraphy."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laudc.backends.tensorrt import plugins
from laudc.backends.tensorrt.layers import parse_layers, require_precision
from laudc.devices.tensorrt import major
from laudc.errors import UserError

Progress = Callable[[str], None]


@dataclass(frozen=True)
class CompileRequest:
    """What is wanted of TensorRT.

    `files`: the model and its weights by the names that they know each other by, `model` being the model's.
    `input_shape` has -1 for a batch that varies between the first and the last of `batch` (smallest, usual, largest).
    `runs`: how many nodes must become plugin layers. `timing_cache`: what TensorRT measured before; read if it is there
    and fits, written in any case.
    """

    files: Mapping[str, bytes]
    model: str
    input_name: str
    input_shape: tuple[int, ...]
    batch: tuple[int, ...]
    workspace_mib: int
    precision: str
    runs: int
    timing_cache: str | None = None


def compile_plan(
    request: CompileRequest, plugin: Path, *, progress: Progress = lambda step: None
) -> bytes:
    """The engine for the GPU of this machine; the model must have been lowered for this TensorRT's major.

    Raises:
        UserError: TensorRT or the plugins refuse the model, a run did not become a plugin, or the engine has another
            precision than was asked for.
    """
    import tensorrt as trt
    from polygraphy.backend.trt import CreateConfig, EngineBytesFromNetwork, NetworkFromOnnxPath

    plugins.load(plugin, trt)
    with tempfile.TemporaryDirectory(prefix="laudc-") as folder, _explained(plugin):
        for name, content in request.files.items():
            (Path(folder) / name).write_bytes(content)
        progress("reading the model")
        loaded = NetworkFromOnnxPath(str(Path(folder) / request.model), **_network_options(trt))()
        require_plugins(loaded[1], request.runs, trt, plugin)
        config = CreateConfig(**config_options(trt, request, progress))
        progress("compiling; this can take many minutes")
        plan = bytes(EngineBytesFromNetwork(loaded, config=config, save_timing_cache=request.timing_cache)())
    progress("checking the engine")
    _check_precision(plan, request.precision, trt)
    return plan


def _network_options(trt: Any) -> dict[str, Any]:
    """From TensorRT 10 on the graph says every type; TensorRT 11 knows nothing else and takes no option for it."""
    return {"strongly_typed": True} if major(trt.__version__) == 10 else {}


def config_options(trt: Any, request: CompileRequest, progress: Progress) -> dict[str, Any]:
    """Arguments of Polygraphy's CreateConfig for this TensorRT."""
    options: dict[str, Any] = {
        "profiles": _profiles(request),
        "tf32": request.precision != "fp32",
        "profiling_verbosity": trt.ProfilingVerbosity.DETAILED,
        "memory_pool_limits": {trt.MemoryPoolType.WORKSPACE: request.workspace_mib << 20},
    }
    if major(trt.__version__) == 8:
        options["fp16"] = request.precision == "fp16"
    if request.timing_cache is not None and Path(request.timing_cache).is_file():
        options["load_timing_cache"] = request.timing_cache
    if hasattr(trt, "IProgressMonitor"):
        options["progress_monitor"] = _monitor(trt, progress)
    return options


def _profiles(request: CompileRequest) -> list[Any]:
    from polygraphy.backend.trt import Profile

    if request.input_shape[0] >= 0:
        return []
    least, usual, most = ((batch, *request.input_shape[1:]) for batch in request.batch)
    return [Profile().add(request.input_name, min=least, opt=usual, max=most)]


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes the outermost phase's steps on."""

        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps
                progress(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps:
                progress(f"{phase_name} {step + 1}/{self.steps[phase_name]}")
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()


def require_plugins(network: Any, runs: int, trt: Any, plugin: Path) -> None:
    """Raises UserError unless at least `runs` layers of the parsed network are plugins."""
    kinds = {getattr(trt.LayerType, name, None) for name in ("PLUGIN_V2", "PLUGIN_V3")} - {None}
    found = sum(network.get_layer(index).type in kinds for index in range(network.num_layers))
    if found < runs:
        raise UserError(
            "TensorRT did not use the plugins",
            plugins.last_error(plugin) or f"it made {found} plugin layers of {runs} runs of blocks",
            "check the plugin library with 'laudc doctor'",
        )


def _check_precision(plan: bytes, precision: str, trt: Any) -> None:
    from polygraphy.backend.trt import EngineFromBytes

    inspector = EngineFromBytes(plan)().create_engine_inspector()
    require_precision(parse_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON)), precision)


@contextmanager
def _explained(plugin: Path) -> Iterator[None]:
    """Polygraphy's errors in our form, with the plugins' own reason first."""
    from polygraphy.exception import PolygraphyException

    try:
        yield
    except PolygraphyException as error:
        reason = plugins.last_error(plugin) or str(error)
        raise UserError(
            "TensorRT could not compile the engine",
            reason,
            "run it again with -v for all that TensorRT says; if memory is short, use a smaller --workspace",
        ) from error

"""ONNX Runtime on the CPU, with our operators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laudc.backends.interface import Availability, join_outputs
from laudc.backends.native import library_abi, library_path
from laudc.devices.host import threads_per_call
from laudc.errors import UserError
from laudc.ops import names
from laudc.ops.margins import split_margins
from laudc.ops.scheduled import RUNS_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import onnx
    import onnxruntime
    from numpy.typing import NDArray

    from laudc.devices.gpu import GpuRecord

MIN_VERSION = (1, 20)
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
# How long threads of a session wait busily for more work. Older runtimes do not know it, and do not mind.
SPIN_OPTION = "session.intra_op.spin_duration_us"


class OnnxRuntimeCpu:
    """The backend `onnxruntime`."""

    name = "onnxruntime"
    providers: tuple[str, ...] = ("CPUExecutionProvider",)

    def is_available(self) -> Availability:
        """Needs onnxruntime 1.20 or newer and our library."""
        problems = [f"{what}: {detail}" for what, ok, detail in self.check_env() if not ok]
        return Availability(not problems, "; ".join(problems))

    def version(self) -> str:
        """Version of the onnxruntime package."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def check_env(self) -> list[tuple[str, bool, str]]:
        """Runtime, library, and whether the one loads the other."""
        checks = [self._check_runtime()]
        try:
            path, abi = library_path(), library_abi()
            checks.append(("native library", True, f"{path} (ABI {abi['abi']}, {abi['active']} kernels)"))
        except UserError as error:
            return [*checks, ("native library", False, str(error))]
        if checks[0][1]:
            checks.append(self._check_registration())
        return checks

    def _check_runtime(self) -> tuple[str, bool, str]:
        try:
            found = self.version()
        except ImportError:
            return "onnxruntime", False, "not installed; pip install onnxruntime"
        if tuple(int(part) for part in found.split("+")[0].split(".")[:2]) < MIN_VERSION:
            return "onnxruntime", False, f"{found} is too old; pip install -U onnxruntime"
        return "onnxruntime", True, found

    def _check_registration(self) -> tuple[str, bool, str]:
        try:
            self._session_options(1)
        except Exception as error:  # the runtime raises several types of its own
            return "operators", False, f"onnxruntime does not load the library: {error}"
        return "operators", True, "registered in onnxruntime"

    def compile(self, scheduled: onnx.ModelProto) -> bytes:
        """ONNX Runtime loads the scheduled model itself, so compiling is serialising."""
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
    ) -> OrtRunner:
        """A session over the model, all optimisations on. See `Backend.load`."""
        import onnxruntime

        options = self._session_options(threads)
        if spin_us is not None:
            options.add_session_config_entry(SPIN_OPTION, str(spin_us))
        if weights_folder is not None:
            options.add_session_config_entry(_WEIGHTS_FOLDER, str(weights_folder))
        make_value = onnxruntime.OrtValue.ortvalue_from_numpy
        values = {name: make_value(array) for name, array in (weights or {}).items()}
        for name, value in values.items():
            options.add_initializer(name, value)
        session = onnxruntime.InferenceSession(model, options, providers=list(self.providers))
        return OrtRunner(session, values)

    def _session_options(self, threads: int | None) -> onnxruntime.SessionOptions:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.register_custom_ops_library(str(self.native_library_path()))
        options.log_severity_level = 3
        # Left to itself, onnxruntime counts cores that this process may not use, and ties its threads to cores but not
        # the caller, which then may share one with them for seconds.
        options.intra_op_num_threads = threads_per_call(threads)
        return options

    def gpu(self) -> GpuRecord | None:
        """None: nothing of it runs on one."""
        return None

    def native_library_path(self) -> Path:
        """Path of our operator library."""
        return library_path()

    def native_abi(self) -> dict[str, Any]:
        """What our operator library says about itself."""
        return library_abi()


class OrtRunner:
    """A session and the meaning of its extra outputs."""

    def __init__(
        self, session: onnxruntime.InferenceSession, weights: Mapping[str, onnxruntime.OrtValue] | None = None
    ) -> None:
        self.session = session
        # The session uses the weights' memory but does not own it.
        self._weights = weights
        self._input = session.get_inputs()[0].name
        self._runs = json.loads(session.get_modelmeta().custom_metadata_map.get(RUNS_KEY, "[]"))
        described = {name for run in self._runs for name in _described_outputs(run)}
        self._results = [output.name for output in session.get_outputs() if output.name not in described]
        self._sparse = [run for run in self._runs if "blocks" in run]
        self._last: dict[str, NDArray[Any]] = {}

    @property
    def block_names(self) -> list[str]:
        """Names of the blocks our kernels run, in order."""
        return [block["name"] for run in self._sparse for block in run["blocks"]]

    def run(self, images: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """The network's outputs, logits first."""
        wanted = [run[key] for run in self._sparse for key in ("counts", "block_ns") if key in run]
        values = self.session.run([*self._results, *wanted], {self._input: images})
        self._last = dict(zip(wanted, values[len(self._results) :], strict=True))
        return tuple(values[: len(self._results)])

    @property
    def last_counts(self) -> NDArray[np.int32] | None:
        """See `Runner.last_counts`."""
        return self._joined("counts", axis=1)

    @property
    def block_times_ns(self) -> NDArray[np.int64] | None:
        """See `Runner.block_times_ns`."""
        # On a GPU nothing waits for a block to read a clock.
        timed = all("block_ns" in run for run in self._sparse)
        return self._joined("block_ns", axis=0) if timed else None

    def _joined(self, key: str, axis: int) -> Any:
        import numpy as np

        if not self._last:
            return None
        return np.concatenate([self._last[run[key]] for run in self._sparse], axis=axis)

    def trace(self, images: NDArray[np.float32]) -> tuple[NDArray[Any], dict[str, dict[str, NDArray[Any]]]]:
        """See `Runner.trace`. Blocks left to the runtime have masks only: their margins are given as ±1."""
        names = [output.name for output in self.session.get_outputs()]
        values = dict(zip(names, self.session.run(names, {self._input: images}), strict=True))
        blocks: dict[str, dict[str, NDArray[Any]]] = {}
        for run in self._runs:
            if "dense" in run:
                blocks[run["dense"]["name"]] = _masks_as_margins(run["dense"], values)
            else:
                blocks.update(split_margins(run["blocks"], values[run["margins"]]))
        return join_outputs([values[name] for name in self._results]), blocks


def _described_outputs(run: dict[str, Any]) -> list[str]:
    if "dense" in run:
        return [value for key, value in run["dense"].items() if key.endswith("_mask")]
    return [run[key] for key in ("counts", "margins", "block_ns") if key in run]


def _masks_as_margins(entry: dict[str, Any], values: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {
        f"{kind}_margin": values[entry[f"{kind}_mask"]] * 2 - 1
        for kind in names.KINDS
        if f"{kind}_mask" in entry
    }

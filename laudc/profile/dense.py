"""The dense network in onnxruntime with all its optimisations: what an engine is compared with."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray


class DenseNetwork:
    """The dense twin of a portable model, ready to run with `threads` threads, which wait busily for `spin_us` after a
    call."""

    def __init__(self, portable: onnx.ModelProto, threads: int, *, spin_us: int) -> None:
        from laudc.export import dense_twin

        self._twin = dense_twin(portable).SerializeToString()
        self._threads = threads
        self._spin_us = spin_us
        self._input = portable.graph.input[0].name
        self._session = self._open()

    def __call__(self, images: NDArray[np.float32]) -> Any:
        return self._session.run(None, {self._input: images})

    def _open(self, profile_prefix: str | None = None) -> Any:
        import onnxruntime

        from laudc.backends.onnxruntime_cpu import SPIN_OPTION

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        options.add_session_config_entry(SPIN_OPTION, str(self._spin_us))
        if profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile_prefix
        return onnxruntime.InferenceSession(self._twin, options, providers=["CPUExecutionProvider"])

    def block_times_us(
        self, batches: Iterable[NDArray[np.float32]], blocks: Sequence[str], warmup: int
    ) -> list[dict[str, float]]:
        """Time of each block in each of `batches`, from a session of its own with the runtime's profiler on.

        The first `warmup` batches are run but left out. A block whose nodes the runtime renamed beyond
        recognition is missing from the result.
        """
        with tempfile.TemporaryDirectory() as folder:
            session = self._open(str(Path(folder) / "dense"))
            for images in batches:
                session.run(None, {self._input: images})
            events = json.loads(Path(session.end_profiling()).read_text())
        return split_by_block(events, blocks)[warmup:]


def split_by_block(events: Iterable[dict[str, Any]], blocks: Sequence[str]) -> list[dict[str, float]]:
    """Sums the runtime's node times by block, one mapping per call.

    A fused node is called after a value it makes, so its name begins with the block's. Layout changes have no
    name of their own and belong to the block around them.
    """
    calls: list[dict[str, float]] = []
    current: str | None = None
    previous = -1
    order = {name: index for index, name in enumerate(blocks)}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        block = _block_of(name, order)
        if block is not None:
            if order[block] < previous or not calls:
                calls.append({})
            current, previous = block, order[block]
        elif not name.startswith("Reorder"):
            current = None
        if current is not None:
            calls[-1][current] = calls[-1].get(current, 0.0) + float(event["dur"])
    return calls


def _block_of(node: str, blocks: dict[str, int]) -> str | None:
    """The block whose module path the node's name begins with, as in "layer1.0.conv2_nchwc_kernel_time"."""
    parts = node.split(".")
    return next((name for i in range(len(parts), 0, -1) if (name := ".".join(parts[:i])) in blocks), None)

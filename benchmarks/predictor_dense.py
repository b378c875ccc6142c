"""Every block of a network scheduled dense, as onnxruntime computes it, timed by the runtime's own profiler."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from onnx import inliner

from laudc.calibrate.pinning import caller_pinned, load_pinned
from laudc.schedule import lower, make_plan

if TYPE_CHECKING:
    import onnx

DENSE = "dense"
_CALLS = 12
_WARMUP = 3
_BLOCK = re.compile(r"block(\d+)_")


class DenseBlocks:
    """A session of the network with all blocks dense, masks applied afterwards. `rounds_ns`: after the block has been
    left, per round the median time of every block."""

    def __init__(self, portable: onnx.ModelProto, blocks: Sequence[str], threads: int) -> None:
        inlined = inliner.inline_local_functions(lower(portable, make_plan(portable, choice="dense")))
        self._model = _named_by_block(inlined, blocks).SerializeToString()
        self._blocks = len(blocks)
        self._threads = threads
        self.rounds_ns: list[np.ndarray] = []

    def __enter__(self) -> DenseBlocks:
        self._folder = tempfile.TemporaryDirectory()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._folder.name) / DENSE)
        providers = ["CPUExecutionProvider"]
        self._session = load_pinned(lambda: onnxruntime.InferenceSession(self._model, options, providers=providers))
        return self

    def run(self, images: np.ndarray) -> None:
        """One round."""
        with caller_pinned():
            for _ in range(_CALLS):
                self._session.run(None, {self._session.get_inputs()[0].name: images})

    def __exit__(self, *raised: Any) -> None:
        events = json.loads(Path(self._session.end_profiling()).read_text())
        del self._session
        self._folder.cleanup()
        rounds = _times_us(events, self._blocks).reshape(-1, _CALLS, self._blocks)[:, _WARMUP:]
        self.rounds_ns = list(np.median(rounds, axis=1) * 1e3)


def _named_by_block(model: onnx.ModelProto, blocks: Sequence[str]) -> onnx.ModelProto:
    """Gives nodes and values names that tell the block, after which the runtime names what it fuses.

    Nodes of one block stand together; the last one makes the value that the block is named after.
    """
    ends = {f"{name}.output": index for index, name in enumerate(blocks)}
    made: dict[str, str] = {}
    left = list(reversed(model.graph.node))
    index = len(blocks)
    for number, node in enumerate(left):
        index = next((ends[name] for name in node.output if name in ends), index)
        node.name = f"block{index}_{number}"
        made.update({name: f"{node.name}_{at}" for at, name in enumerate(node.output)})
    kept = {value.name for value in model.graph.output}
    for node in left:
        for values in (node.input, node.output):
            values[:] = [made.get(name, name) if name not in kept else name for name in values]
    return model


def _times_us(events: Sequence[dict[str, Any]], blocks: int) -> np.ndarray:
    """(calls, blocks). What the runtime adds without a name belongs to the block before it."""
    starts = [event["ts"] for event in events if event["name"] == "model_run"]
    times = np.zeros((len(starts), blocks + 1))
    index = blocks
    for event in sorted(events, key=lambda one: one["ts"]):
        if event["cat"] != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        named = _BLOCK.search(event["name"])
        index = int(named[1]) if named else index
        times[np.searchsorted(starts, event["ts"], side="right") - 1, index] += event["dur"]
    return times[:, :blocks]

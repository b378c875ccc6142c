"""Models that no honest scheduler wrote: each is refused with our message, none brings the process down.

All run in one child process that reports after each, so that a crash shows as a missing report.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple, replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from laudc.ops.packing import BlockWeights, pack_block, pack_stem
from laudc.ops.scheduled import ABI_VERSION, BlockRecord, encode_blocks
from tests.native.support import run_model, session_of, stem_model

Array = np.ndarray
RECORD = BlockRecord(cin=8, width=4, cout=8, stride=1, hin=5, win=6, projection=0)
X_SHAPE = (2, 5, 6, 8)
RUN, STEM = "laudc BottleneckRun: ", "laudc StemConvPool: "


def _packed(record: BlockRecord = RECORD) -> Array:
    zeros = np.zeros
    weights = BlockWeights(
        conv1=(zeros((record.width, record.cin, 1, 1), np.float32), zeros(record.width, np.float32)),
        conv2=(zeros((record.width, record.width, 3, 3), np.float32), zeros(record.width, np.float32)),
        conv3=(zeros((record.cout, record.width, 1, 1), np.float32), zeros(record.cout, np.float32)),
    )
    return pack_block(record, weights)


def _stem_packed() -> Array:
    return pack_stem(np.zeros((8, 3, 7, 7), np.float32), np.zeros(8, np.float32), 16)


def _run(x_shape: tuple[int, ...] | None = None, packed: Array | None = None, **changes: object) -> onnx.ModelProto:
    return run_model([RECORD], [_packed() if packed is None else packed], x_shape, **changes)


def _stem(packed: Array | None = None, x_shape: tuple[int, ...] | None = None, **changes: object) -> onnx.ModelProto:
    attributes = {"abi": ABI_VERSION, "channels": 8, "panel": 16, **changes}
    shape = x_shape or ("batch", 3, "h", "w")
    return stem_model(_stem_packed() if packed is None else packed, shape, **attributes)


def _with_field(field: str, value: int) -> onnx.ModelProto:
    return _run(blocks=encode_blocks([replace(RECORD, **{field: value})]))


def _not_constant() -> onnx.ModelProto:
    model = _run()
    del model.graph.initializer[:]
    size = _packed().size
    model.graph.input.append(helper.make_tensor_value_info("packed.0", TensorProto.FLOAT, [size]))
    return model


def _overridable() -> onnx.ModelProto:
    """An initializer that is also an input: the caller may replace it, so its size is not known."""
    model = _run()
    model.graph.input.append(helper.make_tensor_value_info("packed.0", TensorProto.FLOAT, ["any"]))
    return model


Case = tuple[Callable[[], onnx.ModelProto], tuple[int, ...], str]

CASES: dict[str, Case] = {
    "good run": (_run, X_SHAPE, ""),
    "good stem": (_stem, (1, 3, 20, 30), ""),
    "future abi": (lambda: _run(abi=ABI_VERSION + 1), X_SHAPE, RUN + "the model was scheduled for laudc ABI"),
    "no abi": (lambda: _run(abi=None), X_SHAPE, RUN + "attribute 'abi' is missing"),
    "no blocks": (lambda: _run(blocks=None), X_SHAPE, RUN + "attribute 'blocks' is missing"),
    "empty blocks": (lambda: _run(blocks=[]), X_SHAPE, "blocks"),
    "truncated blocks": (
        lambda: _run(blocks=list(astuple(RECORD))[:-1]),
        X_SHAPE,
        RUN + "the blocks attribute holds 15",
    ),
    "field out of range": (lambda: _with_field("stride", 3), X_SHAPE, RUN + "block 0: stride is 3"),
    "negative field": (lambda: _with_field("cin", -1), X_SHAPE, RUN + "block 0: cin is -1"),
    "huge field": (lambda: _with_field("width", 2**62), X_SHAPE, RUN + "block 0: width is"),
    "inconsistent": (lambda: _with_field("mask_groups", 3), X_SHAPE, RUN + "block 0: spatial mask does not fit"),
    "unknown masker": (lambda: _with_field("channel_masker", 9), X_SHAPE, RUN + "block 0: channel_masker is 9"),
    "more blocks than weights": (
        lambda: _run(blocks=encode_blocks([RECORD, RECORD])),
        X_SHAPE,
        RUN + "2 blocks but 2 inputs",
    ),
    "more weights than blocks": (
        lambda: run_model([RECORD], [_packed(), _packed()]),
        X_SHAPE,
        RUN + "1 blocks but 3 inputs",
    ),
    "weights too short": (lambda: _run(packed=_packed()[:-1]), X_SHAPE, RUN + "block 0: packed weights hold"),
    "weights too long": (lambda: _run(packed=np.append(_packed(), np.float32(0))), X_SHAPE, RUN + "block 0: packed"),
    "no weights": (lambda: _run(packed=_packed()[:0]), X_SHAPE, RUN + "block 0: packed weights hold 0"),
    "weights as input": (_not_constant, X_SHAPE, RUN + "packed weights 0 must be an initializer"),
    "weights as default": (_overridable, X_SHAPE, RUN + "packed weights 0 must be an initializer"),
    "weights of another type": (lambda: _run(packed=_packed().astype(np.float64)), X_SHAPE, "double"),
    "other height": (lambda: _run(("b", "h", "w", "c")), (2, 6, 6, 8), RUN + "X must be (batch, 5, 6, 8)"),
    "other channels": (lambda: _run(("b", "h", "w", "c")), (2, 5, 6, 9), RUN + "X must be (batch, 5, 6, 8)"),
    "other rank": (lambda: _run(("b", "h", "w")), (2, 5, 48), RUN + "X must be (batch, 5, 6, 8)"),
    "stem of a future abi": (lambda: _stem(abi=7), (1, 3, 8, 8), STEM + "the model was scheduled for laudc ABI 7"),
    "stem without channels": (lambda: _stem(channels=0), (1, 3, 8, 8), STEM + "channels out of range"),
    "stem of too many channels": (lambda: _stem(channels=2**40), (1, 3, 8, 8), STEM + "channels out of range"),
    "stem panel": (lambda: _stem(panel=17), (1, 3, 8, 8), STEM + "panel out of range"),
    "stem panel too wide": (lambda: _stem(panel=2**33), (1, 3, 8, 8), STEM + "panel out of range"),
    "stem weights": (lambda: _stem(_stem_packed()[:-1]), (1, 3, 8, 8), STEM + "packed weights hold"),
    "stem of four colours": (lambda: _stem(x_shape=("b", "c", "h", "w")), (1, 4, 8, 8), STEM + "X must be (batch, 3,"),
    "stem of no picture": (lambda: _stem(), (1, 3, 0, 8), STEM + "image sides must be"),
    "stem of a plane": (lambda: _stem(x_shape=("h", "w")), (8, 8), STEM + "X must be (batch, 3,"),
}


def child() -> None:
    """Runs every case; prints one line of JSON each."""
    for name, (make, shape, _) in CASES.items():
        try:
            found = session_of(make()).run(None, {"X": np.ones(shape, np.float32)})
            message = "" if all(np.isfinite(value).all() for value in found) else "not finite"
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
        print(json.dumps({"name": name, "message": message}), flush=True)


@functools.cache
def _reports() -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", "from tests.native.test_malformed import child; child()"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = {report["name"]: report["message"] for report in reports}
    missing = next((name for name in CASES if name not in found), None)
    if missing is not None:
        found[missing] = f"the process ended with {done.returncode}: {done.stderr[-2000:]}"
    return found


@pytest.mark.parametrize("name", CASES)
def test_is_refused_with_our_words(name: str) -> None:
    message = _reports().get(name, "not reached: an earlier case brought the process down")
    wanted = CASES[name][2]
    if not wanted:
        assert message == ""
    else:
        assert wanted in message
        assert "the process ended" not in message

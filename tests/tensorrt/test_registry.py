"""The plugin library in a real TensorRT registry (no GPU is needed).

LAUDC_TENSORRT_PLUGIN names the library, built for the major version that is installed; skipped without it. From PyPI:
the lean runtimes of TensorRT 10 and 11, and the whole of 8.6.0 (Python 3.8 to 3.10, with nvidia-cudnn-cu12 below 9).
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from laudc.ops.scheduled import ABI_VERSION, REGNET_RUN_OP, RUN_OP, BlockRecord, RegNetRecord, encode_blocks
from laudc.ops.scheduled_vit import VIT_RUN_OP, VitRecord, encode_vit_blocks

LIBRARY = os.environ.get("LAUDC_TENSORRT_PLUGIN")
BOTTLENECK = {"cin": 8, "width": 4, "cout": 8, "stride": 1, "hin": 5, "win": 6, "projection": 0}
REGNET = {**BOTTLENECK, "width": 8, "group": 2, "squeeze": 3}
VIT = {"tokens": 5, "dim": 8, "heads": 2, "hidden": 16, "token_policy": 1}


@dataclass(frozen=True)
class Operator:
    """One scheduled op: a run of it, and runs that it refuses with the reason."""

    name: str
    blocks: list[int]
    refused: tuple[tuple[list[int], str], ...]


def _bottleneck(**changes: int) -> list[int]:
    return encode_blocks([BlockRecord(**{**BOTTLENECK, **changes})])


def _regnet(**changes: int) -> list[int]:
    return encode_blocks([RegNetRecord(**{**REGNET, **changes})])


def _vit(**changes: int) -> list[int]:
    return encode_vit_blocks([VitRecord(**{**VIT, **changes})])


OPERATORS = (
    Operator(
        RUN_OP,
        _bottleneck() + _bottleneck(channel_groups=2, channel_masker=1),
        ((_bottleneck(stride=3), "block 0: stride is 3"), (_bottleneck(conv2_algorithm=1), "Winograd")),
    ),
    Operator(
        REGNET_RUN_OP,
        _regnet() + _regnet(mask_groups=1, mask_h=3, mask_w=3, se_pool=1),
        ((_regnet(stride=3), "block 0: stride is 3"), (_regnet(group=3), "group does not divide width")),
    ),
    Operator(
        VIT_RUN_OP,
        _vit() + _vit(head_policy=1, layer_policy=1),
        ((_vit(tokens=1), "block 0: tokens is 1"), (_vit() + _vit(tokens=6), "block 1: its input is not the output")),
    ),
)
OTHER = {one.name: OPERATORS[place - 1] for place, one in enumerate(OPERATORS)}


@pytest.fixture(scope="module", params=OPERATORS, ids=lambda one: one.name)
def operator(request: pytest.FixtureRequest) -> Any:
    """Every scheduled op that the library has a plugin for."""
    return request.param


@pytest.fixture(scope="module")
def trt() -> Any:
    """TensorRT's Python module, full or lean."""
    if not LIBRARY:
        pytest.skip("LAUDC_TENSORRT_PLUGIN is not set")
    for name in ("tensorrt", "tensorrt_lean_bindings", "tensorrt_lean"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    pytest.skip("TensorRT is not installed: pip install tensorrt-lean-cu13-bindings tensorrt-lean-cu13-libs")


class V2:
    """TensorRT 8: plugins are restored from bytes."""

    def __init__(self, trt: Any, registry: Any, op: str) -> None:
        self._trt, self._op = trt, op
        self.find = registry.get_plugin_creator
        self._creator = self.find(op, "1", "laudc")
        assert self._creator is not None

    def create(self, fields: Any) -> Any:
        """From the attributes of a node."""
        return self._creator.create_plugin("layer", fields)

    def restore(self, state: bytes) -> Any:
        """From what an engine holds."""
        return self._creator.deserialize_plugin("layer", state)

    def check(self, made: Any, state: bytes) -> None:
        """What the plugin says about itself, that it is stored as `state`, and that this makes the same plugin."""
        assert (made.plugin_type, made.plugin_version, made.plugin_namespace) == (self._op, "1", "laudc")
        assert made.num_outputs == 3
        assert made.serialization_size == len(state)
        for same in (made, made.clone(), self.restore(state)):
            assert bytes(same.serialize()) == state


class V3:
    """TensorRT 10 and 11: plugins are restored from fields."""

    def __init__(self, trt: Any, registry: Any, op: str) -> None:
        self._trt, self._op = trt, op
        self.find = registry.get_creator
        self._creator = self.find(op, "1", "laudc")
        assert self._creator is not None

    def create(self, fields: Any) -> Any:
        """See `V2`."""
        return self._creator.create_plugin("layer", fields, self._trt.TensorRTPhase.BUILD)

    def restore(self, state: bytes) -> Any:
        """See `V2`."""
        _KEPT.append(state)
        field = self._trt.PluginField("state", state, self._trt.PluginFieldType.UNKNOWN)
        fields = self._trt.PluginFieldCollection([field])
        return self._creator.create_plugin("layer", fields, self._trt.TensorRTPhase.RUNTIME)

    def check(self, made: Any, state: bytes) -> None:
        """See `V2`. Python cannot ask for the state itself, but the name in the timing cache has its fingerprint."""
        core = made.get_capability_interface(self._trt.PluginCapabilityType.CORE)
        build = made.get_capability_interface(self._trt.PluginCapabilityType.BUILD)
        assert (core.plugin_name, core.plugin_version, core.plugin_namespace) == (self._op, "1", "laudc")
        assert build.num_outputs == 3
        assert build.timing_cache_id == f"laudc.{self._op}.1.{_fingerprint(state):016x}"
        assert made.get_capability_interface(self._trt.PluginCapabilityType.RUNTIME) is not None


@pytest.fixture(scope="module")
def registry(trt: Any) -> Any:
    """A registry that loaded the library itself."""
    registry = trt.get_plugin_registry()
    assert registry.load_library(LIBRARY) is not None
    return registry


@pytest.fixture(scope="module")
def creator(trt: Any, registry: Any, operator: Operator) -> V2 | V3:
    """Our creator of one op."""
    found = (V2 if trt.__version__.startswith("8.") else V3)(trt, registry, operator.name)
    assert found.find(operator.name, "1", "") is None
    return found


@pytest.fixture(scope="module")
def native(registry: Any) -> ctypes.CDLL:
    """The library's own functions."""
    library = ctypes.CDLL(str(LIBRARY))
    library.laudc_trt_last_error.restype = library.laudc_abi.restype = ctypes.c_char_p
    return library


# A PluginField points at its data and does not keep it.
_KEPT: list[object] = []


def _attributes(trt: Any, blocks: Sequence[int], abi: int = ABI_VERSION, precision: int = 0) -> Any:
    values = {"abi": [abi], "blocks": blocks, "precision": [precision]}
    arrays = {name: np.array(value, np.int32) for name, value in values.items()}
    _KEPT.append(arrays)
    fields = [trt.PluginField(name, array, trt.PluginFieldType.INT32) for name, array in arrays.items()]
    return trt.PluginFieldCollection(fields)


def _state(operator: Operator, precision: int = 0) -> bytes:
    """What an engine holds; see `serialize` in `plugins/tensorrt/run_state.cpp`."""
    blocks = operator.blocks
    body = b"LAUDCRUN" + struct.pack("<16s4I", operator.name.encode(), 2, ABI_VERSION, precision, len(blocks))
    body += struct.pack(f"<{len(blocks)}q", *blocks)
    return body + struct.pack("<I", zlib.crc32(body))


def _fingerprint(state: bytes) -> int:
    """64-bit FNV-1a."""
    value = 0xCBF29CE484222325
    for byte in state:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def _refused(make: Callable[..., Any], what: Any) -> bool:
    try:
        return make(what) is None
    except Exception:
        return True


def test_describes_itself(trt: Any, native: ctypes.CDLL) -> None:
    about = json.loads(native.laudc_abi())
    assert about["abi"] == ABI_VERSION
    assert about["api"] == f"trt{trt.__version__.split('.')[0]}"
    assert about["sm"]


def test_creates_from_attributes(trt: Any, creator: V2 | V3, operator: Operator) -> None:
    for precision in range(3):
        made = creator.create(_attributes(trt, operator.blocks, precision=precision))
        creator.check(made, _state(operator, precision))


def test_restores_from_an_engine(creator: V2 | V3, operator: Operator) -> None:
    for precision in range(3):
        state = _state(operator, precision)
        creator.check(creator.restore(state), state)


def test_damaged_state_is_refused(creator: V2 | V3, native: ctypes.CDLL, operator: Operator) -> None:
    state = _state(operator)
    for byte in range(0, len(state), 7):
        for damaged in (state[:byte] + bytes([state[byte] ^ 1]) + state[byte + 1 :], state[:byte] or b"?"):
            assert _refused(creator.restore, damaged)
            assert b"build the engine again" in native.laudc_trt_last_error()


def test_state_of_another_operator_is_refused(creator: V2 | V3, native: ctypes.CDLL, operator: Operator) -> None:
    other = OTHER[operator.name]
    assert _refused(creator.restore, _state(other))
    assert f"that of a {other.name}, not of a {operator.name}" in native.laudc_trt_last_error().decode()


def test_bad_attributes_are_refused(trt: Any, creator: V2 | V3, native: ctypes.CDLL, operator: Operator) -> None:
    for fields, why in (
        (_attributes(trt, operator.blocks, abi=ABI_VERSION + 1), "laudc ABI"),
        (_attributes(trt, operator.blocks, precision=7), "precision is 7"),
        (_attributes(trt, operator.blocks[:-1]), "not a positive multiple"),
        *((_attributes(trt, blocks), why) for blocks, why in operator.refused),
    ):
        assert _refused(creator.create, fields)
        assert why in native.laudc_trt_last_error().decode()


def test_the_python_backend_registers_the_library_of_tensorrt_8(trt: Any) -> None:
    """Before 8.6 registries cannot load libraries: a registry of its own process is handed to ours."""
    if not trt.__version__.startswith("8."):
        pytest.skip("newer registries load libraries")
    code = (
        "import sys, tensorrt as trt\n"
        "from pathlib import Path\n"
        "from laudc.backends.tensorrt import plugins\n"
        "plugins.load(Path(sys.argv[1]), trt)\n"
        "find = trt.get_plugin_registry().get_plugin_creator\n"
        "assert all(find(op, '1', 'laudc') is not None for op in sys.argv[2:])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(LIBRARY), *(one.name for one in OPERATORS)], check=True)

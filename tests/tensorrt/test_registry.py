"""The plugin library in a real TensorRT registry (10 or 11; the lean runtime from PyPI is enough, no GPU is needed).

LAUDC_TRT_LIBRARY names the library, built for the major version that is installed; skipped without it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from laudc.ops.scheduled import ABI_VERSION, BlockRecord, encode_blocks

RECORD = BlockRecord(cin=8, width=4, cout=8, stride=1, hin=5, win=6, projection=0)
LIBRARY = os.environ.get("LAUDC_TRT_LIBRARY")


@pytest.fixture(scope="module")
def trt() -> Any:
    """TensorRT's Python module, full or lean."""
    if not LIBRARY:
        pytest.skip("LAUDC_TRT_LIBRARY is not set")
    for name in ("tensorrt", "tensorrt_lean_bindings", "tensorrt_lean"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    pytest.skip("TensorRT is not installed: pip install tensorrt-lean-cu13-bindings tensorrt-lean-cu13-libs")


@pytest.fixture(scope="module")
def creator(trt: Any) -> Iterator[Any]:
    """Our creator, from a registry that loaded the library itself."""
    registry = trt.get_plugin_registry()
    handle = registry.load_library(LIBRARY)
    assert handle is not None
    found = registry.get_creator("BottleneckRun", "1", "laudc")
    assert found is not None
    assert registry.get_creator("BottleneckRun", "1", "") is None
    yield found


@pytest.fixture(scope="module")
def native(creator: Any) -> ctypes.CDLL:
    """The library's own functions."""
    library = ctypes.CDLL(str(LIBRARY))
    library.laudc_trt_last_error.restype = library.laudc_abi.restype = ctypes.c_char_p
    return library


# A PluginField points at its data and does not keep it.
_KEPT: list[object] = []


def _attributes(trt: Any, records: Sequence[BlockRecord], abi: int = ABI_VERSION, precision: int = 0) -> Any:
    values = {"abi": [abi], "blocks": encode_blocks(records), "precision": [precision]}
    arrays = {name: np.array(value, np.int32) for name, value in values.items()}
    _KEPT.append(arrays)
    fields = [trt.PluginField(name, array, trt.PluginFieldType.INT32) for name, array in arrays.items()]
    return trt.PluginFieldCollection(fields)


def _stored(trt: Any, state: bytes) -> Any:
    _KEPT.append(state)
    return trt.PluginFieldCollection([trt.PluginField("state", state, trt.PluginFieldType.UNKNOWN)])


def _state(precision: int = 0) -> bytes:
    blocks = encode_blocks([RECORD])
    body = b"LAUDCRUN" + struct.pack("<4I", 1, ABI_VERSION, precision, len(blocks)) + struct.pack("<16q", *blocks)
    return body + struct.pack("<I", zlib.crc32(body))


def _refused(trt: Any, creator: Any, fields: Any) -> bool:
    try:
        return creator.create_plugin("layer", fields, trt.TensorRTPhase.BUILD) is None
    except Exception:
        return True


def test_describes_itself(trt: Any, native: ctypes.CDLL) -> None:
    about = json.loads(native.laudc_abi())
    assert about["abi"] == ABI_VERSION
    assert about["api"] == f"trt{trt.__version__.split('.')[0]}"
    assert about["sm"]


def test_creates_from_attributes(trt: Any, creator: Any) -> None:
    made = creator.create_plugin("layer", _attributes(trt, [RECORD]), trt.TensorRTPhase.BUILD)
    core = made.get_capability_interface(trt.PluginCapabilityType.CORE)
    build = made.get_capability_interface(trt.PluginCapabilityType.BUILD)
    assert (core.plugin_name, core.plugin_version, core.plugin_namespace) == ("BottleneckRun", "1", "laudc")
    assert build.num_outputs == 3
    assert build.timing_cache_id.startswith("laudc.BottleneckRun.1.")


def test_restores_from_an_engine(trt: Any, creator: Any) -> None:
    made = creator.create_plugin("layer", _stored(trt, _state()), trt.TensorRTPhase.RUNTIME)
    assert made.get_capability_interface(trt.PluginCapabilityType.RUNTIME) is not None


@pytest.mark.parametrize("byte", range(0, len(_state()), 7))
def test_damaged_state_is_refused(trt: Any, creator: Any, native: ctypes.CDLL, byte: int) -> None:
    damaged = bytearray(_state())
    damaged[byte] ^= 1
    assert _refused(trt, creator, _stored(trt, bytes(damaged)))
    assert b"build the engine again" in native.laudc_trt_last_error()
    assert _refused(trt, creator, _stored(trt, _state()[:byte] or b"?"))


def test_bad_attributes_are_refused(trt: Any, creator: Any, native: ctypes.CDLL) -> None:
    for fields, why in (
        (_attributes(trt, [RECORD], abi=ABI_VERSION + 1), "laudc ABI"),
        (_attributes(trt, [RECORD], precision=7), "precision is 7"),
        (_attributes(trt, [replace(RECORD, stride=3)]), "block 0: stride is 3"),
        (_attributes(trt, [replace(RECORD, conv2_algorithm=1)]), "Winograd"),
    ):
        assert _refused(trt, creator, fields)
        assert why in native.laudc_trt_last_error().decode()

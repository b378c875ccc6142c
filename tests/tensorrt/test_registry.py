"""The plugin library in a real TensorRT registry (no GPU is needed).

LAUDC_TRT_LIBRARY names the library, built for the major version that is installed; skipped without it. From PyPI: the
lean runtimes of TensorRT 10 and 11, and the whole of 8.6.0 (Python 3.8 to 3.10, with nvidia-cudnn-cu12 below 9).
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
from collections.abc import Callable, Iterator, Sequence
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


class V2:
    """TensorRT 8: plugins are restored from bytes."""

    def __init__(self, trt: Any, registry: Any) -> None:
        self._trt = trt
        self.find = registry.get_plugin_creator
        self._creator = self.find("BottleneckRun", "1", "laudc")
        assert self._creator is not None

    def create(self, fields: Any) -> Any:
        """From the attributes of a node."""
        return self._creator.create_plugin("layer", fields)

    def restore(self, state: bytes) -> Any:
        """From what an engine holds."""
        return self._creator.deserialize_plugin("layer", state)

    def check(self, made: Any) -> None:
        """What the plugin says about itself, and that its stored form makes the same plugin."""
        assert (made.plugin_type, made.plugin_version, made.plugin_namespace) == ("BottleneckRun", "1", "laudc")
        assert made.num_outputs == 3
        stored = bytes(made.serialize())
        assert len(stored) == made.serialization_size
        assert bytes(self.restore(stored).serialize()) == stored == bytes(made.clone().serialize())


class V3:
    """TensorRT 10 and 11: plugins are restored from fields."""

    def __init__(self, trt: Any, registry: Any) -> None:
        self._trt = trt
        self.find = registry.get_creator
        self._creator = self.find("BottleneckRun", "1", "laudc")
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

    def check(self, made: Any) -> None:
        """See `V2`."""
        core = made.get_capability_interface(self._trt.PluginCapabilityType.CORE)
        build = made.get_capability_interface(self._trt.PluginCapabilityType.BUILD)
        assert (core.plugin_name, core.plugin_version, core.plugin_namespace) == ("BottleneckRun", "1", "laudc")
        assert build.num_outputs == 3
        assert build.timing_cache_id.startswith("laudc.BottleneckRun.1.")
        assert made.get_capability_interface(self._trt.PluginCapabilityType.RUNTIME) is not None


@pytest.fixture(scope="module")
def creator(trt: Any) -> Iterator[V2 | V3]:
    """Our creator, from a registry that loaded the library itself."""
    registry = trt.get_plugin_registry()
    handle = registry.load_library(LIBRARY)
    assert handle is not None
    found = V2(trt, registry) if trt.__version__.startswith("8.") else V3(trt, registry)
    assert found.find("BottleneckRun", "1", "") is None
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


def _state(precision: int = 0) -> bytes:
    blocks = encode_blocks([RECORD])
    body = b"LAUDCRUN" + struct.pack("<4I", 1, ABI_VERSION, precision, len(blocks)) + struct.pack("<16q", *blocks)
    return body + struct.pack("<I", zlib.crc32(body))


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


def test_creates_from_attributes(trt: Any, creator: V2 | V3) -> None:
    creator.check(creator.create(_attributes(trt, [RECORD])))


def test_restores_from_an_engine(creator: V2 | V3) -> None:
    creator.check(creator.restore(_state()))


@pytest.mark.parametrize("byte", range(0, len(_state()), 7))
def test_damaged_state_is_refused(creator: V2 | V3, native: ctypes.CDLL, byte: int) -> None:
    damaged = bytearray(_state())
    damaged[byte] ^= 1
    assert _refused(creator.restore, bytes(damaged))
    assert b"build the engine again" in native.laudc_trt_last_error()
    assert _refused(creator.restore, _state()[:byte] or b"?")


def test_bad_attributes_are_refused(trt: Any, creator: V2 | V3, native: ctypes.CDLL) -> None:
    for fields, why in (
        (_attributes(trt, [RECORD], abi=ABI_VERSION + 1), "laudc ABI"),
        (_attributes(trt, [RECORD], precision=7), "precision is 7"),
        (_attributes(trt, [replace(RECORD, stride=3)]), "block 0: stride is 3"),
        (_attributes(trt, [replace(RECORD, conv2_algorithm=1)]), "Winograd"),
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
        "assert trt.get_plugin_registry().get_plugin_creator('BottleneckRun', '1', 'laudc') is not None\n"
    )
    subprocess.run([sys.executable, "-c", code, str(LIBRARY)], check=True)

"""The file itself: what it needs, what it shows, and what it says about itself."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

import laudc
from laudc import backends
from laudc.ops.scheduled import ABI_VERSION


def _readelf(*options: str) -> str:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    path = backends.get("onnxruntime").native_library_path()
    return subprocess.run(["readelf", "-W", *options, str(path)], capture_output=True, text=True, check=True).stdout


def test_needs_no_framework() -> None:
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", _readelf("-d"))
    assert needed
    assert not [name for name in needed if re.search("onnx|torch|c10|python", name)]


def test_shows_two_functions_only() -> None:
    shown = set()
    for line in _readelf("--dyn-syms").splitlines():
        fields = line.split()
        if len(fields) == 8 and fields[4] in ("GLOBAL", "WEAK", "UNIQUE") and fields[6].isdigit():
            shown.add(fields[7].split("@")[0])
    assert shown == {"RegisterCustomOps", "laudc_abi"}


def test_describes_itself() -> None:
    abi = backends.get("onnxruntime").native_abi()
    assert abi["abi"] == ABI_VERSION
    assert abi["version"] == laudc.__version__
    assert abi["active"] in abi["isa"]
    assert abi["panel"] in (16, 32, 48, 64)

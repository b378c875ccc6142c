"""What an installed laudc sends to a device: complete, and it compiles there.

The package that pip installed is asked, not the working tree; nvcc's sources are checked by `make gpu-compile`.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# NVIDIA's headers are on devices only: the double of the native tests stands for them.
_DOUBLE = ROOT / "plugins/tests/tensorrt_double"
_RUNNER_DOUBLE = ROOT / "deploy/runner/tests/double"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """The archive of the installed package, as a device unpacks it."""
    code = "import sys; from laudc.remote.sources import source_archive; sys.stdout.buffer.write(source_archive())"
    # -I: neither the working tree nor PYTHONPATH.
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, cwd="/", check=False)
    if done.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"laudc is not installed: {done.stderr.decode()[-500:]}")
        pytest.skip("laudc is not installed: pip install .")
    folder = tmp_path_factory.mktemp("device")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _listed(cmake: Path) -> list[Path]:
    """Source files that a CMake file names, relative to where it lies."""
    text = re.sub(r"#.*", "", cmake.read_text())
    variables = {"LAUDC_PLUGINS": "..", "LAUDC_TENSORRT_INTERFACE": "v2", "CMAKE_CURRENT_SOURCE_DIR": "."}
    for name, value in variables.items():
        text = text.replace(f"${{{name}}}", value)
    return [cmake.parent / name for name in re.findall(r"(?<![\w/])[\w./]+\.(?:cpp|cu|h\.in|map)\b", text)]


def test_everything_that_cmake_names_is_there(unpacked):
    cmakes = ("deploy/runner/CMakeLists.txt", "plugins/tensorrt/CMakeLists.txt", "plugins/cuda/toolkit.cmake")
    for name in cmakes:
        listed = _listed(unpacked / name)
        assert len(listed) > 5, name
        assert [path for path in listed if not path.is_file()] == [], name
    assert (unpacked / "plugins/tensorrt/plugin_v3.cpp").is_file()


def _options(source: Path, unpacked: Path, generated: Path) -> list[str]:
    options = ["-std=c++14", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    if "deploy" in source.parts:
        return [*options, f"-I{source.parent}", f"-I{generated}", f"-I{_RUNNER_DOUBLE}", "-DLAUDC_DOUBLE_MAJOR=8"]
    major = 10 if source.name == "plugin_v3.cpp" else 8
    includes = [f"-I{unpacked / 'plugins'}", f"-isystem{_DOUBLE}", f"-DLAUDC_DOUBLE_MAJOR={major}"]
    return [*options, *includes, "-DLAUDC_DOUBLE_MINOR=6", "-Wno-deprecated-declarations"]


def _version_header(unpacked: Path, folder: Path) -> None:
    """What CMake makes of it."""
    text = (unpacked / "deploy/runner/src/version.h.in").read_text()
    version = (unpacked / "deploy/runner/VERSION").read_text().strip()
    (folder / "version.h").write_text(text.replace("@LAUDC_VERSION_TEXT@", version))


def test_every_source_compiles(unpacked, tmp_path):
    """With a host compiler; the one that calls TensorRT and CUDA themselves needs the device."""
    _version_header(unpacked, tmp_path)
    sources = sorted(path for path in unpacked.rglob("*.cpp") if path.name != "tensorrt_device.cpp")
    assert len(sources) > 25
    compiler = os.environ.get("CXX", "c++")

    def compiled(source: Path) -> str:
        command = [compiler, *_options(source, unpacked, tmp_path), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("no C++ compiler")
        return "" if done.returncode == 0 else f"{source.name}: {done.stderr[:800]}"

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        assert [told for told in pool.map(compiled, sources) if told] == []

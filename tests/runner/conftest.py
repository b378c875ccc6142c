"""The whole on-device runner over a double of TensorRT and CUDA: what it reads, writes, measures and refuses.

Nothing here touches a GPU or a real TensorRT; what that proves is the runner's own logic, and that its calls fit the
interfaces of four TensorRT releases as the double declares them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from laudc.engine.bundle import write_bundle
from laudc.engine.manifest import BackendRecord, BuildRequest

from ..engine.conftest import UNCOMPILED, make_manifest

ROOT = Path(__file__).parents[2]
BUILT = Path(os.environ.get("LAUDC_RUNNER_TESTS", ROOT / "build/native/deploy/runner/tests"))
IMAGE = (3, 4, 5)
MODEL = b"""input input 3 4 5
conv conv1
run layer1.0-layer1.1 12 4:0 0:8
run layer2.0 4 4:0
output logits 10
"""
MEMBERS = {"model.onnx": MODEL, "weights.bin": b"weights" * 60, "portable.onnx": b"portable" * 50}
SCHEDULE = {
    "choice": "auto",
    "blocks": [
        {
            "name": name,
            "execution": execution,
            "reason": "because é",
            "record": {"mask_groups": 1, "mask_h": 2, "mask_w": 2, "channel_groups": 0, **changes}
            if execution == "sparse"
            else None,
        }
        for name, execution, changes in (
            ("layer1.0", "sparse", {}),
            ("layer1.1", "sparse", {"mask_groups": 0, "channel_groups": 8}),
            ("layer1.2", "dense", {}),
            ("layer2.0", "sparse", {}),
        )
    ],
}


@pytest.fixture(scope="session")
def doubles(tmp_path_factory) -> Path:
    """The folder with the runners over the doubles: of the native build, or built here."""
    if (BUILT / "laudc-runner-double-8.2").exists():
        return BUILT
    if shutil.which("cmake") is None:
        if os.environ.get("CI"):
            pytest.fail("the native tests must be built before")
        pytest.skip("the runner's doubles are not built (make native) and there is no cmake to build them")
    build = tmp_path_factory.mktemp("runner")
    options = ["-DLAUDC_RUNNER=OFF", "-DLAUDC_BUILD_TESTS=ON", "-DCMAKE_BUILD_TYPE=Debug"]
    subprocess.run(["cmake", "-S", ROOT / "deploy/runner", "-B", build, *options], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", build, "--parallel", "2"], check=True, capture_output=True)
    return build / "tests"


class Runner:
    """One double: call it with a command line and environment settings."""

    def __init__(self, doubles: Path, version: str, home: Path) -> None:
        self.program = doubles / f"laudc-runner-double-{version}"
        self.version = version
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(home)}

    def __call__(self, *words, wanted=0, **settings):
        """The completed process; its exit code must be `wanted`."""
        environment = {**self.environment, **{key: str(value) for key, value in settings.items()}}
        done = subprocess.run(
            [str(word) for word in (self.program, *words)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == wanted, done.stderr
        return done

    def json(self, *words, **settings):
        """The JSON that the command writes."""
        return json.loads(self(*words, "--json", "-", **settings).stdout)


@pytest.fixture(params=["8.2", "8.6", "10.3", "11.1"])
def any_runner(request, doubles, tmp_path) -> Runner:
    """Every kind of TensorRT in turn."""
    return Runner(doubles, request.param, tmp_path / "home")


@pytest.fixture
def runner(doubles, tmp_path) -> Runner:
    """The runner of JetPack 4.6."""
    return Runner(doubles, "8.2", tmp_path / "home")


def write_uncompiled(path: Path, version: str = "8.2", **changes) -> Path:
    """An engine of four blocks for the doubles."""
    fields = {
        **UNCOMPILED,
        "backend": BackendRecord("tensorrt", version),
        "request": BuildRequest((1, 2, 4)),
        "schedule": SCHEDULE,
        **changes,
    }
    manifest = make_manifest(MEMBERS, **fields)
    fixed = {**manifest.to_dict(), "input": {"name": "input", "dtype": "float32", "shape": ["N", *IMAGE]}}

    class Edited:
        def to_json(self):
            return json.dumps(fixed, indent=1, sort_keys=True).encode() + b"\n"

    write_bundle(path, Edited(), MEMBERS)
    return path


@pytest.fixture
def uncompiled(tmp_path) -> Path:
    """An engine for TensorRT 8.2 that is still to be finished."""
    return write_uncompiled(tmp_path / "model.laudc")


@pytest.fixture
def finished(runner, uncompiled, tmp_path) -> Path:
    """The same, finished."""
    path = tmp_path / "finished.laudc"
    runner("build", uncompiled, "-o", path)
    return path

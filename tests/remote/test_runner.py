"""TensorRT engines finished and measured on a "device" at the end of a real ssh connection.

The device's cmake, compiler and nvcc are scripts, and what they "build" is the runner over the double of TensorRT: what
is tested is everything around them, from the sources that are sent to the report that comes back.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from dataclasses import replace
from io import BytesIO

import onnx
import pytest

from laudc.engine.bundle import open_bundle, write_bundle
from laudc.engine.manifest import BackendRecord, BuildRequest, DeviceRecord, TensorRecord
from laudc.errors import UserError
from laudc.files import sha256_file
from laudc.profile import profile
from laudc.remote import build_on_target, parse_target, profile_on_target
from laudc.remote.sources import source_archive
from laudc.schedule import make_plan

from ..engine.conftest import UNCOMPILED, make_manifest
from ..runner.conftest import doubles  # noqa: F401  # a fixture

_CMAKE = """#!/bin/sh
# Stands for cmake: checks what build.sh asks for, and "builds" the doubles.
set -eu
echo "cmake $*" >> "$HOME/cmake.log"
part=$(basename "$PWD")
if [ -f "$HOME/fail" ]; then cat "$HOME/fail" >&2; exit 1; fi
[ "$1" = --build ] || exit 0
case $part in
  runner) cp "$HOME/doubles/laudc-runner" . ;;
  plugins) cp "$HOME/doubles/liblaudc_trt8.so" . ;;
esac
"""


@pytest.fixture
def device(server, doubles):  # noqa: F811
    """The server as a device with TensorRT 8.2 that has built nothing yet."""
    tools, store = server.home / "bin", server.home / "doubles"
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir()
    shutil.copy(doubles / "laudc-runner-double-8.2", store / "laudc-runner")
    shutil.copy(doubles / "liblaudc_trt8.so", store)
    scripts = {"cmake": _CMAKE, "nvcc": "#!/bin/sh\n", "c++": "#!/bin/sh\n"}
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    yield server
    for name in scripts:
        (tools / name).unlink()
    for name in ("fail", "cmake.log"):
        (server.home / name).unlink(missing_ok=True)


@pytest.fixture
def uncompiled(tiny_onnx, tmp_path):
    """The tiny network as an engine for the doubles: true schedule and portable model, made-up graph."""
    portable = tiny_onnx.read_bytes()
    plan = make_plan(onnx.load_from_string(portable))
    records = [block.record for block in plan.blocks]
    blocks = " ".join(f"{record.spatial_cells}:{record.channel_groups}" for record in records)
    total = sum(record.margins for record in records)
    model = f"input input 3 64 64\nconv conv1\nrun layer1.0-layer4.0 {total} {blocks}\noutput logits 10\n"
    members = {"model.onnx": model.encode(), "weights.bin": b"weights" * 9, "portable.onnx": portable}
    changes = {
        **UNCOMPILED,
        "backend": BackendRecord("tensorrt", "8.2"),
        "input": TensorRecord("input", "float32", ("N", 3, 64, 64)),
        "request": BuildRequest((1, 1, 2)),
        "schedule": plan.to_dict(),
        "preprocess": {"resize": 64},
    }
    path = tmp_path / "tiny.laudc"
    write_bundle(path, make_manifest(members, **changes), members)
    return path


def test_the_archive_holds_what_a_device_needs_and_is_always_the_same():
    archive = source_archive()
    assert archive == source_archive()
    with tarfile.open(fileobj=BytesIO(archive)) as opened:
        names = opened.getnames()
    for name in ("deploy/runner/CMakeLists.txt", "deploy/runner/build.sh", "deploy/runner/VERSION"):
        assert name in names
    assert "deploy/runner/src/tensorrt_device.cpp" in names and "plugins/core/block_desc.cpp" in names
    assert not any("/tests/" in name or "/cpu/" in name for name in names)


def test_finishing_and_measuring_on_the_device(device, uncompiled, photos, tiny_engine, tmp_path):
    target, output, steps = parse_target(device.url), tmp_path / "finished.laudc", []
    result = build_on_target(target, uncompiled, output, progress=steps.append)
    assert result.manifest.compiled and result.manifest.gpu.sm == "5.3"
    assert open_bundle(output).read("portable.onnx") == open_bundle(uncompiled).read("portable.onnx")
    asked = (device.home / "cmake.log").read_text()
    assert "-DLAUDC_CUDA_ARCHITECTURES=53" in asked and "deploy/runner" in asked and "plugins/tensorrt" in asked
    assert any("sources" in step for step in steps)
    # The runner is built once.
    (device.home / "cmake.log").unlink()
    found = profile_on_target(target, output, [photos], runs=3)
    assert not (device.home / "cmake.log").exists()
    assert os.listdir(device.cache / "jobs") == []
    # Every decision of the double keeps, at batch 1: nothing is saved, and the counts are those of a real profile.
    assert found.images["names"] == ["a.png", "b.png", "c.png"]
    assert all(block.spatial_rate in (None, 1.0) and block.channel_rate in (None, 1.0) for block in found.blocks)
    here = profile(tiny_engine, [photos], runs=1, warmup=0)
    assert [block.name for block in found.blocks] == [block.name for block in here.blocks]
    assert all(block.activation is not None and block.activation > 1 for block in found.blocks)
    assert found.activation >= here.activation and found.ideal_speedup == pytest.approx(1 / found.activation)
    assert found.layers and not any("not counted" in note for note in found.notes)


def test_masks_come_back_exactly(device, uncompiled, photos, tmp_path):
    """At batch 2 the double drops everything for odd images; the counted MACs must say so."""
    target, output = parse_target(device.url), tmp_path / "finished.laudc"
    build_on_target(target, uncompiled, output)
    found = profile_on_target(target, output, [photos], runs=2, batch=2)
    assert 0.3 < found.activation < 0.9
    rates = [block.spatial_rate for block in found.blocks if block.spatial_rate is not None]
    assert all(0.6 < rate < 0.9 for rate in rates)


def test_a_device_that_cannot_build_the_runner(device, uncompiled, tmp_path):
    output = tmp_path / "o.laudc"
    (device.home / "fail").write_text("CMake Error: laudc-runner needs TensorRT; NVINFER was not found.\n")
    with pytest.raises(UserError, match="annot build the runner on") as caught:
        build_on_target(parse_target(device.url), uncompiled, output)
    assert "NVINFER was not found" in str(caught.value) and "apt install" in str(caught.value)
    (device.home / "fail").write_text("c++: error writing to /tmp/x.s: No space left on device\n")
    with pytest.raises(UserError, match="ts disk is full"):
        build_on_target(parse_target(device.url), uncompiled, output)
    (device.home / "fail").unlink()
    assert not output.exists() and os.listdir(device.cache / "jobs") == []
    build_on_target(parse_target(device.url), uncompiled, output)
    assert open_bundle(output).manifest.compiled


def test_what_the_runner_refuses_is_told_as_its_own(device, uncompiled, tmp_path):
    (device.home / "doubles/liblaudc_trt8.so").write_text("no library")
    with pytest.raises(UserError, match="n .*127.0.0.1.*: the plugin library .* cannot be loaded"):
        build_on_target(parse_target(device.url), uncompiled, tmp_path / "o.laudc")
    assert os.listdir(device.cache / "jobs") == []


def test_a_runner_that_is_killed_midway(device, uncompiled, tmp_path):
    """As the system does when memory runs out; the next command succeeds, and nothing unfinished is left."""
    real = device.home / "doubles/laudc-runner"
    kept = real.rename(real.with_name("kept"))
    real.write_text(f'#!/bin/sh\n[ "$1" = device ] && exec "{kept}" "$@"\nkill -9 $$\n')
    real.chmod(0o755)
    output = tmp_path / "o.laudc"
    with pytest.raises(UserError, match="killed by signal 9") as caught:
        build_on_target(parse_target(device.url), uncompiled, output)
    assert "memory ran out" in str(caught.value)
    assert not output.exists() and os.listdir(device.cache / "jobs") == []
    (runner,) = (device.cache / "runner").iterdir()
    shutil.copy(kept, runner / "laudc-runner")
    build_on_target(parse_target(device.url), uncompiled, output)
    assert open_bundle(output).manifest.compiled


def test_an_onnx_model_for_a_gpu_is_prepared_here(device, tiny_onnx, tmp_path, capsys):
    """It arrives there as an uncompiled engine; the double, which reads no ONNX, then says what TensorRT would."""
    from laudc.cli.app import main

    words = ["build-engine", str(tiny_onnx), "--device", "nano", "--precision", "fp16", "--target", device.url]
    assert main([*words, "-o", str(tmp_path / "o.laudc")]) == 2
    told = capsys.readouterr().err
    assert "TensorRT does not read the model" in told or "another library" in told or "native_library.abi" in told
    assert main(["build-engine", str(tiny_onnx), "--device", "nano", "--precision", "int8", "-o", "x.laudc"]) == 2
    assert "o 8-bit dot product" in capsys.readouterr().err


def _manifest_for(path, **changes):
    bundle = open_bundle(path)
    members = {name: bundle.read(name) for name in bundle.manifest.members}
    write_bundle(path, replace(bundle.manifest, **changes), members)


def test_an_engine_for_another_tensorrt_is_refused_before_it_is_sent(device, uncompiled, tmp_path):
    _manifest_for(uncompiled, backend=BackendRecord("tensorrt", "10.3.0"))
    with pytest.raises(UserError, match="or another TensorRT than that of") as caught:
        build_on_target(parse_target(device.url), uncompiled, tmp_path / "o.laudc")
    assert "written for TensorRT 10.3.0" in str(caught.value) and "--tensorrt 8.2" in str(caught.value)
    assert not any(sha256_file(uncompiled) in path.name for path in device.cache.rglob("*"))


def test_an_engine_for_another_gpu_is_refused(device, uncompiled, tmp_path):
    _manifest_for(uncompiled, device=DeviceRecord("v100", "b" * 64))
    with pytest.raises(UserError, match=r"or another device .* v100 \(sm 7.0\).* \(sm 5.3\)"):
        build_on_target(parse_target(device.url), uncompiled, tmp_path / "o.laudc")
    # A device that this installation does not know cannot be compared.
    _manifest_for(uncompiled, device=DeviceRecord("my-own-board", "b" * 64))
    build_on_target(parse_target(device.url), uncompiled, tmp_path / "o.laudc")


def test_the_model_is_prepared_for_the_tensorrt_there(device, tiny_onnx, uncompiled, tmp_path):
    asked = []

    def prepare(path, found):
        asked.append((found.gpu.sm, found.tensorrt))
        shutil.copy(uncompiled, path)

    output = tmp_path / "o.laudc"
    build_on_target(parse_target(device.url), tiny_onnx, output, prepare=prepare)
    ((sm, version),) = asked
    assert sm == "5.3" and version.startswith("8.2")
    assert open_bundle(output).manifest.compiled


def test_a_tensorrt_that_is_not_there_is_refused(device, tiny_onnx, tmp_path, capsys):
    from laudc.cli.app import main

    words = ["build-engine", str(tiny_onnx), "--device", "nano", "--target", device.url, "--tensorrt", "10.3"]
    assert main([*words, "-o", str(tmp_path / "o.laudc")]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "written for TensorRT 10.3; there, it is 8.2" in told
    words = ["build-engine", str(tiny_onnx), "--device", "rtx3090", "--target", device.url]
    assert main([*words, "-o", str(tmp_path / "o.laudc")]) == 2
    assert "scheduled for rtx3090 (sm 8.6)" in " ".join(capsys.readouterr().err.split())


def test_dense_comparison_is_refused_for_tensorrt(device, uncompiled, tmp_path):
    output = tmp_path / "finished.laudc"
    build_on_target(parse_target(device.url), uncompiled, output)
    with pytest.raises(UserError, match="--schedule dense"):
        profile_on_target(parse_target(device.url), output, against_dense=True)

"""laudc-runner build: what it makes is a bundle that Python accepts, and what fails leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import pytest

from laudc.engine.bundle import open_bundle
from laudc.engine.manifest import GpuRecord, NativeRecord
from laudc.files import sha256_file

from .conftest import MEMBERS, write_uncompiled


def test_finishing_adds_exactly_what_the_format_says(any_runner, tmp_path):
    source = write_uncompiled(tmp_path / "model.laudc", any_runner.version)
    output = tmp_path / "finished.laudc"
    result = any_runner.json("build", source, "-o", output)
    before, after = open_bundle(source), open_bundle(output)
    for member, content in MEMBERS.items():
        assert after.read(member) == content
    assert after.read("engine.plan").startswith(b"PLAN\n1 4\n")
    found = after.manifest
    assert found.compiled and found.gpu is not None
    assert found.gpu == GpuRecord("NVIDIA Tegra X1", "5.3", "10.2", "10.2")
    assert found.backend.version == {"8": "8.2.1", "10": "10.3.0", "11": "11.1.0"}[any_runner.version.split(".")[0]]
    library = any_runner.program.parent / f"liblaudc_trt{any_runner.version.split('.')[0]}.so"
    assert found.native_library == NativeRecord(sha256_file(library), 1, "0.1.0", ("53", "62"))
    changed = {"compiled", "gpu", "backend", "native_library", "members"}
    old, new = before.manifest.to_dict(), found.to_dict()
    assert {key for key in old if old[key] != new[key]} == changed
    assert result["kind"] == "build-engine" and result["plugin_layers"] == 2
    assert result["manifest"]["compiled"] is True


def test_the_manifest_has_the_bytes_that_python_would_write(finished):
    opened = open_bundle(finished)
    where = opened.data_offset("manifest.json")
    text = opened.manifest.to_json()
    assert finished.read_bytes()[where : where + len(text)] == text


def test_an_engine_can_be_made_anew_in_place(runner, finished):
    before = finished.read_bytes()
    runner("build", finished, "-o", finished, DOUBLE_DRIVER=11040)
    assert open_bundle(finished).manifest.gpu.driver == "11.4"
    assert finished.read_bytes() != before
    assert os.listdir(finished.parent).count("finished.laudc") == 1


def test_the_timing_cache_is_kept_and_used(runner, uncompiled, tmp_path):
    words = ("build", uncompiled, "-o", tmp_path / "out.laudc")
    assert runner.json(*words)["timing_cache_used"] is False
    cache = tmp_path / "home/.cache/laudc/timing-trt8.2.1-sm5.3.cache"
    assert cache.read_bytes() == b"timings of 5.3"
    assert runner.json(*words)["timing_cache_used"] is True
    cache.write_bytes(b"timings of another GPU")
    assert runner.json(*words)["timing_cache_used"] is False
    other = tmp_path / "own.cache"
    runner(*words, "--timing-cache", other)
    assert other.exists()
    cache.unlink()
    runner(*words, "--timing-cache", "none")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"DOUBLE_FAIL": "gpu"}, "there is no GPU here"),
        ({"DOUBLE_FAIL": "parse"}, "No importer registered for op: BottleneckRun (node 7)"),
        ({"DOUBLE_FAIL": "build"}, "Could not find any implementation for node conv1"),
        ({"DOUBLE_FAIL": "plan"}, "version tag does not match"),
        ({"DOUBLE_FAIL": "full-precision"}, "the engine is not fp16"),
        ({"DOUBLE_ABI": "2"}, "field 'native_library.abi': the engine has 1"),
        ({"DOUBLE_PLUGIN_ERROR": "blocks[0].cin is 0"}, "blocks[0].cin is 0"),
        ({"DOUBLE_SM": "5.2"}, "has no fp16 arithmetic"),
    ],
)
def test_failures_are_named_and_leave_nothing(runner, uncompiled, tmp_path, settings, told):
    folder = tmp_path / "out"
    folder.mkdir()
    done = runner("build", uncompiled, "-o", folder / "out.laudc", "--json", tmp_path / "r.json", wanted=2, **settings)
    assert told in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") <= 8
    assert os.listdir(folder) == []
    assert '"exit_code": 2' in (tmp_path / "r.json").read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"precision": "int8"}, "the precision 'int8' cannot be built on NVIDIA Tegra X1"),
        ({"version": "10.3"}, "field 'backend.version': the engine is meant for 10.3, here it is 8.2.1"),
    ],
)
def test_engines_for_other_devices(runner, tmp_path, change, told):
    source = write_uncompiled(tmp_path / "model.laudc", **change)
    assert told in runner("build", source, "-o", tmp_path / "o.laudc", wanted=2).stderr


def test_paths_that_cannot_be_used(runner, uncompiled, tmp_path):
    assert "-o is missing" in runner("build", uncompiled, wanted=2).stderr
    assert "cannot read" in runner("build", tmp_path / "no.laudc", "-o", tmp_path / "o", wanted=2).stderr
    done = runner("build", uncompiled, "-o", tmp_path / "no/where.laudc", wanted=2)
    assert "its folder does not exist" in done.stderr
    done = runner("build", uncompiled, "-o", tmp_path / "o", "--plugin", tmp_path / "no.so", wanted=2)
    assert "the plugin library" in done.stderr and "missing" in done.stderr
    (tmp_path / "text.so").write_text("no library")
    done = runner("build", uncompiled, "-o", tmp_path / "o", "--plugin", tmp_path / "text.so", wanted=2)
    assert "cannot be loaded" in done.stderr


def test_a_missing_plugin_library_says_where_it_was_looked_for(runner, uncompiled, tmp_path):
    shutil.copy(runner.program, tmp_path / "laudc-runner")
    runner.program = tmp_path / "laudc-runner"
    done = runner("build", uncompiled, "-o", tmp_path / "o", wanted=2, LAUDC_TENSORRT_PLUGIN="/nowhere/lib.so")
    assert "liblaudc_trt8.so is missing" in done.stderr
    assert "/nowhere/lib.so" in done.stderr and str(tmp_path) in done.stderr


def test_the_plugin_of_another_major(runner, doubles, uncompiled, tmp_path):
    library = doubles / "liblaudc_trt10.so"
    done = runner("build", uncompiled, "-o", tmp_path / "o", "--plugin", library, wanted=2)
    assert "it is made for trt10, here it must be trt8" in done.stderr
    done = runner("build", uncompiled, "-o", tmp_path / "o", wanted=2, LAUDC_TENSORRT_PLUGIN=library)
    assert "trt10" in done.stderr


def _start(runner, uncompiled, output):
    environment = {**runner.environment, "DOUBLE_BUILD_SECONDS": "30"}
    words = [runner.program, "build", uncompiled, "-o", output]
    running = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    while "compiling" not in (running.stderr.readline() if running.stderr else ""):
        assert running.poll() is None
    return running


def test_a_killed_run_leaves_no_engine_and_the_next_one_finishes(runner, uncompiled, tmp_path):
    output = tmp_path / "out" / "out.laudc"
    output.parent.mkdir()
    running = _start(runner, uncompiled, output)
    running.send_signal(signal.SIGKILL)
    running.wait(10)
    assert not output.exists()
    assert os.listdir(output.parent), "a kill cannot be cleaned up after: this is what the next run finds"
    runner("build", uncompiled, "-o", output)
    assert open_bundle(output).manifest.compiled
    assert os.listdir(output.parent) == ["out.laudc"]


def test_two_runs_do_not_write_one_engine(runner, uncompiled, tmp_path):
    output = tmp_path / "out.laudc"
    running = _start(runner, uncompiled, output)
    try:
        done = runner("build", uncompiled, "-o", output, wanted=2)
        assert "another run is writing it" in done.stderr
    finally:
        running.kill()
        running.wait(10)


def test_a_full_disk(runner, uncompiled, tmp_path):
    """A limit on the size of files stands in for the disk: it fails at the same calls."""
    folder = tmp_path / "out"
    folder.mkdir()
    command = f"{runner.program} build {uncompiled} -o {folder}/out.laudc --timing-cache none"
    script = f"ulimit -f 1; trap '' XFSZ; exec {command}"
    done = subprocess.run(["bash", "-c", script], env=runner.environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert f"cannot write {folder}/out.laudc" in done.stderr
    assert os.listdir(folder) == []


def test_every_cut_and_changed_byte_of_a_bundle_is_refused(runner, uncompiled, tmp_path):
    """The same rule as in Python: a bundle is exactly what was written. A sample of all positions."""
    whole = uncompiled.read_bytes()
    broken = tmp_path / "broken.laudc"
    started = time.monotonic()
    positions = sorted({*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1, len(whole) - 22, 30, 44})
    for at in positions:
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :], whole + b"x"):
            broken.write_bytes(content)
            done = runner("check", broken, wanted=2)
            assert "is not" in done.stderr
        assert time.monotonic() - started < 60

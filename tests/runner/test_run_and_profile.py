"""laudc-runner run, profile and check: results, and JSON that reads like that of `laudc profile`."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from laudc.engine.bundle import open_bundle
from laudc.profile.records import BlockProfile, ProfileResult, Timing

from .conftest import IMAGE, Runner, write_uncompiled


@pytest.fixture
def images(tmp_path):
    """Three images as one array."""
    values = np.random.default_rng(0).standard_normal((3, *IMAGE)).astype(np.float32)
    np.save(tmp_path / "images.npy", values)
    return tmp_path / "images.npy"


def test_run_gives_the_networks_numbers(any_runner, tmp_path, images):
    source, engine = write_uncompiled(tmp_path / "m.laudc", any_runner.version), tmp_path / "f.laudc"
    any_runner("build", source, "-o", engine)
    result = any_runner.json("run", engine, images, "--top", "3", "-o", tmp_path / "logits.npy")
    logits = np.load(tmp_path / "logits.npy")
    wanted = np.load(images).mean(axis=(1, 2, 3))[:, None] * np.arange(10, dtype=np.float32)
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-6)
    for row, found in zip(wanted, result["images"], strict=True):
        assert [entry["class"] for entry in found["top"]] == np.argsort(-row, kind="stable")[:3].tolist()
        probabilities = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        np.testing.assert_allclose(found["top"][0]["probability"], probabilities.max(), rtol=1e-4)


def test_pictures_are_normalised_as_in_python(runner, finished, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (IMAGE[1], IMAGE[2], 3)).astype(np.uint8)
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P6\n# made by hand\n5 4\n255\n" + pixels.tobytes())
    runner("run", finished, path, "-o", tmp_path / "logits.npy")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted = ((pixels / 255 - mean) / std).mean()
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy")[0, 1], wanted, rtol=1e-4)


@pytest.mark.parametrize("graph", [True, False])
def test_profile_has_the_schema_of_python(any_runner, tmp_path, images, graph):
    source, engine = write_uncompiled(tmp_path / "m.laudc", any_runner.version), tmp_path / "f.laudc"
    any_runner("build", source, "-o", engine)
    words = ("profile", engine, "--input", images, "--runs", "20", "--warmup", "2", "--batch", "2")
    found = any_runner.json(*words, "--margins", tmp_path / "margins.npy", *(() if graph else ("--no-graph",)))
    assert found.pop("schema_version") == 1 and found.pop("kind") == "profile"
    assert set(found) == {field.name for field in dataclasses.fields(ProfileResult)}
    assert set(found["end_to_end"]) == {field.name for field in dataclasses.fields(Timing)}
    for block in found["blocks"]:
        assert set(block) == {*(field.name for field in dataclasses.fields(BlockProfile)), "speedup"}
    assert found["settings"]["runs"] == 20 and found["settings"]["batch"] == 2
    assert found["settings"]["cuda_graph"] is graph
    assert found["images"] == {"kind": "files", "count": 3, "names": ["images.npy"]}
    assert found["end_to_end"]["runs"] == 20 and 1000 <= found["end_to_end"]["median_us"] <= 1010
    # Images 0 and 2 are first in their batches and keep everything, image 1 keeps half.
    rates = {block["name"]: (block["spatial_rate"], block["channel_rate"]) for block in found["blocks"]}
    assert rates["layer1.0"] == (pytest.approx(5 / 6), None)
    assert rates["layer1.1"] == (None, pytest.approx(5 / 6))
    assert rates["layer1.2"] == (None, None)
    # A run of two blocks is one layer; only the block that is a layer by itself has a time.
    timed = {block["name"] for block in found["blocks"] if block["timing"]}
    assert timed == {"layer2.0"}
    assert [layer["name"] for layer in found["layers"]] == ["conv1", "layer1.0-layer1.1", "layer2.0"]
    assert found["residual_us"] == pytest.approx(found["end_to_end"]["median_us"] - 2 * 125)
    margins = np.load(tmp_path / "margins.npy")
    assert margins.shape == (3, 16)
    assert (margins[1] == -1).all() and (margins[[0, 2]] == 1).all()


def test_generated_images_are_named_as_such(runner, finished):
    found = runner.json("profile", finished, "--runs", "3")
    assert found["images"] == {"kind": "generated", "count": 8}
    assert any("generated" in note for note in found["notes"])


def test_an_engine_that_cannot_be_captured_is_measured_without_graph(runner, finished):
    found = runner.json("profile", finished, "--runs", "3", DOUBLE_FAIL="capture")
    assert found["settings"]["cuda_graph"] is False
    assert any("captured" in note for note in found["notes"])


def test_people_get_a_table(runner, finished):
    text = runner("profile", finished, "--runs", "3").stdout
    assert "end to end" in text and "layer1.0-layer1.1" in text and "residual" in text


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"DOUBLE_VERSION": "8203"}, "backend.version"),
        ({"DOUBLE_SM": "6.2"}, "gpu.sm"),
        ({"DOUBLE_GPU": "NVIDIA Tegra X2"}, "gpu.name"),
        ({"DOUBLE_DRIVER": "11040"}, "gpu.driver"),
        ({"DOUBLE_ABI": "2"}, "native_library.abi"),
    ],
)
def test_engines_of_other_machines_are_refused_by_field(runner, finished, images, settings, field):
    for words in (("run", finished, images), ("profile", finished)):
        done = runner(*words, wanted=2, **settings)
        assert f"field '{field}'" in done.stderr
        assert "laudc-runner build" in done.stderr or field == "native_library.abi"
    done = runner("check", finished, "--json", "-", wanted=3, **settings)
    found = json.loads(done.stdout)
    assert found["runs_here"] is False and found["differences"][0]["field"] == field


def test_check_of_what_fits(runner, finished, uncompiled):
    assert runner.json("check", finished)["runs_here"] is True
    found = runner.json("check", uncompiled)
    assert found["runs_here"] is False and found["compiled"] is False and found["differences"] == []
    assert "can be compiled here: yes" in runner("check", uncompiled).stdout


def test_uncompiled_engines_say_how_to_finish_them(runner, uncompiled, images):
    for words in (("run", uncompiled, images), ("profile", uncompiled)):
        assert "laudc-runner build" in runner(*words, wanted=2).stderr


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.npy", b"no array", "not a .npy file"),
        ("a.npy", b"\x93NUMPY\x01\x00\xff\xffx" * 9, "cut off"),
        ("a.ppm", b"P6 4 5 255 " + bytes(60), "4x5 pixels"),
        ("a.ppm", b"P6 5 4 255 " + bytes(9), "cut off"),
        ("a.ppm", b"P3 5 4 255 ", "not a binary PPM"),
        ("a.jpg", b"\xff\xd8", "neither in .npy nor in .ppm"),
    ],
)
def test_input_that_cannot_be_used(runner, finished, tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    done = runner("run", finished, tmp_path / name, wanted=2)
    assert told in done.stderr and "float32 .npy" in done.stderr


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.zeros((1, *IMAGE)), "'<f8'"),
        (np.zeros((1, 3, 9, 9), np.float32), "(1, 3, 9, 9)"),
        (np.asfortranarray(np.zeros((2, *IMAGE), np.float32)), "Fortran order"),
        (np.zeros((0, *IMAGE), np.float32), "(0, 3"),
    ],
)
def test_arrays_that_do_not_fit(runner, finished, tmp_path, values, told):
    np.save(tmp_path / "x.npy", values)
    assert told in runner("run", finished, tmp_path / "x.npy", wanted=2).stderr


def test_batches_outside_the_engines_sizes(runner, finished):
    assert "it takes 1 to 4" in runner("profile", finished, "--batch", "5", wanted=2).stderr


@pytest.mark.parametrize("where", ["context", "enqueue", "memory"])
def test_gpu_failures_are_one_paragraph(runner, finished, images, where):
    done = runner("run", finished, images, wanted=2, DOUBLE_FAIL=where)
    assert done.stderr.strip().splitlines()[-1].startswith("laudc-runner: ")
    if where == "memory":
        assert "the GPU's memory is full" in done.stderr


def test_engines_for_cpus_are_sent_to_laudc(runner, tmp_path):
    from laudc.engine.bundle import write_bundle

    from ..engine.conftest import MEMBERS, make_manifest

    path = tmp_path / "cpu.laudc"
    write_bundle(path, make_manifest(), MEMBERS)
    assert "Run it with laudc itself" in runner("check", path, wanted=2).stderr


def test_help_and_wrong_usage(doubles, tmp_path):
    runner = Runner(doubles, "8.2", tmp_path)
    assert "Exit codes" in runner("--help").stdout
    assert runner("--version").stdout.startswith("laudc-runner ")
    assert "there is no command 'bild'" in runner("bild", wanted=2).stderr


def test_python_reads_what_was_finished(finished):
    manifest = open_bundle(finished).manifest
    assert manifest.compiled and manifest.request is not None and manifest.request.batch == (1, 2, 4)

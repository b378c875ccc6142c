"""Engines that are finished on their device: what each state must and must not hold."""

import dataclasses

import pytest

from laudc.devices.host import Host
from laudc.engine.build import build_engine
from laudc.engine.bundle import open_bundle, write_bundle
from laudc.engine.compat import check_compatible, differences
from laudc.engine.engine import load_engine
from laudc.engine.manifest import BuildRequest, GpuRecord, parse_manifest
from laudc.errors import UserError

from .conftest import FINISHED, FINISHED_MEMBERS, MEMBERS, UNCOMPILED, make_manifest

HOST = Host("aarch64", "ARM", (), 4, 4, 4)
GPU = FINISHED["gpu"]
NATIVE = {"abi": 1, "version": "0.1.0", "isa": ["sm_53"]}


@pytest.mark.parametrize("fixture", ["uncompiled_path", "finished_path"])
def test_round_trip(request, fixture):
    opened = open_bundle(request.getfixturevalue(fixture))
    assert parse_manifest(opened.manifest.to_json()) == opened.manifest
    assert ("engine.plan" in opened) == opened.manifest.compiled


@pytest.mark.parametrize(
    ("base", "change", "field"),
    [
        (UNCOMPILED, {"compiled": True}, "gpu"),
        (UNCOMPILED, {"gpu": GPU}, "gpu"),
        (UNCOMPILED, {"request": None}, "request"),
        (UNCOMPILED, {"native_library": FINISHED["native_library"]}, "native_library.sha256"),
        (UNCOMPILED, {"request": BuildRequest((1, 4))}, "request.batch"),
        (UNCOMPILED, {"request": BuildRequest((2, 1, 4))}, "request.batch"),
        (UNCOMPILED, {"request": BuildRequest((1, 1, 1), 0)}, "request.workspace_mib"),
        ({}, {"compiled": False}, "compiled"),
        ({}, {"cpu": None}, "cpu"),
        ({}, {"request": BuildRequest((1, 1, 1))}, "request"),
        ({}, {"native_library": UNCOMPILED["native_library"]}, "native_library.sha256"),
    ],
)
def test_states_are_whole(base, change, field):
    with pytest.raises(ValueError, match=f"field '{field}'"):
        parse_manifest(make_manifest(**{**base, **change}).to_json())


def test_a_finished_engine_has_its_plan():
    with pytest.raises(ValueError, match=r"engine\.plan"):
        parse_manifest(make_manifest(MEMBERS, **FINISHED).to_json())
    with pytest.raises(ValueError, match=r"engine\.plan"):
        parse_manifest(make_manifest(FINISHED_MEMBERS, **UNCOMPILED).to_json())


def test_finishing_on_the_wrong_machine_names_the_right_one(uncompiled_path, tmp_path, monkeypatch):
    """Without TensorRT here, to install it is not the advice that is needed."""

    def missing(name):
        raise UserError(f"the backend {name} cannot be used", "it is not installed", "install it")

    monkeypatch.setattr("laudc.engine.build.usable_backend", missing)
    with pytest.raises(UserError, match="compiled on the device they run on") as caught:
        build_engine(uncompiled_path, tmp_path / "finished.laudc")
    assert "laudc-runner build" in str(caught.value)
    assert not (tmp_path / "finished.laudc").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"precision": "fp16"}, "--precision"),
        ({"schedule": "dense"}, "--schedule"),
        ({"activation": 0.3, "batch": 2}, "--activation, --batch"),
        ({"device": "nano", "calibrate_images": "x", "portable": False}, "--calibrate-images, --no-portable"),
        ({"backend": "onnxruntime-cuda", "tensorrt": "10.3"}, "--tensorrt, --backend"),
    ],
)
def test_finishing_takes_no_other_schedule(tiny_onnx, tmp_path, options, named):
    uncompiled = tmp_path / "nano.laudc"
    build_engine(tiny_onnx, uncompiled, device="nano")
    with pytest.raises(UserError, match=f"cannot be built with {named}") as caught:
        build_engine(uncompiled, tmp_path / "out.laudc", **options)
    assert "engine for nano (fp32)" in str(caught.value)
    assert not (tmp_path / "out.laudc").exists()


def test_finishing_keeps_the_precision(tiny_onnx, tmp_path, monkeypatch):
    """Also fp32, the default of what is scheduled anew, is another one where it is said."""
    uncompiled, finished = tmp_path / "nano.laudc", tmp_path / "out.laudc"
    build_engine(tiny_onnx, uncompiled, device="nano", precision="fp16")
    for precision in ("fp32", "tf32"):
        with pytest.raises(UserError, match="cannot be built with --precision") as caught:
            build_engine(uncompiled, finished, precision=precision)
        assert "engine for nano (fp16)" in str(caught.value)
    asked = []
    monkeypatch.setattr("laudc.engine.build._finish_bundle", lambda engine, *_: asked.append(engine))
    for precision in (None, "fp16"):
        build_engine(uncompiled, finished, precision=precision)
    assert asked == [uncompiled] * 2


def test_an_engine_is_built_anew_for_another_device(tiny_onnx, tmp_path, native):
    uncompiled, other = tmp_path / "nano.laudc", tmp_path / "other.laudc"
    build_engine(tiny_onnx, uncompiled, device="nano")
    result = build_engine(uncompiled, other, device="cpu", schedule="sparse")
    assert result.manifest.compiled and result.manifest.backend.name == "onnxruntime"
    result = build_engine(uncompiled, other, device="h200", precision="fp16")
    assert (result.manifest.device.id, result.manifest.precision) == ("h200", "fp16")
    with pytest.raises(UserError, match="no device 'nanoo'"):
        build_engine(uncompiled, tmp_path / "out.laudc", device="nanoo")
    build_engine(tiny_onnx, uncompiled, device="nano", portable=False)
    with pytest.raises(UserError, match="does not carry its portable model"):
        build_engine(uncompiled, tmp_path / "out.laudc", device="cpu")


def test_loading_says_how_to_finish(uncompiled_path):
    with pytest.raises(UserError, match="not compiled yet") as caught:
        load_engine(uncompiled_path)
    assert "laudc-runner build" in str(caught.value) and "--target ssh://" in str(caught.value)


def _found(manifest, **changes):
    settings = {"host": HOST, "backend_version": "8.2.1.8", "native": NATIVE, "gpu": GPU, **changes}
    return [difference.field for difference in differences(manifest, **settings)]


def test_differences_of_a_finished_engine():
    manifest = make_manifest(FINISHED_MEMBERS, **FINISHED)
    assert _found(manifest) == []
    assert _found(manifest, backend_version="8.2.3.0") == ["backend.version"]
    assert _found(manifest, native={**NATIVE, "abi": 2}) == ["native_library.abi"]
    assert _found(manifest, gpu=None) == ["gpu.name"]
    for field in ("name", "sm", "driver"):
        assert _found(manifest, gpu=dataclasses.replace(GPU, **{field: "other"})) == [f"gpu.{field}"]
    assert _found(manifest, gpu=dataclasses.replace(GPU, cuda="11.0")) == []


def test_the_refusal_names_field_and_command(finished_path):
    manifest = open_bundle(finished_path).manifest
    other = GpuRecord("NVIDIA Tegra X2", "6.2", "10.2", "10.2")
    with pytest.raises(UserError, match=r"gpu\.sm") as caught:
        check_compatible(
            finished_path, manifest, host=HOST, backend_version="8.2.1.8", native=NATIVE, gpu=other
        )
    assert "5.3" in str(caught.value) and "6.2" in str(caught.value)
    assert f"laudc build-engine {finished_path} --device nano" in str(caught.value)


def test_plans_are_part_of_the_fixed_layout(tmp_path, finished_path):
    again = tmp_path / "again.laudc"
    write_bundle(again, make_manifest(FINISHED_MEMBERS, **FINISHED), dict(reversed(FINISHED_MEMBERS.items())))
    assert again.read_bytes() == finished_path.read_bytes()

"""Building and loading engines."""

import dataclasses
import errno
import os

import numpy as np
import onnx
import pytest

import laudc
from laudc.devices import detect_host
from laudc.engine import build, load_engine, open_bundle
from laudc.engine.bundle import write_bundle
from laudc.engine.compat import check_compatible, differences, minor_version
from laudc.engine.weights import split_weights
from laudc.errors import UserError

from .conftest import make_manifest

NATIVE = {"abi": 1, "version": "0.1.0", "isa": ["avx2", "portable"], "active": "avx2", "panel": 16}


def host(**changes):
    fields = {"arch": "x86_64", "features": ("avx2", "fma")}
    return dataclasses.replace(detect_host(), **{**fields, **changes})


def images(count=2, size=64):
    return np.random.default_rng(0).standard_normal((count, 3, size, size), dtype=np.float32)


def reference(path, batch):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": batch})[0]


def test_an_engine_computes_what_its_model_computes(tiny_engine, tiny_onnx):
    batch = images()
    with laudc.load_engine(tiny_engine, threads=1) as engine:
        outputs = engine(batch)
        assert isinstance(outputs, tuple) and outputs[0].shape == (2, 10)
        wanted = reference(tiny_onnx, batch)
        assert np.abs(outputs[0] - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_counts_times_and_margins_of_the_last_call(tiny_engine):
    with laudc.load_engine(tiny_engine, threads=1) as engine:
        assert engine.active_counts is None and engine.block_times_ns is None
        engine(images())
        assert engine.block_names == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
        assert engine.active_counts.shape == (2, 4, 4) and engine.active_counts.min() >= 0
        assert engine.block_times_ns.shape == (4,) and engine.block_times_ns.min() > 0
        logits, margins = engine.trace(images())
        assert logits.shape == (2, 10) and set(margins) == set(engine.block_names)
        assert set(margins["layer1.0"]) == {"spatial_margin", "channel_margin"}


def test_an_engine_with_further_outputs(tiny_engine):
    def doubled_too(graph):
        logits = graph.graph.output[0].name
        graph.graph.node.append(onnx.helper.make_node("Add", [logits, logits], ["doubled"]))
        graph.graph.output.append(onnx.helper.make_tensor_value_info("doubled", onnx.TensorProto.FLOAT, None))
        return graph

    with load_engine(tiny_engine, threads=1, change=doubled_too) as engine:
        logits, doubled = engine(images())
    np.testing.assert_array_equal(doubled, 2 * logits)
    with laudc.load_engine(tiny_engine, threads=1) as engine:
        np.testing.assert_array_equal(engine(images())[0], logits)


def test_the_manifest_says_where_the_engine_comes_from(tiny_engine, tiny_onnx, tiny_checkpoint):
    from laudc.files import sha256_file

    manifest = open_bundle(tiny_engine).manifest
    assert manifest.source.onnx_sha256 == sha256_file(tiny_onnx)
    assert manifest.source.checkpoint_sha256 == sha256_file(tiny_checkpoint)
    assert manifest.arch == "laud_resnet" and manifest.config["width_mult"] == 0.25
    assert manifest.device.id == "cpu" and manifest.backend.name == "onnxruntime"
    assert set(manifest.cpu.features) <= set(detect_host().features)
    assert [block["name"] for block in manifest.blocks] == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    assert all(block["reason"] for block in manifest.blocks)


def test_building_twice_gives_the_same_bytes(tiny_engine, tiny_onnx, tmp_path):
    laudc.build_engine(tiny_onnx, tmp_path / "again.laudc")
    assert (tmp_path / "again.laudc").read_bytes() == tiny_engine.read_bytes()


def test_an_engine_can_be_rebuilt_from_itself_in_place(tiny_engine, tmp_path):
    copy = tmp_path / "copy.laudc"
    copy.write_bytes(tiny_engine.read_bytes())
    laudc.build_engine(copy, copy)
    assert copy.read_bytes() == tiny_engine.read_bytes()


def test_an_engine_does_not_overwrite_its_model(tiny_onnx, tmp_path, native):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(tiny_onnx.read_bytes())
    with pytest.raises(UserError, match="the file that the result is made from"):
        laudc.build_engine(copy, copy)
    assert copy.read_bytes() == tiny_onnx.read_bytes()


@pytest.mark.parametrize("option", ["tensorrt", "timing_cache"])
def test_options_of_tensorrt_are_refused_for_others(tiny_onnx, tmp_path, native, option):
    with pytest.raises(UserError, match="Only TensorRT heeds it"):
        laudc.build_engine(tiny_onnx, tmp_path / "a.laudc", **{option: "10.3"})
    assert not list(tmp_path.iterdir())


def test_an_engine_may_be_renamed_moved_and_linked(tiny_engine, tmp_path):
    moved = tmp_path / "another näme.bin"
    moved.write_bytes(tiny_engine.read_bytes())
    (tmp_path / "link.laudc").symlink_to(moved)
    with laudc.load_engine(tmp_path / "link.laudc", threads=1) as engine:
        assert np.isfinite(engine(images())[0]).all()


def test_a_running_engine_survives_the_replacement_of_its_file(tiny_engine, tmp_path):
    path = tmp_path / "a.laudc"
    path.write_bytes(tiny_engine.read_bytes())
    with laudc.load_engine(path, threads=1) as engine:
        before = engine(images())[0]
        path.write_bytes(b"gone")
        assert np.array_equal(engine(images())[0], before)


def test_without_the_portable_model(tiny_onnx, tmp_path, native):
    path = tmp_path / "a.laudc"
    laudc.build_engine(tiny_onnx, path, portable=False)
    assert "portable.onnx" not in open_bundle(path)
    with pytest.raises(UserError, match="does not carry its portable model"):
        laudc.build_engine(path, tmp_path / "b.laudc")


@pytest.mark.parametrize("schedule, execution", [("dense", "dense"), ("sparse", "sparse")])
def test_a_forced_schedule(tiny_onnx, tmp_path, schedule, execution, native):
    path = tmp_path / "a.laudc"
    result = laudc.build_engine(tiny_onnx, path, schedule=schedule)
    assert {block["execution"] for block in result.manifest.blocks} == {execution}
    with laudc.load_engine(path, threads=1) as engine:
        wanted = reference(tiny_onnx, images())
        assert np.abs(engine(images())[0] - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(
    "given, said",
    [
        (np.zeros((1, 3, 64, 64), np.float64), "float64"),
        (np.zeros((3, 64, 64), np.float32), r"images\[None\]"),
        (np.zeros((1, 3, 64, 32), np.float32), r"\(1, 3, 64, 32\)"),
        (np.zeros((1, 1, 64, 64), np.float32), r"\(1, 1, 64, 64\)"),
        (np.zeros((0, 3, 64, 64), np.float32), "empty batch"),
        ([[1.0]], "list"),
    ],
)
def test_wrong_input_is_explained(tiny_engine, given, said):
    with laudc.load_engine(tiny_engine, threads=1) as engine, pytest.raises(UserError, match=said):
        engine(given)


def test_arrays_that_are_not_contiguous(tiny_engine):
    batch = images()
    with laudc.load_engine(tiny_engine, threads=1) as engine:
        turned = np.ascontiguousarray(batch.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
        assert not turned.flags.c_contiguous
        assert np.array_equal(engine(turned)[0], engine(batch)[0])


def test_a_closed_engine_says_so(tiny_engine):
    engine = laudc.load_engine(tiny_engine, threads=1)
    engine.close()
    engine.close()
    with pytest.raises(UserError, match="closed"):
        engine(images())


def test_threads_must_be_positive(tiny_engine):
    with pytest.raises(UserError, match="0 threads"):
        laudc.load_engine(tiny_engine, threads=0)


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"host": host(arch="aarch64")}, "cpu.arch"),
        ({"host": host(features=("avx2",))}, "cpu.features"),
        ({"native": {**NATIVE, "abi": 2}}, "native_library.abi"),
        ({"native": {**NATIVE, "version": "0.2.0"}}, "native_library.version"),
        ({"native": {**NATIVE, "isa": ["portable"]}}, "cpu.isa"),
        ({"backend_version": "1.33.0"}, "backend.version"),
    ],
)
def test_another_machine_is_named_by_its_first_difference(changes, field):
    here = {"host": host(), "native": NATIVE, "backend_version": "1.32.4", **changes}
    with pytest.raises(UserError) as caught:
        check_compatible("x.laudc", make_manifest(), **here)
    assert f"ield '{field}'" in str(caught.value)
    assert "laudc build-engine x.laudc --device cpu -o x.laudc" in str(caught.value)


def test_a_machine_with_more_than_needed_is_fine():
    better = host(features=("avx2", "fma", "avx512f"))
    assert not list(differences(make_manifest(), host=better, native=NATIVE, backend_version="1.32.1+cpu"))


@pytest.mark.parametrize("text, wanted", [("1.32.0", "1.32"), ("2.13.0+cpu", "2.13"), ("", "")])
def test_minor_versions(text, wanted):
    assert minor_version(text) == wanted


def test_loading_refuses_an_engine_for_another_cpu(tiny_engine, tmp_path):
    bundle = open_bundle(tiny_engine)
    foreign = dataclasses.replace(bundle.manifest.cpu, features=("quantum",))
    members = {name: bundle.read(name) for name in bundle.manifest.members}
    write_bundle(tmp_path / "a.laudc", dataclasses.replace(bundle.manifest, cpu=foreign), members)
    with pytest.raises(UserError, match=r"'cpu\.features'.*quantum"):
        laudc.load_engine(tmp_path / "a.laudc")


@pytest.mark.parametrize(
    "option, value, said",
    [
        ("device", "gpu9000", "no device"),
        ("backend", "tensorrt", "needs a GPU, and this is a CPU"),
        ("backend", "tvm", "onnxruntime, onnxruntime-cuda, tensorrt"),
        ("precision", "int8", "fp32"),
        ("schedule", "magic", "auto, dense, sparse"),
    ],
)
def test_options_that_this_version_does_not_have(tiny_onnx, tmp_path, option, value, said, native):
    with pytest.raises(UserError, match=said):
        laudc.build_engine(tiny_onnx, tmp_path / "a.laudc", **{option: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x09", bytes(1000), b"PK\x03\x04" + bytes(50)])
def test_files_that_are_no_models(tmp_path, content, native):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not an ONNX model"):
        laudc.build_engine(path, tmp_path / "a.laudc")


def test_a_model_without_dynamic_blocks(tiny_onnx, tmp_path, native):
    from laudc.export import dense_twin

    with pytest.raises(UserError, match="no dynamic blocks"):
        laudc.build_engine(dense_twin(onnx.load(tiny_onnx)), tmp_path / "a.laudc")


def test_a_missing_library_is_explained(tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.setenv("LAUDC_NATIVE_LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(UserError, match="none.so.*doctor"):
        laudc.build_engine(tiny_onnx, tmp_path / "a.laudc")


def test_a_full_disk_while_building_leaves_nothing(tiny_onnx, tmp_path, monkeypatch, native):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="disk is full"):
        laudc.build_engine(tiny_onnx, tmp_path / "a.laudc")
    assert not list(tmp_path.iterdir())


def test_kernels_that_the_profile_does_not_know():
    with pytest.raises(UserError, match="does not describe"):
        build.kernels_record(build.load_profile("cpu"), "vliw", detect_host())


def test_split_weights_keeps_small_tensors_and_aligns_the_others():
    tensors = [
        onnx.numpy_helper.from_array(np.arange(count, dtype=np.float32), f"w{count}")
        for count in (4, 300, 1000)
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], tensors))
    content = split_weights(model)
    small, *moved = model.graph.initializer
    assert np.array_equal(onnx.numpy_helper.to_array(small), np.arange(4))
    for tensor, count in zip(moved, (300, 1000), strict=True):
        place = {entry.key: entry.value for entry in tensor.external_data}
        start, length = int(place["offset"]), int(place["length"])
        assert start % 64 == 0 and not tensor.raw_data
        assert np.array_equal(np.frombuffer(content[start : start + length], np.float32), np.arange(count))

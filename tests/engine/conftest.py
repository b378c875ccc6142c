"""A small engine file to break in many ways."""

import pytest

from laudc.engine.bundle import member_record, write_bundle
from laudc.engine.manifest import (
    FORMAT,
    FORMAT_VERSION,
    BackendRecord,
    BuildRequest,
    CpuRecord,
    DeviceRecord,
    GpuRecord,
    Manifest,
    NativeRecord,
    SourceRecord,
    TensorRecord,
)

MEMBERS = {
    "model.onnx": bytes(range(256)) * 3,
    "weights.bin": b"weights" * 60,
    "portable.onnx": b"portable" * 50,
}


def make_manifest(members=MEMBERS, **changes):
    fields = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "laudc_version": "0.1.0",
        "source": SourceRecord("a" * 64, None),
        "arch": "resnet50",
        "config": {"mode": "spatial"},
        "input": TensorRecord("input", "float32", ("N", 3, 8, 8)),
        "outputs": (TensorRecord("logits", "float32", ("N", 10)),),
        "preprocess": {},
        "device": DeviceRecord("cpu", "b" * 64),
        "backend": BackendRecord("onnxruntime", "1.32.0"),
        "cpu": CpuRecord("x86_64", "avx2", ("avx2", "fma")),
        "native_library": NativeRecord("c" * 64, 1, "0.1.0", ("avx512", "avx2", "portable")),
        "precision": "fp32",
        "schedule": {"blocks": [{"name": "layer1.0", "execution": "sparse", "reason": "half is skipped"}]},
        "members": {name: member_record(data) for name, data in members.items()},
    }
    return Manifest(**{**fields, **changes})


@pytest.fixture
def manifest():
    return make_manifest()


@pytest.fixture
def bundle_path(tmp_path):
    path = tmp_path / "small.laudc"
    write_bundle(path, make_manifest(), MEMBERS)
    return path


UNCOMPILED = {
    "device": DeviceRecord("nano", "b" * 64),
    "backend": BackendRecord("tensorrt", "8.2"),
    "cpu": None,
    "native_library": NativeRecord(None, 1, "0.1.0", ()),
    "precision": "fp16",
    "compiled": False,
    "request": BuildRequest((1, 1, 4)),
}
FINISHED = {
    **UNCOMPILED,
    "backend": BackendRecord("tensorrt", "8.2.1.8"),
    "native_library": NativeRecord("d" * 64, 1, "0.1.0", ("sm_53",)),
    "compiled": True,
    "gpu": GpuRecord("NVIDIA Tegra X1", "5.3", "10.2", "10.2"),
}
FINISHED_MEMBERS = {**MEMBERS, "engine.plan": b"plan" * 99}


@pytest.fixture
def uncompiled_path(tmp_path):
    """An engine for TensorRT that is still to be finished on its device."""
    path = tmp_path / "uncompiled.laudc"
    write_bundle(path, make_manifest(**UNCOMPILED), MEMBERS)
    return path


@pytest.fixture
def finished_path(tmp_path):
    """The same after its device has finished it."""
    path = tmp_path / "finished.laudc"
    write_bundle(path, make_manifest(FINISHED_MEMBERS, **FINISHED), FINISHED_MEMBERS)
    return path

"""The backend `tensorrt` over stand-ins for TensorRT, Polygraphy and CUDA: no GPU is used, no result is a network's."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import types

import numpy as np
import onnx
import pytest

import laudc
from laudc import backends
from laudc.backends.tensorrt import backend as backend_module
from laudc.backends.tensorrt import plugins
from laudc.backends.tensorrt.compile import CompileRequest, compile_plan
from laudc.backends.tensorrt.cuda import PyCuda, open_cuda
from laudc.backends.tensorrt.layers import parse_layers, require_precision
from laudc.devices.gpu import GpuRecord
from laudc.devices.tensorrt import major, release, release_line
from laudc.engine.bundle import open_bundle
from laudc.engine.engine import load_engine
from laudc.engine.finish import finish_engine
from laudc.engine.uncompiled import uncompiled_engine
from laudc.errors import UserError
from laudc.ops.scheduled import ABI_VERSION
from laudc.schedule import make_plan

from .fake_tensorrt import World, install

VERSIONS = ["8.2.1", "8.6.1", "10.3.0", "11.1.0"]
GPU = GpuRecord("NVIDIA Test", "8.6", "12.4", "12.6")


def _library(path, world_major, abi=ABI_VERSION, error=""):
    """A plugin library that says what it is and does nothing."""
    about = json.dumps({"abi": abi, "version": "0.1.0", "api": f"trt{world_major}", "sm": [86]}).replace('"', '\\"')
    source = path.with_suffix(".c")
    source.write_text(
        f'const char* laudc_abi(void) {{ return "{about}"; }}\n'
        f'const char* laudc_trt_last_error(void) {{ return "{error}"; }}\n'
        "_Bool laudc_trt_register(void* registry) { return registry != 0; }\n"
    )
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    return path


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """Nothing of one test's library or GPU is remembered in the next."""
    for cached in (plugins._open, backend_module._shared_cuda):
        cached.cache_clear()
    monkeypatch.setattr(plugins, "_loaded", set())
    yield
    for cached in (plugins._open, backend_module._shared_cuda):
        cached.cache_clear()


def _world(version, monkeypatch, tmp_path, **library):
    world = World(version)
    install(world, monkeypatch)
    path = _library(tmp_path / "plugins.so", world.major, **library)
    monkeypatch.setenv(plugins.OVERRIDE, str(path))
    if world.major == 8:
        registered = types.SimpleNamespace(getPluginRegistry=types.SimpleNamespace)
        real = ctypes.CDLL

        def find(name):
            if name != "libnvinfer.so.8":
                return real(name)
            registered.getPluginRegistry = lambda: world.plugins_loaded.append("registered") or 1
            return registered

        monkeypatch.setattr(plugins.ctypes, "CDLL", find)
        monkeypatch.setattr(plugins, "_register", lambda path: not world.plugins_loaded.append(str(path)))
    return world


@pytest.fixture(params=VERSIONS)
def world(request, monkeypatch, tmp_path):
    """Every TensorRT in turn."""
    return _world(request.param, monkeypatch, tmp_path)


@pytest.fixture
def one_world(monkeypatch, tmp_path):
    """TensorRT 10.3."""
    return _world("10.3.0", monkeypatch, tmp_path)


def _request(**changes):
    fields = {
        "files": {"model.onnx": b"m", "weights.bin": b"w"},
        "model": "model.onnx",
        "input_name": "input",
        "input_shape": (-1, 3, 64, 64),
        "batch": (1, 2, 4),
        "workspace_mib": 256,
        "precision": "fp16",
        "runs": 1,
    }
    return CompileRequest(**{**fields, **changes})


def _compile(world, **changes):
    steps = []
    path = plugins.library_path(world.version)
    return compile_plan(_request(**changes), path, progress=steps.append), steps


def test_versions():
    assert release("8.6.1.6") == "8.6.1" and release("10.3.0") == "10.3.0"
    assert major("11.1") == 11
    assert release_line(">= 8.6") == "8.6" and release_line("8.2.1") == "8.2.1"
    for version in ("9.1.0", "7.2", "soon"):
        with pytest.raises(UserError, match="not supported"):
            major(version)
    with pytest.raises(UserError, match="--tensorrt"):
        release_line("")


def test_what_tensorrt_is_asked_for(world, tmp_path):
    cache = tmp_path / "timing.cache"
    plan, _ = _compile(world, timing_cache=str(cache))
    assert plan == b"plan" and cache.read_bytes() == b"timings"
    # Precision is a flag up to 8, the graph's own matter after that; 11 does not even take the option.
    assert world.config.get("fp16") == (True if world.major == 8 else None)
    assert world.network_options == ({"strongly_typed": True} if world.major == 10 else {})
    assert world.config["tf32"] is True and world.config["profiling_verbosity"] == "detailed"
    assert world.config["memory_pool_limits"] == {"workspace": 256 << 20}
    (profile,) = world.config["profiles"]
    assert profile == {"input": ((1, 3, 64, 64), (2, 3, 64, 64), (4, 3, 64, 64))}
    assert "load_timing_cache" not in world.config
    _compile(world, timing_cache=str(cache), precision="fp32", input_shape=(4, 3, 64, 64))
    assert world.config["load_timing_cache"] == str(cache)
    assert world.config["tf32"] is False and world.config["profiles"] == []


def test_progress_is_that_of_the_outermost_phase(one_world):
    _, steps = _compile(one_world)
    assert "Building 1/2" in steps and not any("Inner" in step for step in steps)


def test_runs_that_did_not_become_plugins(world):
    with pytest.raises(UserError, match="1 plugin layers of 2 runs"):
        _compile(world, runs=2)


def test_the_plugins_own_reason_comes_first(monkeypatch, tmp_path):
    world = _world("10.3.0", monkeypatch, tmp_path, error="blocks[0].cin is 0")
    world.fail = "build"
    with pytest.raises(UserError, match=r"blocks\[0\]\.cin is 0"):
        _compile(world)


def test_an_engine_that_ignored_fp16(world):
    world.half = False
    with pytest.raises(UserError, match="not fp16"):
        _compile(world)
    _compile(world, precision="fp32")


def test_failures_of_the_builder(one_world):
    one_world.fail = "build"
    with pytest.raises(UserError, match="ould not compile the engine") as caught:
        _compile(one_world)
    assert "Invalid Engine" in str(caught.value)
    one_world.fail = "registry"
    plugins._loaded.clear()
    with pytest.raises(UserError, match="does not load the plugins"):
        _compile(one_world)


def test_engine_descriptions():
    entry = {"Name": "a", "LayerType": "PluginV3", "Outputs": [{"Format/Datatype": "Half"}]}
    text = json.dumps({"Layers": ["only a name", entry]})
    plain, plugin = parse_layers(text)
    assert plain.types == () and plugin.is_plugin and plugin.is_half
    assert require_precision([plain, plugin], "fp16")
    assert not require_precision([plain], "fp16")
    for text in ("", "[]", "{}", '{"Layers": 3}'):
        assert parse_layers(text) == []


def test_libraries_that_do_not_fit(monkeypatch, tmp_path):
    world = _world("10.3.0", monkeypatch, tmp_path, abi=ABI_VERSION + 1)
    with pytest.raises(UserError, match="of another version of laudc"):
        _compile(world)
    other = _library(tmp_path / "other.so", 8)
    monkeypatch.setenv(plugins.OVERRIDE, str(other))
    with pytest.raises(UserError, match="made for trt8, here it must be trt10"):
        _compile(world)
    monkeypatch.setenv(plugins.OVERRIDE, str(tmp_path / "no.so"))
    with pytest.raises(UserError, match=r"liblaudc_trt10\.so is missing"):
        plugins.library_path("10.3.0")
    (tmp_path / "text.so").write_text("text")
    with pytest.raises(UserError, match="cannot be loaded"):
        plugins.describe(tmp_path / "text.so")


SCHEDULE = [
    {
        "name": name,
        "execution": "sparse",
        "reason": "",
        "record": {"mask_groups": 1, "mask_h": side, "mask_w": side, "channel_groups": 0},
    }
    for name, side in (("layer1.0", 2), ("layer2.0", 1))
]


def test_running_a_loaded_engine(world):
    runner = backends.get("tensorrt").load(b"plan", schedule=SCHEDULE)
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 64)).astype(np.float32)
    (logits,) = runner.run(images)
    np.testing.assert_allclose(logits[:, 1], images.mean((1, 2, 3)), rtol=1e-4, atol=1e-6)
    assert runner.block_names == ["layer1.0", "layer2.0"] and runner.block_times_ns is None
    assert runner.last_counts.shape == (3, 2, 4) and runner.last_counts.dtype == np.int32
    assert runner.last_counts[:, 0, 0].tolist() == [7, 0, 7]
    _, traced = runner.trace(images[:2])
    assert traced["layer1.0"]["spatial_margin"].shape == (2, 1, 2, 2)
    assert traced["layer2.0"]["spatial_margin"].ravel().tolist() == [1, -1]
    with pytest.raises(UserError, match="cannot run a batch of 5|annot run a batch of 5"):
        runner.run(np.zeros((5, 3, 64, 64), np.float32))


def test_gpu_time_and_graphs(world):
    runner = backends.get("tensorrt").load(b"plan", schedule=SCHEDULE)
    images = np.zeros((1, 3, 64, 64), np.float32)
    assert runner.time_us(images) == runner.time_us(images) == 1500
    assert runner.uses_graph and world.graph_launches == 2
    world.can_capture = False
    other = backends.get("tensorrt").load(b"plan", schedule=SCHEDULE)
    assert other.time_us(images) == 1500 and not other.uses_graph and world.graph_launches == 2
    assert other.layer_times_us(3) == {"conv1": [250.0] * 3, "layer1.0-layer2.0": [250.0] * 3}
    before = world.launches
    other.run(images)
    assert world.launches == before + 1
    other.close()


@pytest.mark.parametrize(
    ("where", "told"),
    [("plan", "does not load the engine"), ("context", "made no execution context"), ("enqueue", "refused the call")],
)
def test_failures_at_run_time(one_world, where, told):
    one_world.fail = where
    with pytest.raises(UserError, match=told):
        backends.get("tensorrt").load(b"plan", schedule=SCHEDULE).run(np.zeros((1, 3, 64, 64), np.float32))


def test_a_full_gpu(one_world):
    runner = backends.get("tensorrt").load(b"plan", schedule=SCHEDULE)
    one_world.fail = "memory"
    with pytest.raises(UserError, match="cudaMalloc: out of memory"):
        runner.run(np.zeros((1, 3, 64, 64), np.float32))


def test_what_the_machine_has(world):
    backend = backends.get("tensorrt")
    assert backend.is_available().ok, backend.is_available().reason
    assert backend.version() == world.version and backend.gpu() == GPU
    assert backend.native_abi()["abi"] == ABI_VERSION


def test_a_machine_with_nothing(monkeypatch):
    for name in ("tensorrt", "polygraphy", "cuda", "cuda.bindings", "pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    backend = backends.get("tensorrt")
    found = {what: ok for what, ok, _ in backend.check_env()}
    assert found == {"tensorrt": False, "polygraphy": False, "GPU": False}
    assert "pip install polygraphy" in backend.is_available().reason
    with pytest.raises(UserError, match="either cuda-python nor PyCUDA"):
        open_cuda()


def test_pycuda_in_place_of_cuda_python(monkeypatch):
    """Its own interface, as far as it is used."""
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    driver = types.ModuleType("pycuda.driver")

    class Device:
        def __init__(self, index=0):
            pass

        count = staticmethod(lambda: 1)
        name = staticmethod(lambda: "NVIDIA Old")
        compute_capability = staticmethod(lambda: (5, 3))
        retain_primary_context = staticmethod(lambda: types.SimpleNamespace(push=lambda: None))

    class Event:
        def record(self, stream):
            pass

        def synchronize(self):
            pass

        def time_till(self, other):
            return 2.0

    driver.Device, driver.Event, driver.Error = Device, Event, RuntimeError
    driver.Stream = lambda: types.SimpleNamespace(handle=5, synchronize=lambda: None)
    driver.init, driver.get_version, driver.get_driver_version = lambda: None, lambda: (10, 2, 0), lambda: 10020
    package = types.ModuleType("pycuda")
    package.driver = driver
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    cuda = open_cuda()
    assert isinstance(cuda, PyCuda) and cuda.stream == 5
    assert cuda.gpu() == GpuRecord("NVIDIA Old", "5.3", "10.2", "10.2")
    assert cuda.capture(lambda: None) is None and cuda.elapsed_us(lambda: None) == 2000


PROFILE = types.SimpleNamespace(
    id="nano",
    sha256="b" * 64,
    batch=2,
    data={
        "toolchain": {"tensorrt": ">= 8.2"},
        "unsupported": {"int8": "no 8-bit dot product"},
        "memory": {"capacity_gib": {"value": 4}},
    },
)


def _uncompiled(tiny_onnx, precision="fp16", tensorrt=None):
    from laudc.engine.build import _describe

    raw = tiny_onnx.read_bytes()
    portable = onnx.load_from_string(raw)
    plan = make_plan(portable)
    parts = _describe(portable, raw)
    return uncompiled_engine(portable, raw, plan, PROFILE, parts, precision=precision, batch=2, tensorrt=tensorrt)


def test_uncompiled_engines(tiny_onnx):
    manifest, members = _uncompiled(tiny_onnx)
    assert not manifest.compiled and manifest.cpu is None and manifest.backend.version == "8.2"
    assert manifest.request.workspace_mib == 256 and manifest.request.batch == (1, 2, 2)
    assert set(members) == {"model.onnx", "weights.bin", "portable.onnx"}
    with pytest.raises(UserError, match="o 8-bit dot product"):
        _uncompiled(tiny_onnx, precision="int8")


def test_from_the_command_line_to_a_loaded_engine(world, tiny_onnx, tmp_path, monkeypatch, capsys):
    """build-engine twice: for a device that is elsewhere, then on the device; and the engine runs."""
    from laudc.cli.app import main

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    records = [block.record for block in make_plan(onnx.load(tiny_onnx)).blocks]
    world.blocks, world.margins = len(records), sum(record.margins for record in records)
    uncompiled, finished = tmp_path / "u.laudc", tmp_path / "f.laudc"
    words = ["--precision", "fp16", "--tensorrt", world.version]
    assert main(["build-engine", str(tiny_onnx), "--device", "nano", *words, "-o", str(uncompiled)]) == 0
    assert "laudc-runner build" in capsys.readouterr().out
    assert main(["inspect", str(uncompiled)]) == 0
    assert "not compiled yet" in capsys.readouterr().out
    assert main(["build-engine", str(uncompiled), "-o", str(finished)]) == 0
    manifest = open_bundle(finished).manifest
    assert manifest.compiled and manifest.gpu == GPU and manifest.native_library.isa == ("86",)
    assert manifest.backend.version == world.version
    cache = tmp_path / f"cache/laudc/timing-trt{world.version}-sm8.6.cache"
    assert cache.read_bytes() == b"timings"
    assert main(["inspect", str(finished)]) == 0
    assert "exactly this GPU" in capsys.readouterr().out
    measured = laudc.profile(finished, runs=3, warmup=0)
    assert measured.end_to_end.median_us == 1500 and measured.activation is not None
    assert [layer.name for layer in measured.layers] == ["conv1", "layer1.0-layer2.0"]
    with load_engine(finished) as engine:
        (logits,) = engine(np.zeros((1, 3, 64, 64), np.float32))
        assert logits.shape == (1, 10)


def test_the_device_itself_compiles_at_once(world, tiny_onnx, tmp_path, monkeypatch):
    """This machine has the GPU that the profile names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = laudc.build_engine(tiny_onnx, tmp_path / "f.laudc", device="rtx3090", precision="fp16")
    assert result.manifest.compiled and result.manifest.gpu == GPU
    assert result.manifest.backend.version == world.version
    world.fail = "build"
    with pytest.raises(UserError, match="ould not compile"):
        laudc.build_engine(tiny_onnx, tmp_path / "g.laudc", device="rtx3090", precision="fp16")
    assert not (tmp_path / "g.laudc").exists()


def test_finishing_for_another_tensorrt(one_world, tiny_onnx, tmp_path):
    laudc.build_engine(tiny_onnx, tmp_path / "u.laudc", device="nano", tensorrt="8.2")
    with pytest.raises(UserError, match=r"backend\.version") as caught:
        finish_engine(tmp_path / "u.laudc", tmp_path / "f.laudc")
    assert "--tensorrt 10.3.0" in str(caught.value)
    assert not (tmp_path / "f.laudc").exists()


def test_a_driver_update_asks_for_a_new_build(one_world, tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    laudc.build_engine(tiny_onnx, tmp_path / "u.laudc", device="orin", tensorrt="10.3")
    finish_engine(tmp_path / "u.laudc", tmp_path / "f.laudc")
    sys.modules["cuda.bindings.runtime"].cudaDriverGetVersion = lambda: (0, 13000)
    backend_module._shared_cuda.cache_clear()
    with pytest.raises(UserError, match=r"gpu\.driver"):
        load_engine(tmp_path / "f.laudc")


def test_onnxruntime_cuda_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("LAUDC_ORT_CUDA_LIBRARY", str(tmp_path / "no.so"))
    backend = backends.get("onnxruntime-cuda")
    reason = backend.is_available().reason
    assert "onnxruntime-gpu" in reason and "liblaudc_ort_cuda.so is missing" in reason
    assert backend.version()
    with pytest.raises(UserError, match="onnxruntime-cuda cannot be used"):
        laudc.build_engine("x.onnx", tmp_path / "o.laudc", device="rtx3090", backend="onnxruntime-cuda")

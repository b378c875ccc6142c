"""Whole networks: the scheduled engine against plain ONNX Runtime on the portable graph, and against torch."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import laudnet
import numpy as np
import onnx
import pytest
import torch
from torch import nn

import laudc
from laudc import backends
from laudc.schedule import lower, make_plan
from tests.export.models import MODES, REGNET_MODES, noise, small_model, small_regnet
from tests.native.support import ISAS
from tests.ops.runtimes import run_onnxruntime

Array = np.ndarray
TOLERANCE = 5e-5  # of logits, relative to the largest one


@functools.cache
def network(mode: str) -> tuple[laudnet.LaudResNet, onnx.ModelProto]:
    """A seeded network and its portable graph."""
    model = small_model(mode)
    return model, laudc.export(model)


def engine_of(portable: onnx.ModelProto, panel: int = 64, threads: int = 1) -> Any:
    plan = make_plan(portable, panel=panel)
    backend = backends.get("onnxruntime")
    return backend.load(backend.compile(lower(portable, plan)), threads=threads)


def assert_logits(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(wanted).max())))


def check(model: laudnet.DynamicNetwork, portable: onnx.ModelProto, engine: Any, x: torch.Tensor) -> None:
    """Logits, every margin and every count."""
    images = x.numpy()
    (plain,) = run_onnxruntime(portable, {"input": images})
    wanted = laudnet.trace(model, x)
    logits, margins = engine.trace(images)
    assert_logits(logits, plain)
    assert_logits(logits, wanted.logits.numpy())
    np.testing.assert_array_equal(engine.run(images)[0], logits)
    counts = dict(zip(engine.block_names, engine.last_counts.transpose(1, 0, 2), strict=True))
    assert list(margins) == [block.name for block in wanted.blocks]
    for block in wanted.blocks:
        for kind, column in (("spatial", 2), ("channel", 3)):
            margin = getattr(block, f"{kind}_margin")
            assert (margin is None) == (f"{kind}_margin" not in margins[block.name])
            if margin is None:
                continue
            found = margins[block.name][f"{kind}_margin"]
            np.testing.assert_array_equal(found >= 0, getattr(block, f"{kind}_keep").numpy())
            if block.name not in counts:  # left to the runtime: ±1 only
                continue
            np.testing.assert_allclose(found, margin.numpy(), rtol=0, atol=1e-3)
            kept = getattr(block, f"{kind}_keep").flatten(1).sum(1).numpy()
            np.testing.assert_array_equal(counts[block.name][:, column], kept)
    assert (engine.block_times_ns is None) if not counts else (engine.block_times_ns > 0).all()


@pytest.mark.parametrize("panel", [16, 64])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("grouped", "dilated")])
def test_modes(mode: str, panel: int) -> None:
    model, portable = network(mode)
    engine = engine_of(portable, panel)
    assert len(engine.block_names) == 6
    for batch in (1, 3):
        check(model, portable, engine, noise(batch, 3, 64, 64, seed=batch))


@pytest.mark.parametrize("panel", [16, 64])
@pytest.mark.parametrize("mode", REGNET_MODES)
def test_regnet(mode: str, panel: int) -> None:
    model = small_regnet(mode)
    portable = laudc.export(model)
    engine = engine_of(portable, panel, threads=2)
    assert len(engine.block_names) == 16
    for batch in (1, 3):
        check(model, portable, engine, noise(batch, 3, 64, 64, seed=batch))


def test_other_input_size_of_a_channel_network() -> None:
    model, _ = network("channel")
    portable = laudc.export(model, input_size=(50, 77))
    check(model, portable, engine_of(portable), noise(2, 3, 50, 77))


def test_masks_that_do_not_divide_their_maps() -> None:
    model = small_model("spatial", input_size=96, mask_spatial_granularity=(5, 5, 4, 2))
    portable = laudc.export(model)
    check(model, portable, engine_of(portable), noise(2, 3, 96, 96))


@pytest.mark.parametrize("mode", ["grouped", "dilated"])
def test_blocks_left_to_the_runtime_stay_exact(mode: str) -> None:
    model = small_model(mode)
    portable = laudc.export(model)
    plan = make_plan(portable)
    assert any(block.execution == "dense" for block in plan.blocks)
    images = noise(3, 3, 64, 64)
    backend = backends.get("onnxruntime")
    engine = backend.load(backend.compile(lower(portable, plan)), threads=1)
    logits, margins = engine.trace(images.numpy())
    wanted = laudnet.trace(model, images)
    assert_logits(logits, wanted.logits.numpy())
    for block in wanted.blocks:
        for kind in ("spatial", "channel"):
            found = margins[block.name][f"{kind}_margin"]
            np.testing.assert_array_equal(found >= 0, getattr(block, f"{kind}_keep").numpy())


def _lean(model: laudnet.LaudResNet, spatial: float, channel: float) -> None:
    with torch.no_grad():
        for masker in model.maskers():
            layers = [m for m in masker.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
            bias = layers[-1].bias
            bias[: bias.numel() // 2] += spatial if type(masker).__name__ == "SpatialMasker" else channel


@pytest.mark.parametrize("spatial", [-1000.0, 0.0, 1000.0])
@pytest.mark.parametrize("channel", [-1000.0, 1000.0])
def test_empty_and_full_masks(spatial: float, channel: float) -> None:
    model = small_model("both")
    _lean(model, spatial, channel)
    portable = laudc.export(model)
    engine = engine_of(portable)
    x = noise(3, 3, 64, 64)
    engine.run(x.numpy())
    counts = engine.last_counts
    if spatial < 0:
        assert not counts[:, :, :3].any()
    if channel < 0:
        assert not counts[:, :, 3].any()
    (plain,) = run_onnxruntime(portable, {"input": x.numpy()})
    assert_logits(engine.run(x.numpy())[0], plain)
    assert_logits(plain, laudnet.trace(model, x).logits.numpy())


_RUN_ISA = """
import json, sys
from pathlib import Path
import numpy as np
from laudc import backends
backend = backends.get("onnxruntime")
folder = Path(sys.argv[1])
x = np.load(folder / "x.npy")
found = {}
for path in sorted(folder.glob("*.onnx")):
    found[path.stem] = backend.load(path.read_bytes(), threads=1).run(x)[0].tolist()
print(json.dumps({"active": backend.native_abi()["active"], "logits": found}))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """Scheduled models of several modes for both panel widths, and images."""
    folder = tmp_path_factory.mktemp("isa")
    for mode in ("spatial", "channel", "both", "uneven", "channel_conv"):
        _, portable = network(mode)
        for panel in (16, 64):
            scheduled = lower(portable, make_plan(portable, panel=panel))
            (folder / f"{mode}.{panel}.onnx").write_bytes(scheduled.SerializeToString())
    np.save(folder / "x.npy", noise(2, 3, 64, 64).numpy())
    return folder


def child_environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **changes}


@pytest.mark.parametrize("isa", ISAS)
def test_instruction_sets(isa: str, compiled: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _RUN_ISA, str(compiled)],
        env=child_environment(LAUDC_ISA=isa),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    # Never more than was asked for; less where the CPU has less.
    assert ISAS.index(report["active"]) <= ISAS.index(isa)
    x = np.load(compiled / "x.npy")
    for name, logits in report["logits"].items():
        (plain,) = run_onnxruntime(network(name.split(".")[0])[1], {"input": x})
        assert_logits(np.array(logits, np.float32), plain)


def test_several_python_threads_share_a_session() -> None:
    _, portable = network("mixed")
    engine = engine_of(portable, threads=2)
    names = [output.name for output in engine.session.get_outputs() if "block_ns" not in output.name]
    inputs = [noise(1 + i % 3, 3, 64, 64, seed=i).numpy() for i in range(4)]

    def values(images: Array) -> list[Array]:
        return engine.session.run(names, {"input": images})

    wanted = [values(images) for images in inputs]
    wrong: list[str] = []

    def work(offset: int) -> None:
        for i in range(12):
            which = (i + offset) % 4
            for name, found, expected in zip(names, values(inputs[which]), wanted[which], strict=True):
                # Margins are sums over pieces whose number follows the width of the pool.
                same = np.allclose(found, expected, atol=1e-4) if "margins" in name else (found == expected).all()
                if not same:
                    wrong.append(name)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_an_empty_batch() -> None:
    _, portable = network("both")
    (logits,) = engine_of(portable).run(np.zeros((0, 3, 64, 64), np.float32))
    assert logits.shape == (0, 10)

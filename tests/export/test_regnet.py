"""LAUD-RegNetY from torch to portable ONNX."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import laudnet
import numpy as np
import pytest
import torch

import laudc
from laudc.errors import UserError
from laudc.export import dense_twin, export
from laudc.ops.macs import network_macs, network_shape
from tests.export.models import REGNET_MODES, noise, small_regnet
from tests.ops.runtimes import run_onnxruntime


@pytest.mark.parametrize("mode", REGNET_MODES)
def test_portable_graph_computes_the_model(mode: str) -> None:
    model, x = small_regnet(mode), noise(3, 3, 64, 64)
    (found,) = run_onnxruntime(export(model), {"input": x.numpy()})
    with torch.no_grad():
        wanted = model(x).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def test_dense_twin_computes_the_static_network() -> None:
    model, x = small_regnet("regnet_both"), noise(2, 3, 64, 64)
    twin = dense_twin(export(model))
    assert {node.domain for node in twin.graph.node} == {""}
    (found,) = run_onnxruntime(twin, {"input": x.numpy()})
    with torch.no_grad():
        wanted = model.forward_dense(x).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("arch", "published"),
    [("lad_regnet_y_400mf", 0.40e9), ("lad_regnet_y_800mf", 0.83e9), ("lad_regnet_y_1_6gf", 1.61e9)],
)
def test_dense_macs_are_the_published_ones(arch: str, published: float) -> None:
    model = laudnet.build_model(laudnet.RegNetConfig.for_arch(arch, dyn_mode=("channel",) * 4)).eval()
    found = network_macs(network_shape(export(model)), {}).dense
    assert abs(found - published) < 0.02 * published


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "regnet.pth"
    laudnet.save_checkpoint(path, small_regnet("regnet_spatial"))
    return path


def test_se_pool_is_asked_for_and_recorded(checkpoint: Path) -> None:
    exact, active = export(checkpoint), export(checkpoint, se_pool="active")
    pools = [
        {a.i for node in model.graph.node for a in node.attribute if a.name == "se_pool"} for model in (exact, active)
    ]
    assert pools == [{0}, {1}]
    x = noise(2, 3, 64, 64).numpy()
    (a,), (b,) = (run_onnxruntime(model, {"input": x}) for model in (exact, active))
    assert np.abs(a - b).max() > 1e-3 * np.abs(a).max()
    loaded = laudnet.load_checkpoint(checkpoint)
    changed = laudnet.load_checkpoint(checkpoint, dataclasses.replace(loaded.config, se_pool="active"))
    with torch.no_grad():
        np.testing.assert_allclose(b, changed.model(torch.from_numpy(x)).numpy(), rtol=0, atol=2e-5 * np.abs(b).max())


def test_se_pool_needs_a_regnet_with_spatial_masks(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(UserError, match="se-pool"):
        export(tiny_checkpoint, se_pool="active")
    path = tmp_path / "channel.pth"
    laudnet.save_checkpoint(path, small_regnet("regnet_channel"))
    with pytest.raises(UserError, match="se-pool"):
        export(path, se_pool="active")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dyn_mode": ["layer"] * 4}, "has no 'layer' mode; it has channel, spatial, both"),
        ({"channel_dyn_granularity": [16] * 4}, "channel_dyn_granularity"),
        ({"se_pool": "some"}, "se_pool"),
        ({"layers": [1, 1, 1, 1]}, "layers"),
        ({"width_mult": 0.5}, "width_mult"),
    ],
)
def test_configurations_that_describe_no_network(checkpoint: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        laudc.export(checkpoint, config={"arch": "lad_regnet_y_400mf", **options})


def test_spatial_masks_take_the_trained_image_size_only(checkpoint: Path) -> None:
    with pytest.raises(UserError, match="64x64"):
        export(checkpoint, input_size=96)

"""LAUD-RegNetY against its definition, written out with torch functions from the authors' parameter names."""

from __future__ import annotations

from pathlib import Path

import laudnet
import pytest
import torch
from laudnet import CheckpointError, LaudConfig, RegNetConfig
from torch import Tensor
from torch.nn import functional as F

from tests.export.models import REGNET_MODES, noise, small_regnet

Weights = dict[str, Tensor]


def _conv_norm(w: Weights, at: str, x: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
    x = F.conv2d(x, w[f"{at}.0.weight"], None, stride, padding, 1, groups)
    stats = (w[f"{at}.1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *stats, False, 0.1, 1e-5)


def _keep(logits: Tensor) -> Tensor:
    keep, drop = logits.chunk(2, dim=1)
    return (keep >= drop).float()


def _channel_mask(w: Weights, at: str, x: Tensor) -> Tensor | None:
    mean = x.mean((2, 3))
    if f"{at}.conv.weight" in w:
        return _keep(F.linear(mean, w[f"{at}.conv.weight"], w[f"{at}.conv.bias"]))
    if f"{at}.linear.weight" in w:
        hidden = torch.relu(_conv_norm(w, f"{at}.conv", x)).mean((2, 3))
        return _keep(F.linear(hidden, w[f"{at}.linear.weight"], w[f"{at}.linear.bias"]))
    if f"{at}.conv.0.weight" not in w:
        return None
    hidden = torch.relu(F.linear(mean, w[f"{at}.conv.0.weight"], w[f"{at}.conv.0.bias"]))
    return _keep(F.linear(hidden, w[f"{at}.conv.2.weight"], w[f"{at}.conv.2.bias"]))


def _block(config: RegNetConfig, w: Weights, at: str, stage: int, first: bool, x: Tensor) -> Tensor:
    stride = 2 if first else 1
    width = w[f"{at}.f.a.0.weight"].shape[0]
    groups = width // w[f"{at}.f.b.0.weight"].shape[1]
    identity = _conv_norm(w, f"{at}.proj", x, stride) if first else x
    cm = _channel_mask(w, f"{at}.f.masker_channel", x)
    expand = 1 if cm is None else cm.repeat_interleave(width // cm.shape[1], 1)[:, :, None, None]
    y = torch.relu(_conv_norm(w, f"{at}.f.a", x)) * expand
    y = torch.relu(_conv_norm(w, f"{at}.f.b", y, stride, 1, groups)) * expand
    sm = None
    if f"{at}.f.masker_spatial.conv.weight" in w:
        size = config.input_size // (4 * 2**stage)
        pooled = F.adaptive_avg_pool2d(x, size // config.mask_spatial_granularity[stage])
        logits = F.conv2d(pooled, w[f"{at}.f.masker_spatial.conv.weight"], w[f"{at}.f.masker_spatial.conv.bias"])
        sm = F.interpolate(_keep(logits), size=y.shape[2:], mode="nearest")
    mean = y.mean((2, 3), keepdim=True)
    if sm is not None and config.se_pool == "active":
        union = sm.amax(1, keepdim=True)
        mean = (y * union).sum((2, 3), keepdim=True) / union.sum((2, 3), keepdim=True).clamp(min=1)
    hidden = torch.relu(F.conv2d(mean, w[f"{at}.f.se.fc1.weight"], w[f"{at}.f.se.fc1.bias"]))
    y = y * torch.sigmoid(F.conv2d(hidden, w[f"{at}.f.se.fc2.weight"], w[f"{at}.f.se.fc2.bias"]))
    y = _conv_norm(w, f"{at}.f.c", y)
    if sm is not None:
        y = y * sm.repeat_interleave(width // sm.shape[1], 1)
    return torch.relu(identity + y)


@pytest.mark.parametrize("mode", REGNET_MODES)
def test_against_the_definition(mode: str) -> None:
    model, x = small_regnet(mode), noise(2, 3, 64, 64)
    w = dict(model.state_dict())
    y = torch.relu(_conv_norm(w, "stem", x, 2, 1))
    for stage, depth in enumerate((1, 3, 6, 6)):
        for i in range(depth):
            y = _block(model.config, w, f"trunk_output.block{stage + 1}.block{stage + 1}-{i}", stage, i == 0, y)
    wanted = F.linear(y.mean((2, 3)), w["fc.weight"], w["fc.bias"])
    with torch.no_grad():
        torch.testing.assert_close(model(x), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("arch", "parameters"),
    [("lad_regnet_y_400mf", 4.63e6), ("lad_regnet_y_800mf", 6.82e6), ("lad_regnet_y_1_6gf", 11.88e6)],
)
def test_sizes_are_the_published_ones(arch: str, parameters: float) -> None:
    with torch.device("meta"):
        config = RegNetConfig.for_arch(arch, dyn_mode=("channel",) * 4, channel_masker_layers=(2,) * 4)
        model = laudnet.build_model(config)
    found = sum(p.numel() for p in model.parameters())
    assert abs(found - parameters) < 0.01e6


def _authors_file(path: Path, **changes: str) -> Path:
    """A checkpoint as the authors' script writes it."""
    model = small_regnet("regnet_spatial")
    options = {
        "arch": "'lad_regnet_y_400mf'",
        "dyn_mode": "'spatial-spatial-spatial-spatial'",
        "mask_spatial_granularity": "'4-2-2-1'",
        "mask_channel_group": "'1-2-1-4'",
        "channel_dyn_granularity": "'1-1-1-1'",
        "channel_masker": "'MLP-MLP-MLP-MLP'",
        "channel_masker_layers": "'1-1-1-1'",
        "channel_masker_reduction": "'4-4-4-4'",
        "IMAGE_SIZE": "64",
        "width_mult": "1.0",
        **changes,
    }
    text = ", ".join(f"{key}={value}" for key, value in options.items())
    torch.save({"hyper_set": f"Namespace({text})", "state_dict": model.state_dict()}, path)
    return path


def test_authors_checkpoints_load_strictly(tmp_path: Path) -> None:
    loaded = laudnet.load_checkpoint(_authors_file(tmp_path / "a.pth.tar"))
    assert loaded.source_kind == "authors"
    assert loaded.config == small_regnet("regnet_spatial").config
    x = noise(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model(x), small_regnet("regnet_spatial")(x))


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("dyn_mode", "'layer-layer-layer-layer'", "has no 'layer' mode"),
        ("dyn_mode", "'both-both-both-both'", "masker_channel"),
        ("arch", "'lad_regnet_y_800mf'", "1-3-6-6"),
        ("arch", "'uni_resnet50'", "a RegNet"),
        ("arch", "'lad_regnet_y_32gf'", "lad_regnet_y_32gf"),
        ("mask_channel_group", "'3-1-1-1'", "another shape"),
        ("IMAGE_SIZE", "70", "input_size"),
    ],
)
def test_configurations_that_do_not_fit(tmp_path: Path, option: str, value: str, said: str) -> None:
    with pytest.raises((CheckpointError, ValueError), match=said):
        laudnet.load_checkpoint(_authors_file(tmp_path / "a.pth.tar", **{option: value}))


def test_bare_state_dict_says_what_it_looks_like(tmp_path: Path) -> None:
    path = tmp_path / "bare.pth"
    torch.save(small_regnet("regnet_channel").state_dict(), path)
    with pytest.raises(CheckpointError, match="lad_regnet_y_400mf"):
        laudnet.load_checkpoint(path)
    with pytest.raises(CheckpointError, match="a RegNet"):
        laudnet.load_checkpoint(path, LaudConfig())
    config = small_regnet("regnet_channel").config
    assert laudnet.load_checkpoint(path, config).config == config


def test_own_format_keeps_family_and_options(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    laudnet.save_checkpoint(path, small_regnet("regnet_active"))
    loaded = laudnet.load_checkpoint(path)
    assert isinstance(loaded.model, laudnet.LaudRegNet)
    assert loaded.config.to_dict()["se_pool"] == "active"

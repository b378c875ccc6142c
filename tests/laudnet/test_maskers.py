"""Decisions, their upsampling, and what masking does to a block."""

from __future__ import annotations

import laudnet
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laudnet.maskers import Masker, SpatialMasker, upsample_mask
from torch.nn import functional as F


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 120), st.integers(1, 512))
def test_nearest_index_is_torchs(mask_size: int, out_size: int) -> None:
    cells = torch.arange(mask_size, dtype=torch.float32).view(1, 1, mask_size, 1).expand(-1, -1, -1, mask_size)
    upsampled = upsample_mask(cells, (out_size, out_size))
    assert np.array_equal(upsampled[0, 0, :, 0].numpy(), laudnet.nearest_index(mask_size, out_size))


@given(st.integers(1, 64), st.integers(1, 16))
def test_whole_tiles_where_the_mask_divides(mask_size: int, tile: int) -> None:
    index = laudnet.nearest_index(mask_size, mask_size * tile)
    assert np.array_equal(index, np.arange(mask_size * tile) // tile)


@given(st.integers(1, 200), st.integers(1, 500))
def test_index_is_sorted_and_in_range(mask_size: int, out_size: int) -> None:
    index = laudnet.nearest_index(mask_size, out_size)
    assert len(index) == out_size
    assert index[0] == 0
    assert (np.diff(index) >= 0).all()
    assert index[-1] < mask_size


def test_index_refuses_empty_masks() -> None:
    with pytest.raises(ValueError, match="positive"):
        laudnet.nearest_index(0, 4)


def test_ties_keep_and_nan_drops() -> None:
    nan, inf = float("nan"), float("inf")
    logits = torch.tensor([[[1.0, 0.0, nan, 1.0, inf, -inf], [1.0, 0.5, 0.0, nan, inf, 0.0]]])
    decision = Masker().eval().decide(logits)
    assert decision.keep.tolist() == [[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]]


def test_training_samples_follow_the_logits_and_carry_gradients() -> None:
    torch.manual_seed(0)
    masker = Masker().train()
    logits = torch.tensor([1.0, -1.0]).view(1, 2, 1).repeat(4000, 1, 1).requires_grad_()
    keep = masker.decide(logits).keep
    assert set(np.unique(keep.detach().numpy().round(6))) == {0.0, 1.0}
    assert abs(float(keep.detach().mean()) - torch.sigmoid(torch.tensor(2.0))) < 0.03
    keep.sum().backward()
    assert logits.grad is not None
    assert bool((logits.grad[:, 0] > 0).all())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(9, 20))
def test_spatial_masker_pools_like_adaptive_average(mask_size: int, side: int) -> None:
    torch.manual_seed(0)
    masker = SpatialMasker(3, 2, mask_size).eval()
    x = torch.randn(2, 3, side, side)
    expected = masker.conv(F.adaptive_avg_pool2d(x, mask_size))
    margin = masker(x).margin
    assert margin.shape == (2, 2, mask_size, mask_size)
    torch.testing.assert_close(margin, expected[:, :2] - expected[:, 2:])


def small(mode: str) -> laudnet.LaudResNet:
    torch.manual_seed(1)
    config = laudnet.LaudConfig(
        arch="laud_resnet",
        layers=(1, 2, 1, 1),
        dyn_mode=(mode,) * 4,
        input_size=32,
        num_classes=3,
        width_mult=0.125,
    )
    model = laudnet.build_model(config)
    model(torch.randn(8, 3, 32, 32))  # BN statistics other than 0 and 1
    return model.eval()


def set_masks(model: laudnet.LaudResNet, keep: bool) -> None:
    for masker in model.maskers():
        parameters = dict(masker.named_parameters())
        for name, parameter in parameters.items():
            torch.nn.init.zeros_(parameter)
            if name.endswith("bias") and parameter.numel() == 2 * masker.groups:
                parameter.data[: masker.groups] = 1.0 if keep else -1.0


@pytest.mark.parametrize("mode", ["channel", "spatial", "layer", "both"])
def test_keeping_everything_is_the_static_network(mode: str) -> None:
    model = small(mode)
    set_masks(model, keep=True)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model.forward_dense(x))


@pytest.mark.parametrize("mode", ["spatial", "layer"])
def test_a_skipped_identity_block_returns_its_input(mode: str) -> None:
    model = small(mode)
    set_masks(model, keep=False)
    block = dict(model.blocks())["layer2.1"]
    x = torch.relu(torch.randn(2, block.conv1.in_channels, 4, 4))
    with torch.no_grad():
        assert torch.equal(block(x), x)


def test_dropped_channels_carry_a_constant_not_zero() -> None:
    model = small("channel")
    set_masks(model, keep=False)
    block = dict(model.blocks())["layer2.1"]
    x = torch.relu(torch.randn(1, block.conv1.in_channels, 4, 4))
    with torch.no_grad():
        constant = block.relu(block.bn2(torch.zeros(1, block.conv2.out_channels, 1, 1)))
        expected = torch.relu(block.bn3(block.conv3(constant)) + x)
        assert not torch.equal(expected, x)
        torch.testing.assert_close(block(x), expected)


def test_trace_refuses_training_mode() -> None:
    with pytest.raises(ValueError, match="training mode"):
        laudnet.trace(small("both").train(), torch.zeros(1, 3, 32, 32))


def test_input_shape_is_checked() -> None:
    with pytest.raises(ValueError, match="32x32"):
        small("layer")(torch.zeros(1, 3, 32, 64))
    with pytest.raises(ValueError, match="batch, 3"):
        small("layer")(torch.zeros(3, 32, 32))
    assert small("channel")(torch.zeros(1, 3, 45, 61)).shape == (1, 3)


def test_temperature_reaches_every_masker() -> None:
    model = small("both")
    model.temperature = 0.25
    assert {masker.temperature for masker in model.maskers()} == {0.25}
    with pytest.raises(ValueError, match="positive"):
        model.temperature = 0

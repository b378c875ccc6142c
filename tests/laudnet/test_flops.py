"""The MACs bookkeeping beyond what the references cover."""

from __future__ import annotations

import laudnet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laudnet import flops
from laudnet.config import LaudConfig
from torch.nn import functional as F


@pytest.mark.parametrize(("arch", "published"), [("uni_resnet50", 4.0989e9), ("uni_resnet101", 7.8162e9)])
def test_static_macs_are_the_published_ones(arch: str, published: float) -> None:
    assert abs(flops.static_macs(LaudConfig.for_arch(arch)) - published) < 0.5e5


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 2), st.integers(1, 4), st.integers(0, 2**31))
def test_conv1_mask_is_the_reach_of_the_convolution(size: int, stride: int, dilation: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(2, 1, size, size, generator=generator) < 0.3).float()
    # Ground truth: an input matters where the gradient of the masked convolution's output is not zero.
    x = torch.zeros(2, 1, size * stride, size * stride, requires_grad=True)
    y = F.conv2d(x, torch.ones(1, 1, 3, 3), stride=stride, padding=dilation, dilation=dilation)
    (y * mask).sum().backward()
    assert x.grad is not None
    assert torch.equal(flops.conv1_mask(mask, stride, dilation), (x.grad != 0).float())


@pytest.mark.parametrize("mode", ["channel", "spatial", "layer", "both"])
def test_gradients_reach_every_masker(mode: str) -> None:
    torch.manual_seed(0)
    config = LaudConfig(
        arch="laud_resnet",
        layers=(1, 1, 1, 1),
        dyn_mode=(mode,) * 4,
        input_size=64,
        num_classes=2,
        width_mult=0.125,
    )
    model = laudnet.build_model(config).train()
    flops.count(model, model.run(torch.randn(4, 3, 64, 64))).total.backward()
    for name, parameter in model.named_parameters():
        if ".masker_" in name and name.endswith("bias"):
            assert parameter.grad is not None, name
            assert bool((parameter.grad != 0).any()), name


def test_fresh_masks_cost_about_everything() -> None:
    config = LaudConfig(
        arch="laud_resnet", layers=(1, 1, 1, 1), input_size=64, width_mult=0.125, dyn_mode=("layer",) * 4
    )
    model = laudnet.build_model(config).eval()
    counted = flops.count(model, model.run(torch.randn(2, 3, 64, 64)))
    assert float(counted.total.detach()) == pytest.approx(counted.dense)

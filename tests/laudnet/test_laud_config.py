"""The configuration accepts exactly what can be built and run, and survives JSON."""

from __future__ import annotations

import json
from typing import Any

import laudnet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laudnet import LaudConfig

four = lambda entries: st.lists(entries, min_size=4, max_size=4)  # noqa: E731


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Options of a small network; most combinations are valid, some are not."""
    return {
        "arch": "laud_resnet",
        "layers": draw(four(st.integers(1, 2))),
        "dyn_mode": draw(four(st.sampled_from(["channel", "spatial", "layer", "both"]))),
        "mask_spatial_granularity": draw(four(st.integers(1, 5))),
        "spatial_mask_channel_group": draw(four(st.integers(1, 3))),
        "channel_dyn_granularity": draw(four(st.integers(1, 9))),
        "channel_masker": draw(four(st.sampled_from(["MLP", "conv_linear"]))),
        "channel_masker_layers": draw(four(st.integers(1, 2))),
        "reduction_ratio": draw(four(st.sampled_from([1, 4, 16]))),
        "input_size": draw(st.sampled_from([32, 64, 96, 40, 65])),
        "num_classes": draw(st.integers(1, 5)),
        "width_mult": draw(st.sampled_from([0.0625, 0.125, 0.01])),
        "groups": draw(st.sampled_from([1, 2, 3])),
        "replace_stride_with_dilation": draw(st.lists(st.booleans(), min_size=3, max_size=3)),
    }


@settings(max_examples=60, deadline=None)
@given(options())
def test_what_validates_builds_and_runs(chosen: dict[str, Any]) -> None:
    try:
        config = LaudConfig(**chosen)
    except ValueError as error:
        assert str(error).split(":")[0] in chosen
        return
    model = laudnet.build_model(config).eval()
    x = torch.randn(2, 3, config.input_size, config.input_size)
    trace = laudnet.trace(model, x)
    assert trace.logits.shape == (2, config.num_classes)
    for block in trace.blocks:
        stage = config.stage(int(block.name[5]) - 1)
        assert block.gap.shape == (2, stage.out_channels)
        assert (block.channel_margin is not None) == bool(stage.channel_groups)
        if block.channel_margin is not None:
            assert block.channel_margin.shape == (2, stage.channel_groups)
        if block.spatial_margin is not None:
            assert block.spatial_margin.shape[2:] == (stage.mask_size, stage.mask_size)


@settings(max_examples=60, deadline=None)
@given(options())
def test_json_round_trip(chosen: dict[str, Any]) -> None:
    try:
        config = LaudConfig(**chosen)
    except ValueError:
        return
    assert LaudConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert hash(config) == hash(LaudConfig.from_dict(config.to_dict()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("arch", "resnet50"),
        ("arch", 5),
        ("layers", (3, 4, 6, 4)),
        ("layers", (0, 1, 1, 1)),
        ("layers", 3),
        ("dyn_mode", ("channel",) * 3),
        ("dyn_mode", "channel"),
        ("dyn_mode", ("none",) * 4),
        ("channel_masker", ("mlp",) * 4),
        ("channel_masker_layers", (3, 1, 1, 1)),
        ("channel_dyn_granularity", (128, 1, 1, 1)),
        ("channel_dyn_granularity", (3, 48, 1, 1)),
        ("mask_spatial_granularity", (57, 1, 1, 1)),
        ("mask_spatial_granularity", (1.0, 1, 1, 1)),
        ("spatial_mask_channel_group", (3, 1, 1, 1)),
        ("input_size", 0),
        ("input_size", "224"),
        ("input_size", 200),
        ("input_size", 1 << 20),
        ("input_size", True),
        ("num_classes", -1),
        ("width_mult", 0),
        ("width_mult", float("nan")),
        ("width_mult", float("inf")),
        ("width_mult", 0.001),
        ("width_mult", 999999.0),
        ("groups", 0),
        ("groups", 1 << 30),
        ("zero_init_residual", 1),
        ("replace_stride_with_dilation", (True,)),
        ("replace_stride_with_dilation", (0, 0, 1)),
        ("reduction_ratio", (16, 16, 16, 0)),
    ],
)
def test_rejects_and_names_the_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}"):
        LaudConfig.from_dict({field: value})


def test_unknown_fields_are_named() -> None:
    with pytest.raises(ValueError, match="gran_ularity"):
        LaudConfig.from_dict({"gran_ularity": 1})


def test_free_architecture_needs_its_depth() -> None:
    with pytest.raises(ValueError, match="layers"):
        LaudConfig.from_dict({"arch": "laud_resnet"})


def test_named_architectures_know_their_depth() -> None:
    assert LaudConfig.from_dict({"arch": "uni_resnet101"}).layers == (3, 4, 23, 3)


@pytest.mark.parametrize(("granularity", "masks"), [((4, 4, 2, 1), [14, 7, 7, 7]), ((8, 4, 7, 1), [7, 7, 2, 7])])
def test_mask_sizes_of_the_paper(granularity: tuple[int, ...], masks: list[int]) -> None:
    config = LaudConfig(dyn_mode=("spatial",) * 4, mask_spatial_granularity=granularity)
    assert [config.stage(index).mask_size for index in range(4)] == masks
    assert [config.stage(index).output_size for index in range(4)] == [56, 28, 14, 7]


def test_resnet50_has_the_published_keys() -> None:
    config = LaudConfig(channel_dyn_granularity=(2,) * 4, channel_masker_layers=(2,) * 4)
    with torch.device("meta"):
        state = laudnet.build_model(config).state_dict()
    assert len(state) == 416
    assert state["layer4.2.masker_channel.conv.2.weight"].shape == (512, 16)
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert state["layer3.5.masker_spatial.conv.bias"].shape == (2,)


def test_zero_init_residual() -> None:
    config = LaudConfig(arch="laud_resnet", layers=(1, 1, 1, 1), width_mult=0.125, zero_init_residual=True)
    assert all(not block.bn3.weight.any() for _, block in laudnet.build_model(config).blocks())

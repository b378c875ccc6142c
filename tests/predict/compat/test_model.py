"""Devices, operators and blocks of the compat model beyond the recorded values."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laudc.devices import load_profile
from laudc.errors import UserError
from laudc.ops.scheduled import BlockRecord
from laudc.predict import compat
from laudc.predict.compat.tiles import coalescing, fill

MODEL = compat.Model(compat.compat_device("v100"))
IDENTITY = BlockRecord(cin=256, width=64, cout=256, stride=1, hin=56, win=56, projection=0)
FIRST = BlockRecord(cin=256, width=128, cout=512, stride=2, hin=56, win=56, projection=1)


def test_devices_of_the_authors_have_their_numbers():
    device = compat.compat_device("v100")
    assert device.authors and device.batch == 128
    assert device.units * device.unit_macs_s == pytest.approx(7.68e12)
    assert (device.dram_elements_s, device.l2_elements_s, device.fill_lanes) == (175e9, 700e9, 256)
    assert compat.compat_device("3090") == compat.compat_device("rtx3090")
    assert compat.compat_device("3060", batch=4).batch == 4


@pytest.mark.parametrize("name", ["h200", "orin", "cpu"])
def test_other_devices_stand_in_with_their_profile(name):
    device, profile = compat.compat_device(name), load_profile(name)
    assert not device.authors
    assert (device.units, device.l2_factor) == (profile.compute.units, 4)
    assert device.launch_s == pytest.approx(profile.launch.stream_us * 1e-6 if name == "cpu" else 8e-6)


def test_a_model_takes_devices_profiles_and_names():
    assert compat.Model("v100") == compat.Model(load_profile("v100")) == MODEL
    assert hash(compat.Model("v100")) == hash(MODEL) and compat.Model("nano") != MODEL
    with pytest.raises(UserError, match="closest"):
        compat.Model("v10")


def test_unknown_devices_and_batches():
    with pytest.raises(UserError, match="closest"):
        compat.compat_device("v10")
    with pytest.raises(UserError, match="Batch 0"):
        compat.compat_device("v100", batch=0)


def test_efficiencies_by_hand():
    assert fill(8, 8) == 1 and fill(9, 8) == 9 / 16
    assert coalescing(16, 0, 8) == 1 and coalescing(12, 5, 8) == 12 / 16
    assert coalescing(4, 8, 8) == 0.5 and coalescing(4, 2, 8) == 4 / 6 and coalescing(4, -3, 8) == 1
    assert coalescing(1, 50, 1) == 1


@pytest.mark.parametrize("name", ["v100", "tx2", "nano"])
def test_the_input_density_counts_twice(name):
    # A fault of the authors' model that is kept: a quarter of the arithmetic is left, not a sixth.
    model = compat.Model(compat.compat_device(name))
    sizes = {"cin": 128, "cout": 128, "inh": 28, "inw": 28, "ks": 3}
    half = compat.conv(model, **sizes, ic_density=0.5, oc_density=0.5)
    assert 5.2 < compat.conv(model, **sizes).latency_s / half.latency_s < 6.5


def test_overlap_takes_the_larger():
    arguments = {"cin": 128, "cout": 128, "inh": 28, "inw": 28, "ks": 3}
    overlapping = compat.Model(replace(MODEL.device, overlap=True))
    both, larger = compat.conv(MODEL, **arguments), compat.conv(overlapping, **arguments)
    assert larger.latency_s == pytest.approx(max(larger.compute_s, larger.memory_s) + 8e-6)
    assert larger.latency_s < both.latency_s
    sparse = {**arguments, "granul_size": 4, "density": 0.5, "with_indexing": True}
    assert compat.dynamic_conv(overlapping, **sparse).latency_s <= compat.dynamic_conv(MODEL, **sparse).latency_s


def test_a_channel_masker_of_one_group_is_free():
    assert compat.channel_masker(MODEL, cin=64, h=7, w=7, n_c_dy_group=64, n_fc_layers=2).latency_s == 0


def test_maskers_take_the_faster_way_unless_forced():
    arguments = {"cin": 256, "cout": 64, "h": 56, "w": 56, "granul_size": 8, "density": 0.1, "spatial_masker": True}
    fused = compat.masker_conv1(MODEL, **arguments, test_nofuse=False)
    apart = compat.masker_conv1(MODEL, **arguments, no_fuse=True)
    assert compat.masker_conv1(MODEL, **arguments).latency_s == min(fused.latency_s, apart.latency_s)


@given(
    density=st.floats(0, 1),
    more=st.floats(0, 1),
    granule=st.sampled_from((1, 2, 4, 7)),
    indexed=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_more_active_patches_never_cost_less(density, more, granule, indexed):
    def latency(share):
        return compat.dynamic_conv(
            MODEL, cin=64, cout=64, inh=28, inw=28, ks=3, granul_size=granule, density=share, with_indexing=indexed
        ).latency_s

    low, high = sorted((density, more))
    assert latency(low) <= latency(high)


def test_geometry_of_a_scheduled_block():
    spatial = compat.BlockGeometry.of_record(replace(FIRST, mask_groups=1, mask_h=7, mask_w=7))
    assert (spatial.out_h, spatial.granule, spatial.channel_granule, spatial.projected) == (28, 4, 1, True)
    channel = compat.BlockGeometry.of_record(replace(IDENTITY, channel_groups=32, channel_masker=1))
    assert (channel.granule, channel.channel_granule, channel.projected) == (1, 2, False)
    odd = compat.BlockGeometry.of_record(replace(FIRST, hin=7, win=5, mask_groups=1, mask_h=2, mask_w=2))
    assert (odd.out_h, odd.out_w, odd.h, odd.granule) == (4, 3, 8, 2)


def test_geometry_of_a_regnet_block():
    @dataclass(frozen=True)
    class RegNetRecord(BlockRecord):
        group: int = 1
        squeeze: int = 1

    record = RegNetRecord(cin=48, width=104, cout=104, stride=2, hin=56, win=56, projection=1, group=13, squeeze=12)
    assert compat.BlockGeometry.of_record(record) == replace(compat.blocks_of(compat.REGNETY_400MF)[1], projection=True)


@pytest.mark.parametrize(
    "changes, mode",
    [
        ({}, "static"),
        ({"channel_groups": 8}, "channel"),
        ({"mask_groups": 1, "mask_h": 7, "mask_w": 7}, "spatial"),
        ({"mask_groups": 1, "mask_h": 1, "mask_w": 1}, "layer"),
        ({"mask_groups": 1, "mask_h": 1, "mask_w": 1, "channel_groups": 8}, "spatial"),
    ],
)
def test_mode_of_a_scheduled_block(changes, mode):
    assert compat.BlockMode.of_record(replace(IDENTITY, **changes)) == mode


def test_blocks_are_the_sum_of_their_parts():
    block = compat.BlockGeometry.of_record(FIRST)
    for mode in compat.BlockMode:
        found = compat.predict_block(MODEL, block, mode, compat.BlockRates(0.5, 0.5, 0.5))
        assert found.latency_s == pytest.approx(sum(cost.latency_s for cost in found.parts.values()))
        assert "shortcut" in found.parts  # stride 2
    assert "shortcut" not in compat.predict_block(MODEL, compat.BlockGeometry.of_record(IDENTITY)).parts


def test_layer_skipping_is_linear_in_its_rate():
    block = compat.BlockGeometry.of_record(IDENTITY)
    none, half, full = (
        compat.predict_block(MODEL, block, "layer", compat.BlockRates(layer=rate)).latency_s for rate in (0, 0.5, 1)
    )
    assert half == pytest.approx((none + full) / 2)


def test_networks_of_the_authors():
    assert [len(compat.blocks_of(network)) for network in (compat.RESNET50, compat.RESNET101)] == [16, 33]
    first, second = compat.blocks_of(compat.REGNETY_400MF)[:2]
    assert (first.cin, first.cout, first.h, first.groups, first.squeeze_channels) == (32, 48, 112, 6, 8)
    assert (second.cin, second.cout, second.h, second.groups, second.squeeze_channels) == (48, 104, 56, 13, 12)
    assert len(compat.blocks_of(compat.REGNETY_800MF)) == 14
    with pytest.raises(UserError, match="4 stages"):
        compat.blocks_of(compat.RESNET50, granules=(4, 2, 1))


def test_a_block_with_squeeze_and_excitation_pays_for_it():
    block = compat.blocks_of(compat.REGNETY_400MF)[1]
    for mode in ("static", "spatial", "channel"):
        assert compat.predict_block(MODEL, block, mode).parts["se"].launch_s == pytest.approx(4 * 8e-6)


def test_each_block_can_have_its_own_rates():
    blocks = compat.blocks_of(compat.RESNET50)
    rates = [compat.BlockRates(layer=index / 16) for index in range(16)]
    found = compat.predict_network(MODEL, blocks, "layer", rates)
    assert found[3].latency_s == compat.predict_block(MODEL, blocks[3], "layer", rates[3]).latency_s


def test_many_calls_at_once():
    calls = [compat.Call.of("add", c=64, h=28, w=28), compat.Call.of("fc", cin=64, cout=10)] * 3
    assert [cost.latency_s for cost in compat.predict_many(MODEL, calls)] == [
        compat.predict(MODEL, call).latency_s for call in calls
    ]


@pytest.mark.parametrize(
    "op, arguments, said",
    [
        ("convolve", {}, "no such operator"),
        ("fc", {"cin": 64}, "Missing a required"),
        ("fc", {"cin": 64, "cout": 10, "bias": 1}, "unexpected keyword"),
        ("fc", {"cin": 0, "cout": 10}, "'cin' is 0"),
        ("fc", {"cin": 64.5, "cout": 10}, "'cin' is 64.5"),
        ("fc", {"cin": 10**9, "cout": 10}, "'cin' is 1000000000"),
        ("fc", {"cin": True, "cout": 10}, "'cin' is True"),
        ("gather", {"c": 1, "h": 1, "w": 1, "granul_size": 1, "density": 1.5}, "between 0 and 1"),
        ("gather", {"c": 1, "h": 1, "w": 1, "granul_size": 1, "density": 1, "granul_size_pad": -1}, "from 0 to"),
        ("masker_conv1", {"spatial_masker": 1}, "true or false"),
        ("channel_masker_predictor", {"reduction_size": 0}, "'reduction_size' is 0"),
        ("softmax", {"shape": []}, "list of sizes"),
    ],
)
def test_wrong_calls_are_explained(op, arguments, said):
    with pytest.raises(UserError, match=said):
        compat.Call.of(op, **arguments)


@pytest.mark.parametrize("changes", [{"cout": 4}, {"cin": 4}, {"stride": 8, "groups": 1}])
@pytest.mark.parametrize("op", ["conv", "dynamic_conv"])
def test_sizes_that_vanish_are_explained(op, changes):
    sizes = {"cin": 64, "cout": 64, "inh": 7, "inw": 7, "ks": 1, "groups": 8, **changes}
    call = compat.Call.of(op, **sizes)
    with pytest.raises(UserError, match="do not go together"):
        compat.predict(MODEL, call)

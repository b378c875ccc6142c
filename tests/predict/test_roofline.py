"""The roofline baseline."""

import pytest

from laudc.devices import load_profile
from laudc.errors import UserError
from laudc.predict.geometry import BlockGeometry, BlockRates
from laudc.predict.roofline import (
    Work,
    block_work,
    conv_work,
    elementwise_work,
    linear_work,
    pool_work,
    roofline_block_s,
    roofline_s,
)

V100 = load_profile("v100")
BLOCK = BlockGeometry(cin=64, width=64, cout=256, stride=1, h=56, w=56)


def test_the_larger_of_arithmetic_and_data():
    assert roofline_s(V100, Work(7.8336e12, 0)) == pytest.approx(1.0)
    assert roofline_s(V100, Work(0, 900e9 / 4)) == pytest.approx(1.0)
    assert roofline_s(V100, Work(0, 900e9 / 2), "fp16") == pytest.approx(1.0)
    assert roofline_s(V100, Work(7.8336e12, 900e9)) == pytest.approx(4.0)


def test_dtypes_that_a_device_lacks():
    with pytest.raises(UserError, match="(?i)the hardware has none"):
        roofline_s(V100, Work(1, 1), "bf16")


def test_work_by_hand():
    assert conv_work(cin=2, cout=3, h=4, w=5, ks=3) == Work(20 * 54, 54 + 40 + 60)
    assert conv_work(cin=4, cout=4, h=5, w=5, ks=3, groups=2, stride=2).macs == 9 * 8 * 9
    assert conv_work(cin=4, cout=4, h=4, w=4, ks=1, ic_density=0.5, oc_density=0.25).macs == 16 * 2
    assert elementwise_work(c=2, h=3, w=4) == Work(24, 72)
    assert pool_work(c=2, h=3, w=4) == Work(24, 26)
    assert linear_work(rows=2, inner=3, outer=4) == Work(24, 6 + 12 + 8)
    assert Work(1, 2) + Work(3, 4) == Work(4, 6)


def test_a_block_scales_with_its_rates():
    full = block_work(BLOCK, batch=2)
    assert list(full) == ["conv1", "conv2", "conv3", "add", "shortcut"]
    half = block_work(BLOCK, BlockRates(spatial=0.5), batch=2)
    assert half["conv2"].macs == full["conv2"].macs / 2 and half["shortcut"] == full["shortcut"]
    channels = block_work(BLOCK, BlockRates(channel=0.5), batch=2)
    assert channels["conv2"].macs == full["conv2"].macs / 4 and channels["conv1"].macs == full["conv1"].macs / 2
    layer = block_work(BLOCK, BlockRates(layer=0.25), batch=2)
    assert layer["conv3"].macs == full["conv3"].macs / 4 and layer["shortcut"] == full["shortcut"]


def test_a_block_takes_the_sum_of_its_operators():
    parts = block_work(BLOCK, batch=8).values()
    assert roofline_block_s(V100, BLOCK, batch=8) == pytest.approx(sum(roofline_s(V100, work) for work in parts))

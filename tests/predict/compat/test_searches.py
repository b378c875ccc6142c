"""The fast searches against plain loops: every value to the last bit, ties included."""

import importlib.util
import random
from pathlib import Path

import pytest

from laudc.predict import compat
from laudc.predict.compat.tiles import axis, candidates

_spec = importlib.util.spec_from_file_location("plain_search", Path(__file__).with_name("plain_search.py"))
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

DEVICES = [("v100", 128), ("3090", 128), ("3060", 128), ("tx2", 1), ("nano", 1), ("v100", 1), ("3090", 16), ("h200", 8)]
CHANNELS = (16, 24, 48, 64, 104, 128, 208, 440, 512)


def worst_of(channels):
    """Worst-tile densities of one channel count in the form that the plain search asks in."""
    sizes = sorted(candidates(channels))

    def worst(count, tile, share, run):
        return float(compat.ClosedForm().of(channels, share, run)[sizes.index(tile)])

    return worst


@pytest.fixture(params=range(12))
def case(request):
    """A device and random sizes."""
    rng = random.Random(request.param)
    name, batch = DEVICES[request.param % len(DEVICES)]
    device = compat.compat_device(name, batch=batch)
    return rng, device, compat.Model(device)


def sizes_of(rng):
    stride = rng.choice((1, 1, 2))
    return rng.choice(CHANNELS), rng.choice(CHANNELS), stride, rng.choice((7, 8, 14, 28)) * stride, rng.choice((1, 3))


def densities_of(rng):
    return rng.choice(((1, 1), (1, 1), (0.5, 0.5), (1, 0.3), (0.7, 1), (1, 0)))


def test_candidates_by_hand():
    assert sorted(candidates(1)) == [1, 2]
    assert sorted(candidates(4)) == [1, 2, 3, 4, 8]
    assert sorted(candidates(14)) == [1, 2, 3, 4, 5, 6, 7, 8, 14, 16]
    assert max(candidates(1000)) == 1000 and list(axis(1000).tiles) == sorted(candidates(1000))


def test_conv(case):
    rng, device, model = case
    cin, cout, stride, side, ks = sizes_of(rng)
    i, o = densities_of(rng)
    found = compat.conv(model, cin=cin, cout=cout, inh=side, inw=side, ks=ks, stride=stride, ic_density=i, oc_density=o)
    assert found.latency_s == plain.conv(device, worst_of(cout), cin, cout, side, side, ks, 1, stride, i, o)


def test_grouped_conv(case):
    rng, device, model = case
    groups = rng.choice((2, 4, 8))
    found = compat.conv(model, cin=64, cout=64, inh=28, inw=14, ks=3, groups=groups)
    assert found.latency_s == plain.conv(device, worst_of(64), 64, 64, 28, 14, 3, groups)


def test_dynamic_conv(case):
    rng, device, model = case
    cin, cout, stride, side, ks = sizes_of(rng)
    i, o = densities_of(rng)
    granule, density, run = rng.choice((1, 2, 4, 7)), rng.choice((0, 0.1, 0.25, 0.5, 1)), rng.choice((1, 1, 4, cout))
    indexed = rng.random() < 0.5
    found = compat.dynamic_conv(
        model,
        cin=cin,
        cout=cout,
        inh=side,
        inw=side,
        ks=ks,
        stride=stride,
        granul_size=granule,
        density=density,
        with_indexing=indexed,
        ic_density=i,
        oc_density=o,
        c_n_groups=run,
    )
    wanted = plain.dynamic_conv(
        device, worst_of(cout), cin, cout, side, side, ks, 1, stride, granule, density, indexed, i, o, run
    )
    assert found.latency_s == wanted


def test_scatter_add_and_dynamic_se(case):
    rng, device, model = case
    c, side, granule = rng.choice(CHANNELS), rng.choice((7, 14, 28)), rng.choice((1, 2, 4, 7))
    density = rng.choice((0, 0.3, 0.5, 1))
    found = compat.scatter_add(model, c=c, h=side, w=side, granul_size=granule, density=density)
    assert found.latency_s == plain.scatter_add(device, c, side, side, granule, density)
    found = compat.dynamic_se(model, c=c, h=side, w=side, squeeze_channels=12, granul_size=granule, density=density)
    assert found.latency_s == plain.dynamic_se(device, c, side, side, 12, granule, density)


def test_plain_operators(case):
    rng, device, model = case
    c, side, other = rng.choice(CHANNELS), rng.choice((7, 14, 28, 56)), rng.choice(CHANNELS)
    assert compat.add(model, c=c, h=side, w=side).latency_s == plain.add(device, c, side, side)
    assert compat.fc(model, cin=c, cout=other).latency_s == plain.fc(device, c, other)
    found = compat.se(model, c=c, h=side, w=side, squeeze_channels=12)
    assert found.latency_s == plain.se(device, c, side, side, 12)

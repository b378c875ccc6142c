"""What turns a launch into time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from laudc.devices import load_profile
from laudc.predict.gpu.dense import Moved, Product, runtime_ns
from laudc.predict.gpu.images import Images, share_out, share_out_tokens
from laudc.predict.gpu.launch import Gpu, Launch, beyond_cache, moved, spread, traffic_ns
from laudc.predict.gpu.model import gpu_of

GPU = gpu_of(load_profile("v100"), "fp32")


def _spread(pieces, cost, **changes):
    given = {"threads": 128, "resident": 4, **changes}
    return spread(np.atleast_2d(np.asarray(pieces, float)), np.atleast_2d(np.asarray(cost, float)), GPU, **given)


def _value(array) -> float:
    (value,) = array
    return float(value)


def test_waves_are_paid_for_as_wholes() -> None:
    slots = GPU.units * 4
    assert _value(_spread(0, 100.0).compute_ns) == 0
    assert _value(_spread(1, 100.0).compute_ns) == _value(_spread(GPU.units, 100.0).compute_ns) == 100.0
    assert _value(_spread(GPU.units + 1, 100.0).compute_ns) == 200.0
    assert _value(_spread(slots, 100.0).compute_ns) == 400.0
    assert _value(_spread(slots + 1, 100.0).compute_ns) == 500.0
    assert _value(_spread(slots + 1, 100.0).waves) == 2


def test_a_block_of_two_warps_uses_half_of_a_multiprocessor() -> None:
    alone, pair = (_value(_spread(n, 100.0, threads=64, resident=8).compute_ns) for n in (1, 2 * GPU.units))
    assert alone == pair == 200.0


def test_segments_share_the_multiprocessors() -> None:
    apart = _spread([40, 40], [100.0, 300.0])
    assert _value(apart.compute_ns) == _value(_spread(80, 200.0).compute_ns)


def test_traffic_comes_from_where_it_lies() -> None:
    one = np.ones(1)
    small, large = one * GPU.l2_bytes / 8, one * GPU.l2_bytes * 8
    assert _value(beyond_cache(GPU, small)) == 0 and _value(beyond_cache(GPU, large)) == 1
    assert _value(traffic_ns(GPU, small, small)) == pytest.approx(_value(small) / GPU.l2)
    assert _value(traffic_ns(GPU, large, large)) == pytest.approx(_value(large) / GPU.dram)
    assert _value(traffic_ns(GPU, small, 0 * small, small)) == pytest.approx(_value(small) / GPU.dram)
    assert _value(traffic_ns(GPU, 10 * small, small)) == pytest.approx(10 * _value(small) / GPU.l2)


def test_parts_of_a_launch_overlap_and_latencies_scale() -> None:
    parts = [np.asarray([value]) for value in (75.0, 10.0, 20.0, 40.0)]
    gpu: Gpu = replace(GPU, launch_ns=1000.0)
    assert _value(Launch("x", *parts).ns(gpu)) == pytest.approx(1000 + 10 + 75 / gpu.fp32_efficiency)
    slow = replace(gpu, latency_factor=10.0)
    assert _value(Launch("x", *parts).ns(slow)) == pytest.approx(1000 + 100 + 200)
    narrow = replace(gpu, memory_efficiency=0.1)
    assert _value(Launch("x", *parts).ns(narrow)) == pytest.approx(1000 + 400)
    fast = replace(gpu, compute_efficiency=1.5)
    assert _value(Launch("x", *parts, on_gemm_units=True).ns(fast)) == pytest.approx(1000 + 10 + 50)
    assert _value(moved("x", gpu, np.zeros(1)).ns(gpu)) == 1000


def test_maps_are_shared_out_in_whole_warps() -> None:
    few, many = share_out(49, 1, GPU), share_out(112 * 112, 64, GPU)
    assert (few.count, few.pixels) == (7, 8)
    assert many.pixels % 8 == 0 and many.count * many.pixels >= 112 * 112
    assert 64 * many.count <= 4 * GPU.units + 64
    tokens = share_out_tokens(197, 1, GPU)
    assert tokens.count == 25 and tokens.count * tokens.pixels >= 197


def test_images_add_up_in_a_list_and_stay_apart_in_segments() -> None:
    groups, values = np.asarray([[0, 1], [2, 2]]), np.asarray([1.0, 2.0, 5.0])
    together, apart = Images(groups, False), Images(groups, True)
    assert together.sums(values).tolist() == [[3.0], [10.0]] and apart.sums(values).tolist() == [[1, 2], [5, 5]]
    assert together.shared(values).tolist() == [[1.0], [5.0]] and apart.shared(values).tolist() == [[1, 2], [5, 5]]
    assert together.total(values).tolist() == apart.total(values).tolist() == [3.0, 10.0]
    assert (together.segments, together.most(7), apart.segments, apart.most(7)) == (1, 14, 2, 7)


def test_the_runtime_takes_its_fastest_kernel() -> None:
    """A long product with few results is split along k; an empty one is a launch."""
    deep = Product(49, 4608, 512, 512)
    whole = deep.macs / (GPU.units * GPU.runtime_rate) * 1e9
    tiles = np.ceil(49 / 32) * np.ceil(512 / 32)
    unsplit = deep.macs / tiles / GPU.runtime_rate * 1e9
    assert whole < runtime_ns(deep, GPU) - GPU.launch_ns < unsplit
    assert runtime_ns(Product(0, 8, 8, 8), GPU) == GPU.launch_ns
    assert runtime_ns(Moved(0), GPU) == GPU.launch_ns
    assert runtime_ns(deep, GPU, far=0.0) <= runtime_ns(deep, GPU)
    # Calibrations measure our kernels only.
    assert runtime_ns(deep, replace(GPU, compute_efficiency=0.1, fp32_efficiency=0.1)) == runtime_ns(deep, GPU)

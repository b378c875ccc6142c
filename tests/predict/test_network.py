"""Distributions of whole networks on a CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from laudc.ops import names
from laudc.ops.scheduled import Conv2Algorithm
from laudc.predict.activation import Activation, activation_at_rate
from laudc.predict.blueprint import Blueprint
from laudc.predict.counts import count_block, full_counts
from laudc.predict.cpu.amounts import TOKENS, Amounts, Machine
from laudc.predict.cpu.cost import Cost
from laudc.predict.cpu.model import CpuModel, Fit
from laudc.predict.cpu.terms import TERMS, block_terms
from laudc.predict.frame import Frame
from laudc.predict.interface import Conditions, Interval, Place
from laudc.predict.network import PlannedBlock, batches, places, predict_network
from laudc.predict.traffic import far_share
from tests.predict.models import SMALL, block, cpu_fit, cpu_model

BLOCKS = [PlannedBlock(name, record) for name, record in SMALL.blocks()]
FRAME = Frame.of_blueprint(SMALL)


def _predict(activation, blocks=BLOCKS, **options):
    return predict_network(cpu_model(), FRAME, blocks, activation, status="test", **options)


def _layers(gates: np.ndarray) -> tuple[list[PlannedBlock], Activation]:
    """Layer skipping with one column of gates per block."""
    blueprint = Blueprint(layers=(2, 2, 2, 2), modes=("layer",) * 4, input_size=64)
    blocks = [PlannedBlock(name, record) for name, record in blueprint.blocks()]
    masks = {
        names.mask_value(b.name, "spatial"): gates[:, i].reshape(-1, 1, 1, 1).astype(np.uint8)
        for i, b in enumerate(blocks)
    }
    return blocks, Activation(len(gates), masks, "gates")


def test_blocks_and_what_is_outside_add_up() -> None:
    predicted = _predict(activation_at_rate(SMALL.blocks(), 0.5, images=20))
    total = predicted.outside_us + sum(b.latency.mean_us for b in predicted.blocks)
    assert np.isclose(predicted.latency.mean_us, total)
    assert np.isclose(predicted.samples_us.mean(), total)
    assert [b.name for b in predicted.blocks] == [b.name for b in BLOCKS]


def test_more_kept_costs_more_and_the_worst_case_is_everything() -> None:
    low, high, full = (_predict(activation_at_rate(SMALL.blocks(), rate, images=20)) for rate in (0.2, 0.8, 1.0))
    assert low.latency.mean_us < high.latency.mean_us < full.latency.mean_us
    assert np.isclose(low.latency.worst_us, full.latency.mean_us)
    for one in (low, high):
        assert one.latency.p50_us <= one.latency.p95_us <= one.latency.p99_us <= one.latency.worst_us


def test_blocks_that_are_busy_together_widen_the_tail() -> None:
    random = np.random.default_rng(0)
    together = np.repeat(random.random((2000, 1)) < 0.5, 8, axis=1)
    apart = random.random((2000, 8)) < 0.5
    correlated, independent = (_predict(a, blocks=b).latency for b, a in map(_layers, (together, apart)))
    assert np.isclose(correlated.mean_us, independent.mean_us, rtol=0.05)
    spread_together = correlated.p95_us - correlated.mean_us
    spread_apart = independent.p95_us - independent.mean_us
    assert spread_together > 1.2 * spread_apart


def test_intervals_surround_the_mean() -> None:
    latency = _predict(activation_at_rate(SMALL.blocks(), 0.5, images=4)).latency
    assert latency.low_us < latency.mean_us < latency.high_us
    assert np.isclose(latency.high_us, 1.1 * latency.mean_us)


def test_a_batch_reads_weights_once_but_computes_every_image() -> None:
    record = block()
    model = cpu_model(weights_far=0.1)
    counts = full_counts(record, 4)
    one = model.batch_ns(record, counts, Place(), batches(4, 1))
    four = model.batch_ns(record, counts, Place(), batches(4, 4))
    assert 0.5 * one.sum() < four[0] < one.sum()


def test_batches_fill_up_from_the_beginning() -> None:
    assert batches(5, 2).tolist() == [[0, 1], [2, 3], [4, 0]]
    assert batches(2, 4).tolist() == [[0, 1, 0, 1]]


def test_dense_blocks_break_runs() -> None:
    activation = activation_at_rate(SMALL.blocks(), 1.0, images=2)
    mixed = [PlannedBlock(b.name, b.record, "dense" if i == 2 else "sparse") for i, b in enumerate(BLOCKS)]
    broken = _predict(activation, blocks=mixed)
    whole = _predict(activation)
    # Both the dense block and the one behind it pay for a change of layout.
    assert broken.blocks[3].latency.mean_us > whole.blocks[3].latency.mean_us
    assert broken.blocks[2].execution == "dense"


def test_sums_are_known_behind_a_channel_block_of_the_same_run() -> None:
    channel = block(mask_groups=0, mask_h=0, mask_w=0, channel_groups=8, channel_masker=1)
    blocks = [PlannedBlock("a", channel), PlannedBlock("b", channel), PlannedBlock("c", channel, "dense")]
    counts = [full_counts(channel)] * 3
    assert [place.sums_known for place in places(blocks, counts, 1 << 20)] == [False, True, False]


def test_a_block_of_ours_behind_one_of_the_runtime_finds_its_caches_empty() -> None:
    record = block()
    kinds = ["sparse", "dense", "sparse", "dense", "sparse"]
    blocks = [PlannedBlock(str(number), record, kind) for number, kind in enumerate(kinds)]
    counts = [full_counts(record)] * 5
    stands = places(blocks, counts, 1 << 20)
    assert [place.behind for place in stands] == [False, False, True, False, True]
    machine = Machine("avx512", 1, 32 << 20)
    found = [dict(zip(TERMS, block_terms(record, counts[0], machine, place)[0], strict=True)) for place in stands]
    assert [terms["behind"] for terms in found] == [0, 0, 1, 0, 1]
    assert found[2]["behind_floats"] == 14 * 14 * (3 * 256 + 2 * 64)


def test_pixels_that_conv3_leaves_out_are_a_second_projection() -> None:
    record = block(projection=1, stride=2)
    mask = np.zeros((3, 1, 7, 7))
    mask[0, 0, 0], mask[1] = 1, 1
    terms = block_terms(record, count_block(record, mask, None, 3), Machine("avx512", 1, 32 << 20), Place())
    some, every, none = (dict(zip(TERMS, row, strict=True)) for row in terms)
    assert some["projection_macs"] == every["projection_macs"] == none["projection_macs"] == 49 * 256 * 256
    # Both products go through all weights of the projection; the other convolutions through theirs, as always.
    assert some["weights_far"] - every["weights_far"] == 256 * 256


def test_a_skipped_block_makes_no_lists() -> None:
    machine = Machine("avx512", 1, 32 << 20)

    def listed(record, mask) -> float:
        terms = block_terms(record, count_block(record, mask, None, 1), machine, Place())[0]
        return float(terms[TERMS.index("listed")])

    none, some = np.zeros((1, 1, 7, 7)), np.ones((1, 1, 7, 7))
    direct, winograd = (block(conv2_algorithm=a) for a in (Conv2Algorithm.DIRECT, Conv2Algorithm.WINOGRAD_2X2))
    assert listed(direct, none) == listed(winograd, none) == 0
    assert listed(direct, some) == 196 * 3 and listed(winograd, some) == 196 * 2.25
    projecting = block(projection=1, conv2_algorithm=Conv2Algorithm.DIRECT)
    assert listed(projecting, none) == listed(projecting, some)


def test_weights_beyond_the_cache_are_far() -> None:
    assert far_share(1e3, 1 << 20) == 0
    assert far_share(1e6, 1 << 20) == 1
    assert 0 < far_share(200_000, 1 << 20) < 1
    assert far_share(1, 0) == 1


def test_terms_follow_the_work() -> None:
    machine = Machine("avx512", 1, 32 << 20)

    def terms(record, **masks):
        counts = count_block(record, masks.get("spatial"), masks.get("channel"), 1)
        return dict(zip(TERMS, block_terms(record, counts, machine, Place())[0], strict=True))

    nothing = terms(block(), spatial=np.zeros((1, 1, 7, 7)))
    assert all(nothing[name] == 0 for name in TERMS if name.endswith("_macs") or name.startswith("weights"))
    assert nothing["masked"] == 14 * 14 * 256
    half = np.zeros((1, 1, 7, 7))
    half[0, 0, :, :4] = 1
    assert terms(block(), spatial=half)["conv3_macs"] == 8 * 14 * 64 * 256
    winograd = terms(block(conv2_algorithm=Conv2Algorithm.WINOGRAD_2X2), spatial=half)
    assert winograd["conv2_macs"] == 0
    assert winograd["winograd_macs"] == 28 * 16 * 64 * 64
    channel = block(mask_groups=0, mask_h=0, mask_w=0, channel_groups=64, channel_masker=1)
    kept = np.zeros((1, 64))
    kept[0, :16] = 1
    quarter = terms(channel, channel=kept)
    # A quarter in and a quarter out: conv2 has a sixteenth of the products, not a sixty-fourth.
    assert quarter["conv2_macs"] == 196 * 9 * 16 * 16
    # Single channels lie among dropped ones: nearly every vector of 16 holds a kept one and is gone through.
    assert quarter["packed"] == 256 * 16 + 9 * 16 * 64 * (1 - 0.75**16)


def test_two_threads_share_rows() -> None:
    record = block(hin=56, win=56, mask_groups=0, mask_h=0, mask_w=0, channel_groups=8, channel_masker=1)
    one, two = (block_terms(record, full_counts(record), Machine("avx512", n, 1), Place())[0] for n in (1, 2))
    at = TERMS.index("conv3_macs")
    assert two[at] == one[at] / 2


def test_threads_share_out_products_as_the_kernels_do() -> None:
    work = Amounts(TERMS, 1, Machine("avx512", 2, 32 << 20), Place())

    def share(rows, depth, columns, **options):
        found = work.share(np.array([float(rows)]), depth, columns, **options)
        return [float(np.broadcast_to(v, 1)[0]) for v in (found.rows, found.panels, found.narrow, found.weights)]

    assert share(100, 512, 256) == [50, 4, 0, 1]
    # Too few rows: panels. One of three threads' panels more than the other, or a narrower one.
    assert share(95, 512, 256) == [95, 2, 0, 0.5]
    assert share(49, 512, 192) == [49, 2, 0, 2 / 3]
    assert share(49, 512, 144) == [49, 1, 16, 2 / 3]
    # One panel is cut into ranges of rows that are worth a task.
    assert share(49, 2304, 64) == [49, 1, 0, 1]
    assert share(100, 2304, 64) == [50, 1, 0, 1]
    # So little work that one thread does it; few rows count as eight.
    assert share(49, 64, 64) == [49, 1, 0, 1]
    assert share(1, 512, 128) == [1, 1, 0, 0.5]
    assert share(1, 512, 128, sharing=TOKENS) == [1, 2, 0, 1]
    assert share(50, 512, 256, sharing=TOKENS) == [25, 4, 0, 1]


def test_threads_pack_together_where_they_do_not_multiply_apart() -> None:
    work = Amounts(TERMS, 1, Machine("avx512", 2, 1), Place(), {"weights_near": None})

    def packed(rows, depth, columns):
        return float(work.share(np.array([float(rows)]), depth, columns).packed[0])

    assert packed(100, 512, 256) == 1
    assert packed(95, 512, 256) == 0.5  # its own panels
    assert packed(49, 64, 64) == 0.5


def test_threads_share_out_tiles_in_tasks_or_by_panels() -> None:
    record = block(hin=28, win=28, width=128, conv2_algorithm=Conv2Algorithm.WINOGRAD_2X2)

    def macs(record, tiles, threads):
        counts = replace(full_counts(record), tiles=np.array([float(tiles)]))
        terms = block_terms(record, counts, Machine("avx512", threads, 1), Place())[0]
        return float(terms[TERMS.index("winograd_macs")])

    per_tile = 16 * 128 * 128
    assert macs(record, 150, 1) == 150 * per_tile
    # Three tasks of fifty: one thread has two of them.
    assert macs(record, 150, 2) == 100 * per_tile
    assert macs(record, 101, 2) == 51 * per_tile
    # Too few to be shared out: each thread has one of the two panels.
    assert macs(record, 31, 2) == 31 * per_tile / 2


def test_threads_make_filters_for_themselves_or_together() -> None:
    """Each its own for tiles enough, or for its own panels; else together, in slices of 48 inputs of a panel each."""
    record = block(
        mask_groups=0, mask_h=0, mask_w=0, width=192, channel_groups=12, channel_masker=1,
        conv2_algorithm=Conv2Algorithm.WINOGRAD_2X2,
    )  # fmt: skip

    def filters(kept, tiles, threads=2):
        counts = replace(full_counts(record), channels=np.array([float(kept)]), tiles=np.array([float(tiles)]))
        terms = block_terms(record, counts, Machine("avx512", threads, 1), Place())[0]
        return float(terms[TERMS.index("filters")]) / (16 * kept**2)

    assert filters(144, 32) == filters(48, 32) == 1.0
    assert filters(64, 31) == 0.5  # one of two panels
    assert filters(48, 31) == 1.0  # one slice: another thread waits
    assert filters(96, 31, threads=4) == 2 / 6  # three panels of two slices, of which each thread makes up to two


def test_transforms_go_through_whole_vectors() -> None:
    """Of Winograd's inputs and filters: 24 kept channels take as long as 32."""
    record = block(
        mask_groups=0, mask_h=0, mask_w=0, width=192, channel_groups=24, channel_masker=1,
        conv2_algorithm=Conv2Algorithm.WINOGRAD_2X2,
    )  # fmt: skip

    def amount(kept, name):
        counts = replace(full_counts(record), channels=np.array([float(kept)]))
        return float(block_terms(record, counts, Machine("avx512", 1, 1), Place())[0][TERMS.index(name)])

    assert amount(24, "tile_transforms") == amount(32, "tile_transforms") == 49 * 16 * 32
    assert amount(24, "filters") == 16 * 24 * 32


def test_without_a_kept_channel_the_constant_is_still_added() -> None:
    record = block(channel_groups=4, channel_masker=1)
    counts = replace(full_counts(record), channels=np.zeros(1))
    for threads in (1, 2):
        terms = block_terms(record, counts, Machine("avx512", threads, 1), Place())[0]
        assert terms[TERMS.index("outputs")] == 196 * 256
        assert terms[TERMS.index("conv3_macs")] == 0


def test_a_fit_survives_its_file() -> None:
    fit = cpu_fit(2)
    again = Fit.from_dict(fit.to_dict())
    assert np.allclose(again.block.ns, fit.block.ns)
    assert np.allclose(again.outside.ns, fit.outside.ns)
    assert again.network_intervals == fit.network_intervals
    with pytest.raises(ValueError, match="unknown terms nonsense"):
        Fit.from_dict({**fit.to_dict(), "block_ns": {"nonsense": 1.0}})
    for damaged in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite|negative"):
            Fit.from_dict({**fit.to_dict(), "block_ns": {"block": damaged}})
    with pytest.raises(ValueError, match="0 threads"):
        Fit.from_dict({**fit.to_dict(), "threads": 0})
    # Some work costs more where cores are apart, some less.
    apart = fit.block.ns * np.where(np.arange(len(TERMS)) % 2, 2, -2)
    told = replace(
        fit, usual=Conditions(1000.0, 0.05), block=Cost(fit.block.ns, apart), clock_share=0.7, cache_for_weights=0.5
    )
    again = Fit.from_dict(told.to_dict())
    assert again.usual == told.usual and again.clock_share == 0.7 and again.cache_for_weights == 0.5
    assert np.allclose(again.block.apart_ns, told.block.apart_ns)
    nan = float("nan")
    for damaged in (
        {"clock_ns": 0.0},
        {"handover": -0.1},
        {"handover": nan},
        {"cache_share": 1.5},
        {"clock_share": 1.1},
        {"clock_share": nan},
        {"cache_for_weights": -0.1},
    ):
        with pytest.raises(ValueError, match="clock_ns|cache_share|clock_share|cache_for_weights"):
            Fit.from_dict({**told.to_dict(), **damaged})


def test_tiny_networks_have_an_interval_of_their_own() -> None:
    fit = replace(cpu_fit(), network_intervals=(Interval(500.0, 0.7, 1.4), Interval(1e9, 0.95, 1.1)))
    model = CpuModel(Machine("avx512", 1, 32 << 20, 1 << 20), Fit.from_dict(fit.to_dict()))
    assert model.network_interval(499.0) == Interval(500.0, 0.7, 1.4)
    assert model.network_interval(501.0) == Interval(1e9, 0.95, 1.1)


def test_intervals_of_networks_follow_their_size_and_the_conditions() -> None:
    grows = Interval(1e9, 1 / 1.02, 1.02, small_us=4000.0, by_handover=5.0, by_clock=10.0)
    fit = replace(cpu_fit(2), network_intervals=(grows,), usual=Conditions(1000.0, 0.1))
    model = CpuModel(Machine("avx512", 2, 32 << 20, 1 << 20), Fit.from_dict(fit.to_dict()))

    def high(model: CpuModel, mean_us: float) -> float:
        interval = model.network_interval(mean_us)
        assert interval is not None and interval.low == pytest.approx(1 / interval.high, rel=1e-4)
        return float(interval.high)

    assert high(model, 1e9) == pytest.approx(1.02)
    assert high(model, 4e3) == pytest.approx(1.02**2)
    # 0.12 above the usual handover, 0.02 of them noise; the other way it is as usual.
    assert high(model.at(Conditions(1000.0, 0.22)), 1e9) == pytest.approx(1.02**1.5)
    slower = model.at(Conditions(1000.0 * float(np.exp(0.1)), 0.1))
    assert high(slower, 4e3) == pytest.approx(1.02**4)
    assert high(model.at(Conditions(900.0, 0.05)), 1e9) == pytest.approx(1.02)


@pytest.mark.parametrize(
    "damaged", [{"low": 0.0}, {"low": 1.2}, {"high": float("inf")}, {"small_us": -1.0}, {"by_clock": "much"}]
)
def test_a_damaged_interval_is_refused(damaged: dict[str, Any]) -> None:
    data = {**cpu_fit().to_dict(), "network_intervals": [{**Interval(1e9, 0.9, 1.1).to_dict(), **damaged}]}
    with pytest.raises(ValueError, match="interval|convert"):
        Fit.from_dict(data)


def test_predictions_follow_the_conditions() -> None:
    fit = cpu_fit(2)
    on_top = np.where([name == "block" for name in TERMS], 1000.0, 0.0)
    model = CpuModel(
        Machine("avx512", 2, 32 << 20, 1 << 20),
        replace(fit, block=Cost(fit.block.ns, on_top), usual=Conditions(1000.0, 0.1)),
    )
    record = block(mask_groups=0)
    counts, groups = full_counts(record), np.zeros((1, 1), int)
    usual = model.batch_ns(record, counts, Place(), groups)
    same = model.at(Conditions(1000.0, 0.1))
    assert same.conditions == model.conditions
    assert np.allclose(same.batch_ns(record, counts, Place(), groups), usual)
    apart = model.at(Conditions(1000.0, 0.3))  # 0.2 above the usual handover, 0.02 of them noise
    assert np.allclose(apart.batch_ns(record, counts, Place(), groups), usual + 180.0)
    # Of the cache the fit does not say what usually is left.
    assert (model.last_cache, model.at(Conditions(1000.0, 0.1, 0.5)).last_cache) == (32 << 20, 32 << 20)
    told = CpuModel(model.machine, replace(model.fit, usual=Conditions(1000.0, 0.1, 0.8)))
    assert (told.last_cache, told.at(Conditions(1000.0, 0.1, 0.4)).last_cache) == (32 << 20, 16 << 20)
    slow = model.at(Conditions(1100.0, 0.1))
    assert np.allclose(slow.batch_ns(record, counts, Place(), groups), usual * 1.1)
    assert slow.dense_ns(record) == pytest.approx(model.dense_ns(record) * 1.1)
    # A fit that knows of no conditions stays what it is.
    assert cpu_model(2).at(Conditions(1100.0, 0.1)).conditions is None

"""RegNetY and transformers: their work, terms and distributions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laudc.ops import Geometry, names
from laudc.ops.macs import BlockMasks, BlockShape, block_macs
from laudc.ops.scheduled import RegNetRecord
from laudc.ops.scheduled_vit import VitRecord
from laudc.ops.transformer import DroppedHead, MlpWidth
from laudc.ops.vit_macs import VitBlockShape, vit_block_macs
from laudc.predict.activation import activation_at_rate, activation_from_masks, load_activation
from laudc.predict.cpu.amounts import Machine
from laudc.predict.cpu.families import CPU_FAMILIES
from laudc.predict.cpu.model import Fit
from laudc.predict.families import FAMILIES, REGNET, VIT, family_of, family_of_network, record_of
from laudc.predict.frame import Frame, VitFrame
from laudc.predict.interface import Place
from laudc.predict.network import PlannedBlock, predict_network
from laudc.predict.traffic import fetched_in_vain, regnet_weights, touched_floats
from laudc.predict.work import count_work, first_row, full_work, work_of_row
from tests.predict.models import REGNET_SMALL, VIT_FRAME, VIT_SMALL, block, family_model

BLUEPRINTS = {REGNET: REGNET_SMALL, VIT: VIT_SMALL}
FRAMES = {REGNET: Frame.of_blueprint(REGNET_SMALL), VIT: VIT_FRAME}


@st.composite
def _regnet_cases(draw):
    stride = draw(st.sampled_from([1, 2]))
    size = draw(st.integers(1, 12))
    out = (size - 1) // stride + 1
    cells = draw(st.integers(1, out))
    group, per_group = draw(st.integers(1, 4)), draw(st.sampled_from([4, 8, 16]))
    width = group * per_group
    groups = width // draw(st.sampled_from([1, 2, 4]))
    record = RegNetRecord(
        16, width, width, stride, size, size, 1, 1, cells, cells, groups, 1, group=group, squeeze=4,
        se_pool=draw(st.integers(0, 1)),
    )  # fmt: skip
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    rate = draw(st.sampled_from([0.0, 0.3, 1.0]))
    return record, random.random((3, 1, cells, cells)) < rate, random.random((3, groups)) < rate


@given(_regnet_cases())
@settings(max_examples=150, deadline=None)
def test_regnet_work_is_that_of_the_definition(case) -> None:
    record, spatial, channel = case
    size, out = (record.hin, record.win), (record.hout, record.wout)
    shape = BlockShape(
        "b", record.cin, record.width, record.cout, size, out, Geometry(record.stride, record.group), True, 0,
        squeeze=record.squeeze, pools_all=not record.se_pool,
    )  # fmt: skip
    counts = count_work(record, {"spatial": spatial, "channel": channel}, 3)
    for image in range(3):
        macs = block_macs(shape, BlockMasks(spatial=spatial[image], channel=channel[image]))
        assert counts.a[image] * record.cin * counts.channels[image] == macs.conv1
        assert counts.b[image] * 9 * counts.pairs[image] == macs.conv2
        assert counts.c[image] * record.cout * counts.channels[image] == macs.conv3
        assert counts.listed[image] >= counts.narrow[image] + counts.padded[image] >= counts.pairs[image]


@pytest.mark.parametrize(
    ("kept", "padded", "narrow", "listed"),
    [(0, 0, 0, 0), (5, 0, 8, 16), (8, 0, 8, 16), (9, 16, 0, 16), (24, 16, 8, 32), (25, 32, 0, 32), (40, 48, 0, 48)],
)
def test_groups_are_computed_in_whole_and_half_vectors(kept, padded, narrow, listed) -> None:
    record = RegNetRecord(16, 40, 40, 1, 7, 7, 0, channel_groups=40, channel_masker=1, group=1, squeeze=4)
    counts = count_work(record, {"channel": np.arange(40)[None] < kept}, 1)
    found = counts.padded[0], counts.narrow[0], counts.listed[0]
    assert found == (kept * padded, kept * narrow, kept * listed)


def test_weights_fetched_before_masks_are_known_count() -> None:
    _, record = REGNET_SMALL.blocks()[1]
    half = count_work(record, {"channel": np.arange(record.channel_groups)[None] * 2 < record.channel_groups}, 1)
    every = record.cin * record.width
    assert regnet_weights(record, half)["a"][0] == fetched_in_vain(record, half)[0] == every / 2
    assert fetched_in_vain(record, full_work(record))[0] == 0
    wide = replace(record, cin=1024, width=1024, channel_groups=1024, group=4)
    nothing = count_work(wide, {"channel": np.zeros((1, 1024))}, 1)
    assert fetched_in_vain(wide, nothing)[0] < 1024**2


def test_threads_of_regnets_share_small_maps_badly() -> None:
    family = CPU_FAMILIES[REGNET]
    at = {name: index for index, name in enumerate(family.block_names)}
    found = {}
    for size in (7, 56):
        record = RegNetRecord(64, 64, 64, 1, size, size, 0, channel_groups=64, channel_masker=1, group=4, squeeze=8)
        for threads in (1, 2):
            terms = family.block_terms(record, full_work(record), Machine("avx512", threads, 1 << 25), Place())[0]
            found[size, threads] = terms[at["crossed"]]
    # Of few pixels every thread reads what the others wrote.
    assert found[7, 2] > found[7, 1] == found[56, 1] == found[56, 2] == 0


def test_threads_of_the_runtime_share_whole_groups_and_sets_of_channels() -> None:
    family = CPU_FAMILIES[REGNET]
    at = {name: index for index, name in enumerate(family.outside_names)}

    def terms(width, group_width, size, threads):
        group = width // group_width
        record = RegNetRecord(
            width, width, width, 1, size, size, 0, channel_groups=1, channel_masker=1, group=group, squeeze=8
        )
        found = family.dense_terms(record, threads=threads)
        return found[at["pointwise"]], found[at["unfolded"]]

    # Four blocks of 16 channels are one set, of which threads share the lines; five are sets of three and two.
    pixels = 8 * 8
    for width, uneven in ((64, 1.0), (80, 6 / 5)):
        pointwise, grouped = 2 * pixels * width**2, pixels * width * 16 * 9
        assert terms(width, 16, 8, 1)[0] == pytest.approx(pointwise + grouped)
        assert terms(width, 16, 8, 2)[0] == pytest.approx(pointwise * uneven + grouped)
    # Three groups of 24 channels, which fill no whole vectors: one thread has two of them.
    assert terms(72, 24, 8, 2)[1] == pytest.approx(pixels * 72 * (10 * 4 / 3 + 1))
    # Of fewer pixels than channels, one group is computed after the other.
    assert terms(72, 24, 4, 2)[1] == pytest.approx(16 * 72 * (10 * 2 + 1))
    assert terms(72, 24, 4, 1)[1] == 16 * 72 * 11
    # Channels are filled up to whole vectors.
    assert terms(72, 24, 8, 1)[0] == pytest.approx(2 * pixels * 80**2 + pixels * 72 * 24 * 9)


def test_masks_of_regnets_cost_the_runtime_operators() -> None:
    family = CPU_FAMILIES[REGNET]
    nodes = family.outside_names.index("nodes")

    def count(**masks):
        return family.dense_terms(RegNetRecord(32, 32, 32, 1, 8, 8, 0, group=2, squeeze=8, **masks))[nodes]

    channel = count(channel_groups=32, channel_masker=1)
    spatial = count(mask_groups=1, mask_h=4, mask_w=4)
    both = count(mask_groups=1, mask_h=4, mask_w=4, channel_groups=32, channel_masker=1)
    assert channel < spatial < both < channel + spatial


def test_stretches_of_kept_channels_cost_of_regnets() -> None:
    _, record = REGNET_SMALL.blocks()[2]
    family = CPU_FAMILIES[REGNET]
    at = {name: index for index, name in enumerate(family.block_names)}
    masks = {"spatial": np.ones((1, 1, record.mask_h, record.mask_w))}
    found = {}
    for size in (1, 8):
        groups = record.width // size
        work = count_work(record, {**masks, "channel": np.arange(groups)[None] % 2}, 1)
        one = replace(record, channel_groups=groups)
        found[size] = family.block_terms(one, work, Machine("avx512", 1, 1 << 25), Place(far=0.5))[0]
    assert found[1][at["pieces"]] > found[8][at["pieces"]] > 0
    assert found[1][at["packed_far"]] == found[8][at["packed_far"]] > 0
    whole = family.block_terms(record, full_work(record), Machine("avx512", 1, 1 << 25), Place())[0]
    assert whole[at["pieces"]] == whole[at["packed_far"]] == 0


@st.composite
def _vit_cases(draw):
    heads = draw(st.integers(1, 4))
    variants = [(0, MlpWidth.INPUTS), (0, MlpWidth.OUTPUTS), (1, MlpWidth.FULL), (0, MlpWidth.FULL)]
    dropped, width = draw(st.sampled_from(variants))
    record = VitRecord(
        draw(st.integers(2, 20)), heads * 16, heads, heads * 24, 1, draw(st.integers(0, 1)), 1, 1,
        dropped_heads=dropped, head_width=width,
    )  # fmt: skip
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    masks = {kind: random.random((3, number)) < 0.5 for kind, number in record.decisions.items()}
    return record, masks


@given(_vit_cases())
@settings(max_examples=150, deadline=None)
def test_vit_terms_are_the_macs_of_the_definition(case) -> None:
    record, masks = case
    shape = VitBlockShape(
        "b", record.tokens, record.dim, record.heads, record.hidden, 0, bool(record.tokens_in_mlp),
        DroppedHead(record.dropped_heads), MlpWidth(record.head_width),
    )  # fmt: skip
    counts = count_work(record, masks, 3)
    family = CPU_FAMILIES[VIT]
    terms = family.block_terms(record, counts, Machine("avx512", 1, 1 << 25), Place())
    at = {name: index for index, name in enumerate(family.block_names)}
    for image in range(3):
        chosen = {kind: mask[image] for kind, mask in masks.items()}
        macs = vit_block_macs(shape, token=chosen["token"], head=chosen["head"], layer=chosen["layer"])
        assert counts.tokens[image] == 1 + chosen["token"].sum()
        assert (counts.attends[image], counts.transforms[image]) == tuple(chosen["layer"])
        # Widths here are whole vectors but for the hidden units of an odd number of heads.
        linear = macs.qkv + macs.projection + macs.fc1 + macs.fc2
        assert linear <= terms[image, at["linear_macs"]] <= linear * 2
        if record.hidden * counts.heads[image] / record.heads % 16 == 0 and record.hidden % 16 == 0:
            assert terms[image, at["linear_macs"]] == linear
        # Keys come in whole vectors, values do here.
        assert macs.attention <= terms[image, at["attention_macs"]] <= macs.attention * 16


@pytest.mark.parametrize("family", [REGNET, VIT])
def test_a_row_of_work_comes_back(family) -> None:
    record = BLUEPRINTS[family].blocks()[1][1]
    work = full_work(record, 2)
    again = work_of_row(record, first_row(work))
    assert first_row(again) == first_row(work)
    assert len(work) == 2
    with pytest.raises(TypeError):
        work_of_row(record, (1.0,) * 20)


@pytest.mark.parametrize("family", [REGNET, VIT])
def test_more_kept_costs_more_and_the_worst_case_is_everything(family) -> None:
    blocks = [PlannedBlock(name, record) for name, record in BLUEPRINTS[family].blocks()]
    model = family_model(family)

    def predict(rate, **options):
        activation = activation_at_rate(BLUEPRINTS[family].blocks(), rate, images=16)
        return predict_network(model, FRAMES[family], blocks, activation, status="test", **options)

    low, high, full = (predict(rate) for rate in (0.2, 0.8, 1.0))
    assert low.latency.mean_us < high.latency.mean_us < full.latency.mean_us
    assert low.latency.worst_us == pytest.approx(full.latency.mean_us)
    assert low.latency.mean_us == pytest.approx(low.outside_us + sum(b.latency.mean_us for b in low.blocks))
    # Images of a batch follow one another; all but the first find the weights in the cache.
    four = predict(1.0, batch=4)
    assert 2 * full.latency.mean_us < four.latency.mean_us < 4 * full.latency.mean_us
    two = predict_network(
        family_model(family, threads=2), FRAMES[family], blocks,
        activation_at_rate(BLUEPRINTS[family].blocks(), 1.0, images=1), status="test",
    )  # fmt: skip
    assert two.latency.mean_us < full.latency.mean_us


@pytest.mark.parametrize("family", [REGNET, VIT])
def test_the_runtime_is_predicted_too(family) -> None:
    model = family_model(family)
    records = BLUEPRINTS[family].blocks()
    activation = activation_at_rate(records, 0.1, images=4)

    def predict(*executions):
        blocks = [PlannedBlock(n, r, e) for (n, r), e in zip(records, executions, strict=True)]
        return predict_network(model, FRAMES[family], blocks, activation, status="test").latency

    dense = predict(*["dense"] * len(records))
    assert dense.mean_us == dense.worst_us > predict(*["sparse"] * len(records)).mean_us


def test_weights_that_nothing_reads_do_not_count() -> None:
    for blueprint in BLUEPRINTS.values():
        for _, record in blueprint.blocks():
            nothing = {name.rpartition("_")[2]: mask for name, mask in _nothing(record).items()}
            kept = touched_floats(record, count_work(record, nothing, 1))[0]
            assert 0 <= kept <= touched_floats(record, full_work(record))[0]


def _nothing(record):
    """Masks of one image that keep nothing, by name."""
    return {
        name: np.zeros_like(mask) for name, mask in activation_at_rate([("b", record)], 1.0, images=1).masks.items()
    }


def test_families_and_records() -> None:
    regnet, vit = REGNET_SMALL.blocks()[0][1], VIT_SMALL.blocks()[0][1]
    assert [family_of(r) for r in (block(), regnet, vit)] == list(FAMILIES)
    for record in (block(), regnet, vit):
        assert record_of(record.__dict__) == record
    assert family_of_network([regnet, regnet]) == REGNET
    assert family_of_network([regnet, block()]) is None
    assert family_of_network([]) is None


def test_decisions_of_transformers_are_made_up_and_read_back(tmp_path) -> None:
    records = VIT_SMALL.blocks()
    activation = activation_at_rate(records, 0.5, images=64)
    for name, record in records:
        masks = activation.masks_of(name)
        assert set(masks) == set(record.decisions)
        for kind, mask in masks.items():
            assert mask.shape == (64, record.decisions[kind])
            if kind != "layer":
                assert len(set(mask.sum(axis=1))) == 1
    path = tmp_path / "stats.json"
    path.write_bytes(activation_from_masks(activation.masks, "x", "0").to_json())
    again = load_activation(path, records, "0")
    assert all((again.masks[name] == mask).all() for name, mask in activation.masks.items())
    assert names.mask_value(records[1][0], "layer") in again.masks


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_of_any_family_survives_its_file(family) -> None:
    fit = family_model(family).fit
    again = Fit.from_dict(fit.to_dict(), family)
    assert np.allclose(again.block.ns, fit.block.ns)
    assert again.family == family
    with pytest.raises(ValueError, match="unknown terms"):
        Fit.from_dict({**fit.to_dict(), "outside_ns": {"nonsense": 1.0}}, family)


def test_the_frame_of_a_transformer_is_everything_before_its_blocks() -> None:
    from laudc.calibrate.synthetic_vit import synthetic_vit

    masks = {}
    for t2t in (True, False):
        small = replace(VIT_SMALL, token=(False,) * 3, head=(False,) * 3, layer=(False,) * 3, t2t=t2t)
        frame = VitFrame.of_model(synthetic_vit(small, masks, 0))
        assert (frame.head_inputs, frame.classes) == (small.dim, small.num_classes)
        patches = (small.tokens - 1) * 3 * 16 * 16 * small.dim
        assert (frame.stem_macs == patches) is not t2t
        assert frame.stem_floats > small.tokens * small.dim
        # Blocks are none of it, however many there are.
        fewer = replace(small, hidden=small.hidden[:1], token=(False,), head=(False,), layer=(False,))
        assert VitFrame.of_model(synthetic_vit(fewer, masks, 0)) == frame

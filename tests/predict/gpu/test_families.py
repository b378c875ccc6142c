"""Blocks of every family on a GPU: what holds whatever the kernels are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from laudc.devices import load_profile
from laudc.ops import Geometry
from laudc.ops.macs import BlockMasks, BlockShape, block_macs
from laudc.ops.scheduled import BlockRecord, RegNetRecord
from laudc.ops.scheduled_vit import VitRecord
from laudc.predict.activation import activation_at_rate
from laudc.predict.blueprint import Blueprint
from laudc.predict.families import FAMILIES, REGNET, RESNET, VIT, Record
from laudc.predict.frame import Frame
from laudc.predict.gpu.model import GpuModel, gpu_model
from laudc.predict.interface import Place, Scheduled
from laudc.predict.models import latency_model
from laudc.predict.network import PlannedBlock, batches, predict_network
from laudc.predict.regnet_blueprint import RegNetBlueprint
from laudc.predict.traffic import touched_floats
from laudc.predict.vit_blueprint import VitBlueprint
from laudc.predict.work import Work, count_work, full_work
from tests.predict.models import REGNET_SMALL, SMALL, VIT_FRAME, VIT_SMALL

DEVICES = ["nano", "tx2", "v100", "rtx3060", "rtx3090", "h200", "orin"]
RATES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
# As large as real ones, a block of each mode.
BLUEPRINTS = {
    RESNET: Blueprint(layers=(1, 1, 1, 1), modes=("spatial", "channel", "layer", "both"), spatial=(4, 2, 1, 1)),
    REGNET: RegNetBlueprint(
        layers=(1, 1, 2, 1), widths=(64, 128, 320, 768), group_width=16,
        modes=("channel", "spatial", "both", "channel"), spatial=(1, 4, 2, 1), channel=(2, 1, 4, 1),
    ),
    VIT: VitBlueprint(
        dim=448, heads=7, hidden=(1344,) * 4, token=(True, False, True, True), head=(False, True, True, True),
        layer=(False, False, True, True),
    ),
}  # fmt: skip
SMALL_ONES = {RESNET: SMALL, REGNET: REGNET_SMALL, VIT: VIT_SMALL}


def _records(family: str) -> list[tuple[str, Record]]:
    return list(BLUEPRINTS[family].blocks())


def _model(device: str = "nano", precision: str = "fp32", family: str = RESNET) -> GpuModel:
    return gpu_model(load_profile(device), precision, family=family)


def _work(name: str, record: Record, rate: float, images: int = 8) -> Work:
    return count_work(record, activation_at_rate([(name, record)], rate, images=images).masks_of(name), images)


def _mean(model: GpuModel, record: Record, work: Work, batch: int = 1) -> float:
    return float(model.batch_ns(record, work, Place(), batches(len(work), batch)).mean())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("device", "precision"), [("nano", "fp16"), ("v100", "fp16"), ("orin", "tf32"), ("h200", "fp32")]
)
@pytest.mark.parametrize("batch", [1, 8])
def test_more_kept_never_costs_less(family, device, precision, batch) -> None:
    model = _model(device, precision)
    for name, record in _records(family):
        times = [_mean(model, record, _work(name, record, rate), batch) for rate in RATES]
        assert times == sorted(times), (name, times)
        assert times[0] > 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_faster_than_its_roofline(device, family) -> None:
    """Multiply-adds at the peak of the units that the kernels use, and weights at the memory's full bandwidth."""
    for precision in load_profile(device).dtypes:
        model = _model(device, precision)
        gpu = model.gpu
        peak = gpu.units * max(gpu.gemm_rate, gpu.fp32_rate) / 1e9
        for name, record in _records(family):
            for rate in (0.3, 1.0):
                for batch in (1, 8):
                    work = _work(name, record, rate)
                    macs = _macs(record, work).sum() / len(work) * batch
                    weights = float(touched_floats(record, work).mean()) * gpu.element / gpu.dram
                    assert _mean(model, record, work, batch) > max(macs / peak, weights * 0.999), (name, rate, batch)


def _macs(record: Record, work: Work) -> np.ndarray:
    if isinstance(record, VitRecord):
        kept = work.heads * record.head_dim
        tokens = work.tokens * work.attends
        queries = np.minimum(tokens, 1) if record.first_only else tokens
        mlp = work.tokens if record.tokens_in_mlp else record.tokens
        mlp = np.minimum(mlp, 1) if record.first_only else mlp
        inner = tokens * record.dim * 3 * kept + 2 * queries * tokens * kept + queries * kept * record.dim
        return inner + mlp * work.transforms * 2 * kept * record.hidden
    if isinstance(record, RegNetRecord):
        a, b = work.a * record.cin * work.channels, 9 * work.b * work.pairs
        return a + b + work.c * work.channels * record.cout
    conv1, conv2 = work.conv1 * record.cin * work.channels, 9 * work.conv2 * work.channels**2
    return conv1 + conv2 + work.conv3 * work.channels * record.cout


def test_the_roofline_of_this_test_is_that_of_the_definition() -> None:
    record = _records(REGNET)[0][1]
    shape = BlockShape(
        "b", record.cin, record.width, record.cout, (record.hin, record.win), (record.hout, record.wout),
        Geometry(record.stride, record.group), True, 0, squeeze=record.squeeze, pools_all=True,
    )  # fmt: skip
    macs = block_macs(shape, BlockMasks(channel=np.ones(record.channel_groups)))
    assert _macs(record, full_work(record))[0] == macs.conv1 + macs.conv2 + macs.conv3


@pytest.mark.parametrize("family", FAMILIES)
def test_images_of_a_call_are_launched_together(family) -> None:
    model = _model("h200", "fp16")
    for name, record in _records(family):
        work = _work(name, record, 0.5)
        # Not always more than one image alone, whose pieces are many, and added up by one block.
        one, eight = (_mean(model, record, work, batch) for batch in (1, 8))
        assert eight < 8 * one, name
        number = {len(model.launches(record, work, Place(), batches(8, batch))) for batch in (1, 8)}
        assert len(number) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_images_that_keep_nothing_cost_little(family) -> None:
    """They add no rows; what is left are launches, decisions, and a projection."""
    model = _model("nano")
    for name, record in _records(family):
        nothing, all_kept = (_mean(model, record, _work(name, record, rate)) for rate in (0.0, 1.0))
        bare = not getattr(record, "layer_policy", 1) or getattr(record, "projection", 0)
        assert nothing < (0.9 if bare else 0.5) * all_kept, (name, nothing, all_kept)


def test_conv_a_and_b_run_everywhere_unless_only_kept_positions_are_averaged() -> None:
    name, record = next((n, r) for n, r in _records(REGNET) if r.mask_groups and not r.channel_groups)
    model, early = _model(), replace(record, se_pool=1)
    work, early_work = (_work(name, one, 0.3) for one in (record, early))
    assert _mean(model, early, early_work) < 0.8 * _mean(model, record, work)


def test_the_grouped_convolution_costs_what_kept_pairs_make_it_cost() -> None:
    """Half of the channels of every group are a quarter of the products: tiles of narrow groups are the taller."""
    record = replace(_records(REGNET)[2][1], mask_groups=0, mask_h=0, mask_w=0)
    model = _model("nano")
    half = np.zeros((1, record.channel_groups))
    half[:, ::2] = 1

    def grouped(work: Work) -> float:
        launches = model.launches(record, work, Place(), batches(1, 1))
        return float(next(one for one in launches if one.name == "conv b").compute_ns[0])

    ratio = grouped(count_work(record, {"channel": half}, 1)) / grouped(full_work(record))
    assert 0.2 < ratio < 0.35


def test_attention_follows_the_square_of_kept_tokens() -> None:
    record = _records(VIT)[0][1]
    model = _model("nano")

    def attention(tokens: int) -> float:
        mask = (np.arange(record.tokens - 1) < tokens - 1).astype(float)[None]
        launches = model.launches(record, count_work(record, {"token": mask}, 1), Place(), batches(1, 1))
        return float(next(one for one in launches if one.name == "attention").compute_ns[0])

    assert 3 < attention(192) / attention(96) < 5


def test_attention_and_groups_multiply_in_fp32_in_every_data_type() -> None:
    for family, name in ((VIT, "attention"), (REGNET, "conv b")):
        record = _records(family)[0][1]
        times = set()
        for precision in ("fp32", "tf32", "fp16"):
            model = _model("h200", precision)
            launches = model.launches(record, full_work(record), Place(), batches(1, 1))
            one = next(launch for launch in launches if launch.name == name)
            assert not one.on_gemm_units
            times.add(float(one.compute_ns[0]))
        assert len(times) == 1


def test_excitation_ends_in_one_block_per_image() -> None:
    """Its two layers are computed by the block that comes last, so that more multiprocessors do not help."""
    record = _records(REGNET)[-1][1]
    model = _model("h200", "fp16")
    twice = GpuModel(replace(model.gpu, units=2 * model.gpu.units))
    layers = -(-record.width // 8) * -(-record.squeeze // 32) * 75 / model.gpu.clock_hz * 1e9
    for one in (model, twice):
        launches = one.launches(record, full_work(record), Place(), batches(1, 1))
        assert float(next(launch for launch in launches if launch.name == "excite").fill_ns[0]) > layers


def test_the_last_block_computes_the_class_token_alone() -> None:
    record = replace(_records(VIT)[1][1], first_only=0)
    last = replace(record, first_only=1)
    model = _model()
    full = _mean(model, record, full_work(record))
    assert _mean(model, last, full_work(last)) < 0.65 * full


@pytest.mark.parametrize("family", FAMILIES)
def test_runs_cost_something_where_they_begin_and_end(family) -> None:
    model = _model()
    first, last = _records(family)[0][1], _records(family)[-1][1]

    def border(before: Record | None, block: Record | None, kinds: str) -> float:
        ends = zip((before, block), kinds.split("-"), strict=True)
        return model.border_ns(*(None if one is None else Scheduled(one, kind) for one, kind in ends))

    assert border(None, first, "sparse-sparse") >= 2 * model.gpu.launch_ns
    assert border(first, last, "sparse-sparse") == border(first, last, "dense-dense") == 0
    assert border(None, first, "dense-dense") == border(last, None, "dense-dense") == 0
    assert border(first, last, "dense-sparse") > 0
    assert (border(last, None, "sparse-sparse") > 0) == (not isinstance(last, VitRecord) or bool(last.first_only))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("device", DEVICES)
def test_whole_networks(family, device) -> None:
    records = list(SMALL_ONES[family].blocks())
    frame = VIT_FRAME if family == VIT else Frame.of_blueprint(SMALL_ONES[family])
    trusted = latency_model(load_profile(device), threads=0, family=family)
    assert trusted is not None and trusted.status == "modelled, not measured"
    assert trusted.model.network_interval(1e3) is None and trusted.model.block_interval(10.0) is None
    blocks = [PlannedBlock(name, trusted.model.variants(record)[0]) for name, record in records]

    def predict(rate: float, **options: int):
        made_up = activation_at_rate(records, rate, images=16)
        return predict_network(trusted.model, frame, blocks, made_up, status="test", **options).latency

    low, high = predict(0.2), predict(1.0)
    assert low.mean_us < high.mean_us == pytest.approx(low.worst_us)
    assert low.low_us is None
    assert predict(1.0, batch=4).mean_us < 4 * high.mean_us


def test_what_the_kernels_do_not_cover_has_no_variant() -> None:
    model = _model()
    wide = VitRecord(197, 3 * 160, 3, 960, 1)
    assert model.variants(wide) == ()
    assert model.variants(replace(wide, heads=6)) == (replace(wide, heads=6),)
    assert isinstance(model.variants(_records(RESNET)[0][1])[0], BlockRecord)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_runtime_computes_everything_whatever_is_kept(family) -> None:
    model = _model()
    for _, record in _records(family):
        more = {"hidden": 64 * record.hidden} if isinstance(record, VitRecord) else {"hin": 256, "win": 256}
        assert 0 < model.dense_ns(record) < model.dense_ns(replace(record, **more))
        assert model.dense_ns(record) < model.dense_ns(record, batch=16) < 17 * model.dense_ns(record)
        assert model.dense_ns(record, far=0.0) <= model.dense_ns(record, far=1.0)

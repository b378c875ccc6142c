"""The GPU model: what LAUDNet's simulator gets wrong is right here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from laudc.devices import load_profile
from laudc.errors import UserError
from laudc.ops.scheduled import BlockRecord
from laudc.predict.counts import Counts, count_block, full_counts
from laudc.predict.frame import Frame
from laudc.predict.gpu.gemm import Matrix, Problem, gemm
from laudc.predict.gpu.launch import Gpu, sectors
from laudc.predict.gpu.model import GpuModel, gpu_model
from laudc.predict.interface import Place
from laudc.predict.models import latency_model
from laudc.predict.network import batches

PLACE = Place()


def _model(device: str = "v100", precision: str = "fp32") -> GpuModel:
    return gpu_model(load_profile(device), precision)


def _ns(model: GpuModel, record: BlockRecord, counts: Counts, batch: int = 1) -> float:
    return float(model.batch_ns(record, counts, PLACE, batches(len(counts), batch))[0])


def _problem(rows=1000.0, depth=64, columns=64, segments=1) -> Problem:
    each, deep, across = (np.full((1, segments), float(value)) for value in (rows, depth, columns))
    return Problem(Matrix(depth, columns), int(rows), each, each, deep, across)


def _gemm_ns(problem: Problem, gpu: Gpu) -> float:
    return float(gemm("gemm", problem, gpu).ns(gpu)[0])


def _memory_ns(problem: Problem, gpu: Gpu) -> float:
    return float(gemm("gemm", problem, gpu).memory_ns[0])


def _launch(model: GpuModel, record: BlockRecord, counts: Counts, name: str, batch: int = 1) -> float:
    """Time of one launch of a block."""
    groups = batches(len(counts), batch)
    (one,) = (launch for launch in model.launches(record, counts, PLACE, groups) if launch.name == name)
    return float(one.ns(model.gpu)[0])


def _block(**changes: int) -> BlockRecord:
    fields = {"cin": 512, "width": 128, "cout": 512, "stride": 1, "hin": 28, "win": 28, "projection": 0}
    return BlockRecord(**{**fields, **changes})


CHANNEL = _block(channel_groups=128, channel_masker=1)
SPATIAL = _block(mask_groups=1, mask_h=7, mask_w=7)
LAYER = _block(mask_groups=1, mask_h=1, mask_w=1)


def test_input_density_counts_once() -> None:
    """Half of the inputs and half of the outputs leave a quarter of the products: at most four times as fast."""
    model = _model("nano")
    full = _launch(model, CHANNEL, full_counts(CHANNEL), "conv2")
    half = replace(full_counts(CHANNEL), channels=np.asarray([64.0]))
    assert full / _launch(model, CHANNEL, half, "conv2") <= 4.0


def test_granularity_of_channels_changes_no_arithmetic_but_by_the_number_kept() -> None:
    kept = np.zeros((1, 32))
    kept[0, :16] = 1
    coarse = _block(channel_groups=32, channel_masker=1)
    counts = count_block(coarse, None, kept, 1)
    assert counts.channels[0] == 64
    model = _model("nano")
    fine = replace(full_counts(CHANNEL), channels=np.asarray([64.0]))
    # Fine ones touch as many bytes of weights as twice as many kept channels, but that is not what takes time here.
    assert np.isclose(_launch(model, coarse, counts, "conv2"), _launch(model, CHANNEL, fine, "conv2"))


def test_weights_are_read_once_per_launch_whatever_the_batch() -> None:
    """A linear layer from 2048 to 1000: with 128 images the weights cost no more than with one."""
    gpu = _model().gpu
    one, many = (_memory_ns(_problem(rows=rows, depth=2048, columns=1000), gpu) for rows in (1, 64))
    assert many < 2 * one
    # Not even with a channel mask, where every image picks its own.
    apart = _memory_ns(_problem(rows=1, depth=2048, columns=1000, segments=64), gpu)
    assert apart < 64 * one


def test_gathered_and_dense_rows_pay_the_same_coalescing() -> None:
    assert sectors(np.asarray([1.0, 32.0, 33.0])).tolist() == [32, 32, 64]
    gpu = _model().gpu
    narrow, wide = (_memory_ns(_problem(rows=1e6, depth=depth, columns=depth), gpu) for depth in (4, 8))
    assert np.isclose(narrow, wide, rtol=0.01)


@pytest.mark.parametrize(("hin", "stride"), [(28, 1), (28, 2), (27, 2)])
def test_halo_is_what_the_windows_cover(hin, stride) -> None:
    record = _block(hin=hin, win=hin, stride=stride, projection=1, mask_groups=1, mask_h=7, mask_w=7)
    one = np.zeros((1, 1, 7, 7))
    one[0, 0, 3, 3] = 1
    counts = count_block(record, one, None, 1)
    side = int(np.sqrt(counts.conv2[0]))
    assert counts.conv1[0] == ((side - 1) * stride + 3) ** 2


def test_patches_spread_over_all_multiprocessors() -> None:
    """Twice the multiprocessors halve a large list's time; a list of one tile gains nothing."""
    gpu = _model().gpu
    double = replace(gpu, units=2 * gpu.units, launch_ns=0.0)
    single = replace(gpu, launch_ns=0.0)
    large, small = _problem(rows=2e6, depth=576, columns=256), _problem(rows=32, depth=32)
    assert _gemm_ns(large, single) / _gemm_ns(large, double) > 1.8
    assert np.isclose(_gemm_ns(small, single), _gemm_ns(small, double))


def test_a_thin_last_wave_is_paid_for() -> None:
    gpu = replace(_model().gpu, launch_ns=0.0, dram=1e9, l2=1e9)
    slots = gpu.units * 4 * 128  # four blocks of tall tiles share a multiprocessor
    full, over = (_gemm_ns(_problem(rows=rows, depth=4096), gpu) for rows in (slots, slots + 1))
    assert over > full


def test_work_follows_the_activation() -> None:
    model = _model("nano")
    masks = np.random.default_rng(0).random((1, 1, 7, 7))
    times = [_ns(model, SPATIAL, count_block(SPATIAL, masks < rate, None, 1)) for rate in (0.2, 0.5, 0.9)]
    assert times[0] < times[1] < times[2]


def test_without_a_mask_the_masker_reads_nothing() -> None:
    """It is launched all the same, and leaves at once."""
    model = _model()
    bare = _block()
    assert _launch(model, bare, full_counts(bare), "masker") == model.gpu.launch_ns
    assert _launch(model, SPATIAL, full_counts(SPATIAL), "masker") > model.gpu.launch_ns
    difference = _ns(model, SPATIAL, full_counts(SPATIAL)) - _ns(model, bare, full_counts(bare))
    masker = _launch(model, SPATIAL, full_counts(SPATIAL), "masker") - model.gpu.launch_ns
    assert np.isclose(difference, masker)


def test_conv1_is_dilated_by_the_mask_itself() -> None:
    fine = _block(mask_groups=1, mask_h=28, mask_w=28)
    masks = (np.random.default_rng(0).random((20, 1, 28, 28)) < 0.5).astype(float)
    counts = count_block(fine, masks, None, 20)
    assert counts.conv1.mean() / 784 > 0.98
    assert abs(counts.conv2.mean() / 784 - 0.5) < 0.02


def test_pooling_pays_for_the_batch() -> None:
    model = _model()
    frame = Frame(224, 224, 64, 118_000_000, 2048, 49, 1000)
    assert model.frame_ns(frame, own_stem=True, batch=64) > 20 * model.frame_ns(frame, own_stem=True, batch=1) / 4


def test_channel_blocks_have_no_scatter() -> None:
    """Four launches: one that decides, three convolutions."""
    names = [launch.name for launch in _model().launches(CHANNEL, full_counts(CHANNEL), PLACE, batches(1, 1))]
    assert names == ["masker", "conv1", "conv2", "conv3"]


def test_the_first_block_of_a_stage_pays_for_its_projection() -> None:
    model = _model()
    first = _block(projection=1)
    assert _ns(model, first, full_counts(first)) > _ns(model, _block(), full_counts(_block())) + model.gpu.launch_ns


def test_layers_are_skipped_per_image_not_per_batch() -> None:
    """Active images are listed together, so half of them cost about half, and none cost only launches."""
    model = _model("nano")
    gates = np.zeros((8, 1, 1, 1))
    none = _ns(model, LAYER, count_block(LAYER, gates, None, 8), 8)
    full = _ns(model, LAYER, count_block(LAYER, gates + 1, None, 8), 8)
    gates[::2] = 1
    half = _ns(model, LAYER, count_block(LAYER, gates, None, 8), 8)
    assert np.isclose(half - none, (full - none) / 2, rtol=0.15)


def test_compute_and_memory_overlap_and_launches_add() -> None:
    gpu = _model().gpu
    problem = _problem(rows=1e5, depth=64)
    assert np.isclose(_gemm_ns(problem, gpu) - gpu.launch_ns, _gemm_ns(problem, replace(gpu, launch_ns=0.0)))
    assert _gemm_ns(_problem(rows=0), gpu) == gpu.launch_ns


def test_halves_are_faster_where_the_device_computes_in_them() -> None:
    record = _block()
    for device in ("v100", "rtx3090", "h200"):
        assert _ns(_model(device, "fp16"), record, full_counts(record), 1) < _ns(
            _model(device), record, full_counts(record), 1
        )
    # Without tensor cores our kernels multiply in fp32, so that halves only spare traffic; the runtime packs them.
    half, single = (_model("nano", precision) for precision in ("fp16", "fp32"))
    assert half.gpu.gemm_rate == single.gpu.gemm_rate == half.gpu.runtime_rate / 2
    assert 0.9 < _ns(half, record, full_counts(record)) / _ns(single, record, full_counts(record)) <= 1
    assert half.dense_ns(record) < 0.7 * single.dense_ns(record)
    with pytest.raises(UserError, match="does not compute in int8"):
        _model("nano", "int8")


@pytest.mark.parametrize("device", ["nano", "tx2", "v100", "rtx3060", "rtx3090", "h200", "orin"])
def test_devices_that_were_not_measured_say_so(device) -> None:
    found = latency_model(load_profile(device), threads=1)
    assert found is not None
    assert found.status == "modelled, not measured"
    assert found.model.network_interval(1e3) is None

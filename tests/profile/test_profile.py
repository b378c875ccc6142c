"""Measurements: what they record, and that the numbers fit together."""

import contextlib
import json

import numpy as np
import pytest

import laudc
from laudc.calibrate.resting import SPIN_US
from laudc.errors import UserError
from laudc.predict import frame
from laudc.predict.interface import Conditions
from laudc.profile.activation import count_activation
from laudc.profile.conditions import Watch
from laudc.profile.dense import DenseNetwork, split_by_block
from laudc.profile.inputs import collect_inputs
from laudc.profile.measure import _compare, _Samples
from laudc.profile.records import ProfileResult, Timing
from tests.predict.models import save_calibrated

USUAL = Conditions(1000.0, 0.1)


@pytest.fixture(scope="module")
def compared(tiny_engine):
    return laudc.profile(tiny_engine, runs=6, warmup=1, batch=2, threads=1, against_dense=True)


def test_statistics():
    timing = Timing.of([4.0, 1.0, 3.0, 2.0])
    assert (timing.median_us, timing.p95_us, timing.min_us, timing.max_us, timing.runs) == (
        2.5,
        4.0,
        1.0,
        4.0,
        4,
    )
    assert timing.cv == pytest.approx(np.std([1, 2, 3, 4], ddof=1) / 2.5)
    assert Timing.of(range(1, 101)).p95_us == 95
    assert Timing.of([7.0]).cv == 0


def test_blocks_end_to_end_and_residual_fit_together(compared):
    assert [block.name for block in compared.blocks] == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    blocks = sum(block.timing.min_us for block in compared.blocks)
    assert 0 < blocks < compared.end_to_end.max_us
    assert compared.end_to_end.runs == 6
    assert compared.residual_us < compared.end_to_end.max_us


def test_activation_comes_from_the_masks(compared):
    rates = [(block.spatial_rate is not None, block.channel_rate is not None) for block in compared.blocks]
    assert rates == [(True, True), (True, False), (False, True), (True, False)]
    assert all(0 <= block.activation <= 1.2 for block in compared.blocks)
    assert compared.ideal_speedup == pytest.approx(1 / compared.activation)


def test_dense_is_measured_in_turn_and_by_block(compared):
    dense = compared.dense
    assert dense.timing.runs == 6 and dense.speedup > 0
    assert dense.share_of_ideal == pytest.approx(dense.speedup / compared.ideal_speedup)
    assert all(block.dense is not None and block.speedup > 0 for block in compared.blocks)


def test_the_record_is_complete_and_plain(compared):
    data = json.loads(json.dumps(compared.to_dict()))
    assert data["schema_version"] == 1 and data["kind"] == "profile"
    assert data["settings"] == {
        "runs": 6, "warmup": 1, "batch": 2, "threads": 1, "interleaved": True, "threads_rest": False,
    }  # fmt: skip
    assert data["environment"]["native_library"]["abi"] >= 1
    assert data["blocks"][0]["speedup"] > 0
    assert "generated" in data["notes"][0]


@pytest.fixture
def told(tiny_engine, tmp_path, monkeypatch):
    """A measurement on a calibrated machine that is under the given conditions; None: nobody could tell."""
    path = tmp_path / "here.yaml"
    save_calibrated(path, USUAL)

    def measure(now, evened=1.0):
        @contextlib.contextmanager
        def watched(threads):
            assert threads == 2
            yield (watch := Watch())
            watch.conditions, watch.change, watch.evened = now, 1.25, np.full(2, evened)

        monkeypatch.setattr("laudc.profile.measure.watched_conditions", watched)
        return laudc.profile(tiny_engine, runs=2, warmup=0, threads=2, device=path)

    return measure


def _predicted(result):
    found = result.comparison
    whole = [time.predicted_us for time in (found.median, found.mean, found.p95)]
    return np.asarray(whole + [time.predicted_us for time in found.blocks.values()])


def test_what_is_predicted_follows_the_conditions(told):
    """The same images each time. At half the clock all takes twice as long; what would be usual stays the same."""
    untold, usual, slow = told(None), told(USUAL), told(Conditions(2000.0, 0.4))
    assert untold.comparison.state is None and untold.comparison.blocks
    assert _predicted(usual) == pytest.approx(_predicted(untold))
    assert _predicted(slow) == pytest.approx(2 * _predicted(untold))
    assert all(block.predicted == slow.comparison.blocks.get(block.name) for block in slow.blocks)
    state = usual.comparison.state
    assert (state.clock, state.shared) == (1, 1)
    assert state.usual_median_us == pytest.approx(untold.comparison.median.predicted_us)
    state = slow.comparison.state
    assert (state.clock, state.shared) == (pytest.approx(0.5), pytest.approx((1 / 2 + 0.4) / (1 / 2 + 0.1)))
    assert state.usual_median_us == pytest.approx(untold.comparison.median.predicted_us)
    assert state.change == 1.25


def test_measured_calls_are_brought_to_the_average_conditions(told):
    found = told(USUAL, evened=1e6)
    assert found.comparison.median.measured_us == pytest.approx(1e6 * found.end_to_end.median_us)
    for block in found.blocks:
        if block.predicted is not None:
            assert block.predicted.measured_us == pytest.approx(1e6 * block.timing.median_us)


def test_the_state_survives_json(told):
    result = told(Conditions(800.0, 0.2))
    data = json.loads(json.dumps(result.to_dict()))
    again = ProfileResult.from_dict(data)
    assert again.comparison == result.comparison and again.comparison.state.clock == pytest.approx(1.25)
    assert json.loads(json.dumps(again.to_dict())) == data


def test_nobody_looks_where_nothing_is_usual(tiny_engine, tmp_path, monkeypatch):
    def watched(threads):
        raise AssertionError("nothing could be told from it")

    monkeypatch.setattr("laudc.profile.measure.watched_conditions", watched)
    save_calibrated(tmp_path / "here.yaml")
    result = laudc.profile(tiny_engine, runs=1, warmup=0, threads=1, device=tmp_path / "here.yaml")
    assert result.comparison is not None and result.comparison.state is None


def test_images_of_the_user(tiny_engine, photos):
    result = laudc.profile(tiny_engine, photos, runs=4, warmup=0, threads=1)
    assert result.images == {"kind": "files", "count": 3, "names": ["a.png", "b.png", "c.png"]}
    assert result.dense is None and not any("generated" in note for note in result.notes)


def test_two_pools_take_turns_when_the_other_rests(tiny_engine, monkeypatch):
    rests, spins = [], []
    monkeypatch.setattr("laudc.calibrate.resting.settle", lambda: rests.append(1))
    monkeypatch.setattr("laudc.profile.measure.watched_conditions", lambda threads: contextlib.nullcontext(Watch()))
    monkeypatch.setattr(
        "laudc.profile.dense.DenseNetwork",
        lambda *args, spin_us: spins.append(spin_us) or DenseNetwork(*args, spin_us=spin_us),
    )
    result = laudc.profile(tiny_engine, runs=2, warmup=1, threads=2, against_dense=True)
    assert len(rests) == 6 and spins == [SPIN_US] and result.settings["threads_rest"]


def test_without_the_portable_model(tiny_onnx, tmp_path, native):
    path = tmp_path / "a.laudc"
    laudc.build_engine(tiny_onnx, path, portable=False)
    result = laudc.profile(path, runs=2, warmup=0, threads=1)
    assert result.ideal_speedup is None and any("--no-portable" in note for note in result.notes)
    assert result.blocks[0].spatial_rate is not None and result.blocks[0].activation is None
    with pytest.raises(UserError, match="cannot be compared"):
        laudc.profile(path, runs=2, against_dense=True)


def test_the_graph_is_read_once_for_its_frame(tiny_engine, monkeypatch):
    frame_of_model, read = frame.frame_of_model, []
    monkeypatch.setattr(frame, "frame_of_model", lambda model: read.append(model) or frame_of_model(model))
    result = laudc.profile(tiny_engine, runs=1, warmup=0, threads=1)
    assert result.comparison is not None and len(read) == 1


def test_blocks_left_to_the_runtime_have_no_time_of_their_own(tiny_onnx, tmp_path, native):
    path = tmp_path / "a.laudc"
    laudc.build_engine(tiny_onnx, path, schedule="dense")
    result = laudc.profile(path, runs=2, warmup=0, threads=1, against_dense=True)
    assert all(block.timing is None for block in result.blocks)
    assert all(block.activation is not None for block in result.blocks)
    assert result.residual_us == result.end_to_end.median_us


@pytest.mark.parametrize(
    "options, said", [({"runs": 0}, "0 runs"), ({"warmup": -1}, "-1"), ({"batch": 0}, "batch")]
)
def test_impossible_numbers(tiny_engine, options, said):
    with pytest.raises(UserError, match=said):
        laudc.profile(tiny_engine, **options)


def test_batches_cover_every_image(tiny_engine, photos):
    from laudc.engine import open_bundle

    inputs = collect_inputs(open_bundle(tiny_engine).manifest, [photos], 2)
    assert [batch.shape for batch in inputs.batches] == [(2, 3, 64, 64)] * 2
    assert np.array_equal(inputs.batches[1][1], inputs.batches[0][0])


def test_rates_without_shapes():
    masks = {"layer1.0.mask_spatial": np.array([[[[1, 0]]], [[[1, 1]]]], np.float32)}
    counted = count_activation(masks, None)
    assert counted.share is None and counted.blocks["layer1.0"].spatial_rate == 0.75


def test_the_runtimes_events_are_split_by_block_and_call():
    names = [
        "stem_nchwc_kernel_time", "layer1.0.relu1.output_nchwc_kernel_time", "ReorderOutput_3_kernel_time",
        "layer1.0.conv3.output_kernel_time", "layer1.10.conv1_kernel_time", "avgpool_kernel_time",
    ]  # fmt: skip
    events = [{"cat": "Node", "name": name, "dur": 10} for name in names] * 2
    events.insert(0, {"cat": "Session", "name": "model_loading", "dur": 99})
    events.insert(1, {"cat": "Node", "name": "layer1.0.conv3_fence_before", "dur": 99})
    assert split_by_block(events, ["layer1.0", "layer1.10"]) == [{"layer1.0": 30.0, "layer1.10": 10.0}] * 2


def test_paired_ratios_forgive_drift():
    own, dense = _Samples([1, 2, 4]), _Samples([2, 4, 8])
    assert _compare(own, dense, 4.0).paired_speedup == 2 and _compare(own, dense, 4.0).share_of_ideal == 0.5

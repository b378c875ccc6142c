"""Calibrating a GPU: the emulated kernels under a made-up clock, so that the truth is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from laudc.calibrate.cuda.fit import TimedBlock, TimedNetwork, fit_precision
from laudc.calibrate.cuda.gpu_check import calibrate_from_file
from laudc.calibrate.cuda.measure import CudaMeasurer
from laudc.calibrate.cuda.run import calibrate_cuda, timed_networks
from laudc.calibrate.cuda.setting import Setting, settings_for
from laudc.calibrate.design import draw_designs
from laudc.calibrate.pace import Pace
from laudc.calibrate.samples import Sample
from laudc.devices import load_profile
from laudc.devices.profile import MEASURED, MODELLED
from laudc.errors import CheckFailed, UserError
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm, encode_blocks
from laudc.ops.scheduled_vit import VitRecord
from laudc.predict.activation import activation_at_rate
from laudc.predict.counts import full_counts
from laudc.predict.decisions import mean_counts
from laudc.predict.families import FAMILIES, REGNET, RESNET, VIT
from laudc.predict.gpu.load import GpuFit
from laudc.predict.gpu.model import GpuModel, gpu_model, gpu_of
from laudc.predict.interface import Place
from laudc.predict.models import latency_model
from laudc.predict.traffic import far_share, touched_floats
from laudc.predict.work import count_work, first_row, full_work, work_of_row
from tests.cuda.support import HostCuda, emulated_kernels, small_design

NETWORKS = 28
TRUTH = {
    "fp32": GpuFit("fp32", 2.4, 0.55, 0.62, 3.0, 0.50, 1.3),
    "tf32": GpuFit("tf32", 2.4, 0.35, 0.62, 3.0, 0.50, 1.3),
    "fp16": GpuFit("fp16", 2.4, 0.30, 0.50, 3.0, 0.45, 0.8),
}


def _true_ns(profile, precision, batch, blocks):
    """What (record, counts) of each block takes in a run of its own on the made-up GPU, replays left out."""
    model = GpuModel(TRUTH[precision].applied_to(gpu_of(profile, precision)))
    works = [work_of_row(record, counts) for record, counts in blocks]
    touched = sum(float(touched_floats(record, work)[0]) for (record, _), work in zip(blocks, works, strict=True))
    place = Place(far=far_share(touched, model.last_cache))
    together = np.zeros((1, batch), int)
    return [
        float(model.batch_ns(record, work, place, together)[0])
        + sum(float(launch.ns(model.gpu)[0]) for launch in model.run_launches(record, batch))
        for (record, _), work in zip(blocks, works, strict=True)
    ]


def _direct(record):
    return replace(record, conv2_algorithm=Conv2Algorithm.DIRECT) if isinstance(record, BlockRecord) else record


def _made_up_counts(record, random):
    """What made-up masks leave of a block."""
    made_up = activation_at_rate(
        [("b", record)], float(random.uniform(0.2, 1)), images=1, seed=int(random.integers(1 << 30))
    )
    return first_row(count_work(record, made_up.masks_of("b"), 1))


class MadeUpGpu:
    """In place of `CudaMeasurer`: times that follow TRUTH, with some noise."""

    kinds = ("sparse",)

    def __init__(self, noise=0.01, stop_after=10**9, sm="9.0"):
        self.profile = load_profile("h200")
        self.settings = settings_for(self.profile)
        self.noise, self.stop_after, self.sm = noise, stop_after, sm
        self.random = np.random.default_rng(0)
        self.measured = []

    def facts(self):
        return {"gpu": "NVIDIA made-up", "sm": self.sm, "cuda": "13.0", "driver": "13.0"}

    def measure(self, design, kind, threads):
        if len(self.measured) >= self.stop_after:
            raise KeyboardInterrupt
        self.measured.append((design.index, kind, threads))
        setting = self.settings[threads - 1]
        random = np.random.default_rng(design.index)
        blocks = [(_direct(drawn), _made_up_counts(_direct(drawn), random)) for _, drawn in design.records(64)]
        rows = [counts for _, counts in blocks]
        times = [
            ns * self._factor() for ns in _true_ns(self.profile, setting.precision, setting.batch, blocks)
        ]
        replay = TRUTH[setting.precision].replay_us * 1e3
        total = sum(times) * self._factor() + replay
        blocks = tuple(ns + replay for ns in times)
        return Sample(design.index, kind, threads, total, 0.01, 0.0, (self._pace(),), tuple(rows), blocks)

    def _pace(self):
        taken = 1e6 * self._factor()
        return Pace(taken, taken, taken)

    def _factor(self):
        return float(np.exp(self.random.normal(0, self.noise)))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "mine.yaml"
    return path, calibrate_cuda(path, device="h200", networks=NETWORKS, measurer=MadeUpGpu())


@pytest.fixture(scope="module")
def of_resnets(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "resnets.yaml"
    return path, calibrate_cuda(path, device="h200", networks=14, families=[RESNET], measurer=MadeUpGpu())


def test_the_truth_is_found_and_written(calibrated) -> None:
    path, result = calibrated
    assert result.samples == NETWORKS * 6
    assert result.held_out["fp16"]["networks"]["mape"] < 0.05
    assert set(result.held_out["fp16"]["families"]) == set(FAMILIES)
    assert not list(path.parent.glob("*.part"))
    profile = load_profile(path)
    assert profile.calibration["machine"]["gpu"] == "NVIDIA made-up"
    for precision, truth in TRUTH.items():
        for family in FAMILIES:
            model = gpu_model(profile, precision, family=family)
            assert 0.8 < model.network_interval(1e3).low < 1 < model.network_interval(1e3).high < 1.2
            assert model.block_interval(10.0) is not None
        assert model.fit.launch_us == pytest.approx(truth.launch_us, rel=0.1)
        assert model.fit.memory_efficiency == pytest.approx(truth.memory_efficiency, rel=0.1)
        assert model.fit.compute_efficiency == pytest.approx(truth.compute_efficiency, rel=0.15)
        assert model.fit.latency_factor == pytest.approx(truth.latency_factor, rel=0.1)
        assert model.fit.fp32_efficiency == pytest.approx(truth.fp32_efficiency, rel=0.15)
    # One launch at a time is another cost, which was not measured.
    assert gpu_model(profile, "fp16", graphs=False).fit is None


def test_only_what_was_measured_is_called_so(calibrated) -> None:
    profile = load_profile(calibrated[0])
    assert latency_model(profile, threads=0, precision="fp16").status == MEASURED
    assert latency_model(profile, threads=0, precision="bf16").status == MODELLED
    assert latency_model(load_profile("h200"), threads=0, precision="fp16").status == MODELLED


def test_families_that_were_not_measured_stay_modelled(of_resnets) -> None:
    path, result = of_resnets
    assert "families" not in result.held_out["fp16"]
    profile = load_profile(path)
    found = {family: latency_model(profile, threads=0, precision="fp16", family=family) for family in FAMILIES}
    assert {family: one.status for family, one in found.items()} == {RESNET: MEASURED, REGNET: MODELLED, VIT: MODELLED}
    assert found[RESNET].model.network_interval(1e3) is not None
    for family in (REGNET, VIT):
        assert found[family].model.network_interval(1e3) is None and found[family].model.block_interval(10.0) is None
        # What the GPU reaches is known all the same.
        assert found[family].model.gpu.launch_ns == found[RESNET].model.gpu.launch_ns


@pytest.mark.parametrize(
    "change", [{"model": "laudc-cpu"}, {"version": 1}, {"version": 99}, {"fits": [{"precision": "fp16"}]}]
)
def test_a_damaged_calibration_is_named(calibrated, tmp_path, change) -> None:
    data = yaml.safe_load(calibrated[0].read_text())
    data["calibration"].update(change)
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(UserError, match="alibrate again: laudc calibrate --device h200"):
        gpu_model(load_profile(tmp_path / "bad.yaml"), "fp16")


def test_an_interrupted_calibration_goes_on(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    first = MadeUpGpu(stop_after=30)
    with pytest.raises(KeyboardInterrupt):
        calibrate_cuda(path, device="h200", networks=NETWORKS, measurer=first)
    assert not path.exists()
    second = MadeUpGpu()
    calibrate_cuda(path, device="h200", networks=NETWORKS, measurer=second)
    assert len(second.measured) < NETWORKS * 6
    assert path.exists()


def test_a_noisy_gpu_writes_nothing_unless_forced(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    with pytest.raises(CheckFailed, match="too noisy"):
        calibrate_cuda(path, device="h200", networks=NETWORKS, measurer=MadeUpGpu(noise=0.5))
    assert not list(tmp_path.iterdir())
    calibrate_cuda(path, device="h200", networks=NETWORKS, measurer=MadeUpGpu(noise=0.5), force=True)
    assert path.exists()


def test_impossible_calibrations(tmp_path) -> None:
    with pytest.raises(UserError, match=r"is sm 9.0; the GPU that was, NVIDIA made-up, is sm 8.6"):
        calibrate_cuda(tmp_path / "a.yaml", device="h200", measurer=MadeUpGpu(sm="8.6"))
    for networks in (3, 100):
        with pytest.raises(UserError, match=f"annot calibrate with {networks} networks"):
            calibrate_cuda(tmp_path / "a.yaml", device="h200", networks=networks, measurer=MadeUpGpu())
    with pytest.raises(UserError, match="families vgg"):
        calibrate_cuda(tmp_path / "a.yaml", device="h200", families=["vgg"], measurer=MadeUpGpu())
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys) -> None:
    from laudc.backends.tensorrt import cuda
    from laudc.cli.app import main

    def missing():
        raise UserError("there is no GPU here", "the driver lists none", "check the driver")

    monkeypatch.setattr(cuda, "open_cuda", missing)
    assert main(["calibrate", "--device", "h200", "-o", str(tmp_path / "a.yaml")]) == 2
    told = capsys.readouterr().err
    assert "there is no GPU here" in told and "--measurements" in told and "Traceback" not in told
    assert main(["calibrate", "--device", "h200", "--threads", "2"]) == 2
    assert main(["calibrate", "--device", "h200", "--measurements", "results.json", "--family", "vit"]) == 2
    for option, words in {"--networks": ["--networks", "5"], "--force": ["--force"]}.items():
        assert main(["calibrate", "--device", "h200", "--measurements", "results.json", *words]) == 2
        assert f"{option} is for measuring here" in capsys.readouterr().err
    assert main(["calibrate", "--measurements", "results.json"]) == 2
    assert "hold measurements of GPUs" in " ".join(capsys.readouterr().err.split())


# ---- the measurer itself, on the emulated kernels -------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulated():
    return emulated_kernels()


def test_blocks_of_every_family_are_measured(emulated, monkeypatch) -> None:
    from laudc.calibrate.cuda import measure

    monkeypatch.setattr(measure, "draw_designs", lambda count: [small_design(RESNET)])
    measurer = CudaMeasurer(HostCuda(), emulated, [Setting("fp32", 1), Setting("fp16", 2)])
    for family in (REGNET, VIT):
        design = small_design(family)
        for threads, setting in enumerate(measurer.settings, start=1):
            sample = measurer.measure(design, "sparse", threads)
            (network,) = timed_networks([design], [sample], measurer.settings)
            assert (network.batch, network.precision) == (setting.batch, setting.precision)
            for index, block in enumerate(network.blocks):
                work, full = work_of_row(block.record, block.counts), full_work(block.record)
                assert block.ns > 0
                if isinstance(block.record, VitRecord):
                    share = design.drawn.token[index] if block.record.token_policy else 1.0
                    assert work.tokens[0] == pytest.approx(1 + share * (block.record.tokens - 1), abs=1)
                    kept = design.drawn.head[index] * block.record.heads if block.record.head_policy else work.heads[0]
                    assert work.heads[0] == round(kept)
                    assert work.transforms[0] == (design.drawn.transforms[index] or not block.record.layer_policy)
                elif block.record.channel_groups:
                    kept = design.drawn.channel[index] * full.channels[0]
                    each = block.record.width // block.record.channel_groups
                    assert work.channels[0] == pytest.approx(kept, abs=each)
                elif block.record.spatial_cells * setting.batch > 40:
                    assert work.c[0] / full.c[0] == pytest.approx(design.drawn.spatial[index], abs=0.1)


def test_what_the_kernels_decide_is_counted(emulated, monkeypatch) -> None:
    from laudc.calibrate.cuda import measure

    design = min(draw_designs(30), key=lambda one: sum(r.cin * r.hin**2 * r.width for _, r in one.records(64)))
    cuda = HostCuda()
    measurer = CudaMeasurer(cuda, emulated, [Setting("fp32", 1), Setting("fp16", 2)])
    monkeypatch.setattr(measure, "draw_designs", lambda count: [design])
    for threads, setting in enumerate(measurer.settings, start=1):
        sample = measurer.measure(design, "sparse", threads)
        records = [record for _, record in design.records(64)]
        assert len(sample.block_ns) == len(sample.counts) == len(records)
        assert sample.spread < 0.01 and sample.conditions.clock_ns == pytest.approx(10_010, rel=0.01)
        for record, counts, share, kept in zip(
            records, sample.counts, design.drawn.spatial, design.drawn.channel, strict=True
        ):
            out = record.hout * record.wout
            if record.spatial_cells * setting.batch > 40:
                assert counts[1] / out == pytest.approx(share, abs=0.1)
            if record.channel_groups > 20:
                assert counts[4] / record.width == pytest.approx(kept, abs=0.05)
        (network,) = timed_networks([design], [sample], measurer.settings)
        assert network.batch == setting.batch and network.precision == setting.precision
    # What is left belongs to the network that tells the pace.
    held = len(cuda.memory)
    measurer.measure(design, "sparse", 1)
    assert len(cuda.memory) == held
    assert measurer.facts()["sm"] == "8.0"


def test_counts_of_decisions() -> None:
    record = next(r for d in draw_designs(30) for _, r in d.records(64) if r.mask_groups == 1 and r.channel_groups)
    margins = np.full((2, record.margins), -1.0)
    margins[0] = 1.0
    full = full_counts(record)
    conv1, conv2, _, conv3, channels = mean_counts(replace(record, conv2_algorithm=Conv2Algorithm.DIRECT), margins)
    assert (conv1, conv2, conv3, channels) == (
        full.conv1[0] / 2, full.conv2[0] / 2, full.conv3[0] / 2, full.channels[0] / 2,
    )  # fmt: skip


# ---- measurements of scripts/gpu_check.sh ---------------------------------------------------------------------------


def _results(path, number=60, **changes):
    profile = load_profile("h200")
    rows = []
    for index in range(number):
        design = draw_designs(number)[index]
        _, drawn = design.records(64)[-1]
        record = replace(drawn, conv2_algorithm=Conv2Algorithm.DIRECT)
        full = full_counts(record)
        counts = [float(v[0]) for v in (full.conv1, full.conv2, full.tiles, full.conv3, full.channels)]
        batch, precision = (1, 128)[index % 2], ("fp16", "tf32")[index // 2 % 2]
        (block,) = _true_ns(profile, precision, batch, [(record, counts)])
        ns = block + TRUTH[precision].replay_us * 1e3
        rows.append(
            {
                "name": "x", "mode": str(index % 4), "stage": index % 3, "batch": batch, "precision": precision,
                "times": {"laudc": {"median_us": ns / 1e3}}, "record": encode_blocks([record]), "counts": counts,
            }
        )
    rows.append({**rows[0], "counts": None})
    device = {"name": "NVIDIA made-up", "sm": 90, "cuda": "13.0", "torch": "2.13"}
    data = {"kind": "gpu-check", "schema_version": 2, "device": device, "blocks": rows, **changes}
    path.write_text(json.dumps(data))
    return path


def test_a_profile_from_a_file(tmp_path, capsys) -> None:
    from laudc.cli.app import main

    file, output = _results(tmp_path / "results.json"), tmp_path / "h200.yaml"
    assert main(["calibrate", "--device", "h200", "--measurements", str(file), "-o", str(output)]) == 0
    assert "NVIDIA made-up, 60 samples" in capsys.readouterr().out
    before = file.read_bytes()
    assert main(["calibrate", "--device", "h200", "--measurements", str(file), "-o", str(file)]) == 2
    assert "the file that the result is made from" in capsys.readouterr().err and file.read_bytes() == before
    profile = load_profile(output)
    fit = gpu_model(profile, "fp16").fit
    assert fit.launch_us == pytest.approx(2.4, rel=0.15) and fit.families[RESNET].network is None
    assert latency_model(profile, threads=0, precision="fp16", family=VIT).status == MODELLED
    assert latency_model(profile, threads=0, precision="fp32").status == MODELLED


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "other"}, "holds no measurements"),
        ({"schema_version": 1}, "version 1"),
        ({"blocks": [{"counts": [1]}]}, "holds no measurements"),
        ({"blocks": []}, "too few"),
        ({"device": {"name": "T4", "sm": 75, "cuda": "1", "torch": "1"}}, "is sm 7.5"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, changes, words) -> None:
    file = _results(tmp_path / "results.json", number=14, **changes)
    with pytest.raises(UserError, match=words):
        calibrate_from_file(file, tmp_path / "o.yaml", device="h200")
    with pytest.raises(UserError, match="annot read"):
        calibrate_from_file(tmp_path / "none.json", tmp_path / "o.yaml", device="h200")
    assert not (tmp_path / "o.yaml").exists()


def test_one_disturbed_block_does_not_pull_the_fit_along() -> None:
    profile = load_profile("h200")
    gpu = gpu_model(profile, "fp16").gpu
    networks = []
    for index, design in enumerate(draw_designs(30)):
        record = replace(design.records(64)[0][1], conv2_algorithm=Conv2Algorithm.DIRECT)
        full = full_counts(record)
        counts = tuple(float(v[0]) for v in (full.conv1, full.conv2, full.tiles, full.conv3, full.channels))
        for batch in (1, 64):
            ns = _true_ns(profile, "fp16", batch, [(record, counts)])[0] + 3000
            networks.append(TimedNetwork(index, "fp16", batch, (TimedBlock(record, counts, ns),)))
    clean, _ = fit_precision(gpu, "fp16", networks)
    networks[3] = replace(networks[3], blocks=(replace(networks[3].blocks[0], ns=10 * networks[3].blocks[0].ns),))
    disturbed, errors = fit_precision(gpu, "fp16", networks)
    assert disturbed.launch_us == pytest.approx(clean.launch_us, rel=0.05)
    assert errors["blocks"]["median"] < 0.05

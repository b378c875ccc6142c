"""Calibrating a machine that is made up, so that the truth is known and nothing is timed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

import laudc
from laudc.calibrate.design import draw_designs
from laudc.calibrate.run import calibrate
from laudc.calibrate.samples import Sample, SideFile
from laudc.devices import load_profile
from laudc.errors import CheckFailed, UserError
from laudc.ops.scheduled import Conv2Algorithm
from laudc.predict.activation import activation_at_rate
from laudc.predict.counts import Counts, count_block
from laudc.predict.cpu.load import cpu_model as model_of
from laudc.predict.cpu.families import CPU_FAMILIES
from laudc.predict.cpu.terms import Machine, block_terms
from laudc.predict.frame import Frame
from laudc.predict.interface import Place
from laudc.predict.network import PlannedBlock, places
from tests.predict.models import cpu_fit

NETWORKS = 14


class MadeUpMachine:
    """Times that follow a known fit, with some noise; `stop_after` samples it is interrupted."""

    kinds = ("sparse", "dense", "mixed")

    def __init__(self, noise: float = 0.02, foreign: float = 0.0, stop_after: int = 10**9) -> None:
        self.noise, self.foreign, self.stop_after = noise, foreign, stop_after
        self.measured: list[tuple[int, str, int]] = []
        self.random = np.random.default_rng(0)

    def facts(self):
        return {
            "cpu": "made up", "arch": "x86_64", "isa": "avx512", "cores": 2, "usable_threads": 2,
            "last_cache": 32 << 20, "second_cache": 1 << 20, "onnxruntime": "1", "library": "1",
        }  # fmt: skip

    def measure(self, design, kind, threads):
        if len(self.measured) >= self.stop_after:
            raise KeyboardInterrupt
        self.measured.append((design.index, kind, threads))
        machine, fit = Machine("avx512", threads, 32 << 20, 1 << 20), cpu_fit(threads)
        records = design.records(64)
        activation = activation_at_rate(records, 0.5, images=1, seed=design.index)
        counts = [count_block(record, *activation.of_block(name), 1) for name, record in records]
        blocks = [
            PlannedBlock(name, record, execution)
            for (name, record), execution in zip(records, design.executions(kind), strict=True)
        ]
        stands = places(blocks, counts, machine.last_cache)
        times = [
            float(block_terms(b.record, c, machine, p)[0] @ fit.block) * self._factor() if b.scheduled.sparse else None
            for b, c, p in zip(blocks, counts, stands, strict=True)
        ]
        frame = Frame.of_blueprint(design.blueprint)
        outside = float(CPU_FAMILIES["resnet"].outside_terms(frame, [b.scheduled for b in blocks], 1, stands[0].far) @ fit.outside)
        total = sum(filter(None, times)) + outside * self._factor()
        return Sample(
            design.index, kind, threads, total, 0.01, self.foreign, 1e6, tuple(_row(c) for c in counts), tuple(times)
        )

    def _factor(self) -> float:
        return float(np.exp(self.random.normal(0, self.noise)))


def _row(counts: Counts) -> tuple[float, ...]:
    values = (counts.conv1, counts.conv2, counts.tiles, counts.conv3, counts.channels)
    return tuple(float(v[0]) for v in values)


def test_the_truth_is_found_and_written(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    result = calibrate(path, networks=NETWORKS, measurer=MadeUpMachine())
    assert result.samples == NETWORKS * 6
    assert result.held_out[1]["networks"]["mape"] < 0.05
    assert not list(tmp_path.glob("*.part"))
    profile = load_profile(path)
    assert profile.calibration["machine"]["cpu"] == "made up"
    assert profile.calibration["samples"] == result.samples
    model = model_of(profile, 2)
    assert model is not None
    assert model.threads == 2
    truth = cpu_fit(2)
    record = draw_designs(1)[0].records(64)[-1][1]
    terms = block_terms(record, count_block(record, None, None, 1), model.machine, Place())[0]
    assert np.isclose(float(terms @ model.fit.block), float(terms @ truth.block), rtol=0.15)
    interval = model.network_interval
    assert interval is not None
    assert 0.8 < interval.low < 1 < interval.high < 1.2


def test_an_interrupted_calibration_goes_on(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    first = MadeUpMachine(stop_after=30)
    with pytest.raises(KeyboardInterrupt):
        calibrate(path, networks=NETWORKS, measurer=first)
    assert not path.exists()
    second = MadeUpMachine()
    calibrate(path, networks=NETWORKS, measurer=second)
    # What is measured twice on purpose, for the repeatability, is all that both have in common.
    assert {key[1] for key in set(first.measured) & set(second.measured)} <= {"sparse"}
    assert len(second.measured) < NETWORKS * 6
    assert path.exists()


def test_a_side_file_of_another_machine_does_not_count(tmp_path) -> None:
    side = SideFile(tmp_path / "a.part", {"cpu": "one"})
    side.start([])
    sample = MadeUpMachine().measure(draw_designs(1)[0], "sparse", 1)
    side.add(sample)
    assert side.load() == [sample]
    assert SideFile(tmp_path / "a.part", {"cpu": "two"}).load() == []
    with open(tmp_path / "a.part", "a") as file:
        file.write('{"design": 3, "ki')
    assert side.load() == [sample]
    (tmp_path / "a.part").write_text("[")
    assert side.load() == []


@pytest.mark.parametrize("machine", [MadeUpMachine(noise=0.6), MadeUpMachine(foreign=0.5)])
def test_a_noisy_machine_writes_nothing_unless_forced(tmp_path, machine) -> None:
    path = tmp_path / "mine.yaml"
    with pytest.raises(CheckFailed, match="too noisy"):
        calibrate(path, networks=NETWORKS, measurer=machine)
    assert not list(tmp_path.iterdir())
    calibrate(path, networks=NETWORKS, measurer=machine, force=True)
    assert path.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"networks": 3}, "Fewer than"),
        ({"networks": 1000}, "make 300 samples"),
        ({"threads": [0]}, "Cannot measure 0"),
        ({"threads": [64]}, "2 usable threads"),
        ({"device": "nothing"}, "no device"),
    ],
)
def test_impossible_calibrations(tmp_path, options, words) -> None:
    with pytest.raises(UserError, match=words):
        calibrate(tmp_path / "x.yaml", measurer=MadeUpMachine(), **{"networks": NETWORKS, **options})
    assert not list(tmp_path.iterdir())


def test_devices_that_are_not_here_cannot_be_measured(tmp_path) -> None:
    with pytest.raises(UserError, match="on the device itself"):
        laudc.calibrate(tmp_path / "x.yaml", device="nano")


def test_the_users_own_profile_is_found_by_name(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LAUDC_DEVICES", str(tmp_path))
    calibrate(networks=NETWORKS, measurer=MadeUpMachine())
    assert (tmp_path / "cpu.yaml").exists()
    # It was measured on another CPU than this one, so it does not count here ...
    assert load_profile("cpu").calibration.get("machine", {}).get("cpu") != "made up"
    # ... until this machine is one.
    data = yaml.safe_load((tmp_path / "cpu.yaml").read_text())
    from laudc.devices import detect_host

    data["calibration"]["machine"].update(cpu=detect_host().cpu, arch=detect_host().arch)
    (tmp_path / "cpu.yaml").write_text(yaml.safe_dump(data))
    assert load_profile("cpu").path == str(tmp_path / "cpu.yaml")


def test_a_damaged_calibration_is_an_error_of_the_file(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    calibrate(path, networks=NETWORKS, measurer=MadeUpMachine())
    data = yaml.safe_load(path.read_text())
    for change in ({"model": "other"}, {"fits": []}, {"machine": {"isa": "mips"}}, {"fits": [{"threads": 1}]}):
        path.write_text(yaml.safe_dump({**data, "calibration": {**data["calibration"], **change}}))
        with pytest.raises(UserError, match="cannot be used"):
            model_of(load_profile(path), 1)


def test_designs_are_the_same_everywhere_and_cover_everything() -> None:
    designs = draw_designs(30)
    assert designs == draw_designs(30)
    assert designs[:5] == draw_designs(5)
    modes = {mode for design in designs for mode in design.blueprint.modes}
    assert modes == {"spatial", "channel", "layer", "both"}
    algorithms = {record.conv2_algorithm for design in designs for _, record in design.records(64)}
    assert algorithms == set(Conv2Algorithm)
    assert json.dumps([design.drawn.spatial for design in designs])

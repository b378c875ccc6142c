"""Calibrating a machine that is made up, so that the truth is known and nothing is timed."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import yaml

import laudc
from laudc.calibrate.design import KINDS, draw_designs, draw_detectors, draw_families, turn_of
from laudc.calibrate.frames import found_of, frame_of
from laudc.calibrate.pace import Pace, conditions
from laudc.calibrate.run import calibrate
from laudc.calibrate.samples import Sample, SideFile
from laudc.devices import load_profile
from laudc.errors import CheckFailed, UserError
from laudc.ops.scheduled import Conv2Algorithm
from laudc.predict.activation import activation_at_rate
from laudc.predict.counts import count_block
from laudc.predict.cpu.amounts import Machine
from laudc.predict.cpu.families import CPU_FAMILIES
from laudc.predict.cpu.load import cpu_model as model_of
from laudc.predict.cpu.terms import TERMS, block_terms
from laudc.predict.families import FAMILIES, REGNET, RESNET, VIT
from laudc.predict.interface import Place
from laudc.predict.network import PlannedBlock, places
from laudc.predict.work import count_work, first_row, full_work
from tests.predict.models import cpu_fit, family_model

NETWORKS = 30
# A third of them are detectors, which are measured dense only; the others in two forms. With one thread and with two.
SAMPLES = 20 * 4 + 10 * 2
PACE = Pace(1e6, 6e5, 7e5)


class MadeUpMachine:
    """Times that follow a known fit, with some noise; `stop_after` samples it is interrupted."""

    kinds = KINDS

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
        fit = self._fit(threads) if design.family == RESNET else family_model(design.family, threads).fit
        machine, family = Machine("avx512", threads, 32 << 20, 1 << 20), CPU_FAMILIES[design.family]
        records = design.records(64, kind)
        activation = activation_at_rate(records, 0.5, images=1, seed=design.index)
        counts = [count_work(record, activation.masks_of(name), 1) for name, record in records]
        blocks = [
            PlannedBlock(name, record, execution)
            for (name, record), execution in zip(records, design.executions(kind), strict=True)
        ]
        stands = places(blocks, counts, self._last_cache(design), frame_of(design).weights)
        pace = self._pace(design, threads)
        times = [
            self._block_ns(family.block_terms(b.record, c, machine, p)[0], fit, pace) * self._factor()
            if b.scheduled.sparse
            else None
            for b, c, p in zip(blocks, counts, stands, strict=True)
        ]
        scheduled = [b.scheduled for b in blocks]
        found = found_of(design)
        terms = family.outside_terms(frame_of(design), scheduled, stands[0], amounts=found)
        outside = float(terms @ fit.outside.ns)
        total = sum(filter(None, times)) + outside * self._factor()
        rows = tuple(map(first_row, counts))
        return Sample(design.index, kind, threads, total, 0.01, self.foreign, (pace,), rows, tuple(times))

    def _fit(self, threads):
        return cpu_fit(threads)

    def _last_cache(self, design):
        return 32 << 20

    def _pace(self, design, threads):
        return PACE

    def _block_ns(self, terms, fit, pace):
        return float(terms @ fit.block.ns)

    def _factor(self) -> float:
        return float(np.exp(self.random.normal(0, self.noise)))


class MovingMachine(MadeUpMachine):
    """Every third network runs with its two threads far apart: sections take longer by what sharing costs."""

    far = Pace(1e6, 7.2e5, 7e5)
    section_ns = 50_000.0

    def _pace(self, design, threads):
        return self.far if threads == 2 and design.index % 3 == 0 else PACE

    def _block_ns(self, terms, fit, pace):
        excess = conditions([pace], 2).excess(conditions([PACE], 2))
        return float(terms @ fit.block.ns + excess * self.section_ns * terms[TERMS.index("section")])


class DriftingMachine(MadeUpMachine):
    """The clock is another while each network is measured; its times follow by the square root of it."""

    def _pace(self, design, threads):
        clock = 1 + 0.06 * np.sin(design.index)
        return Pace(PACE.clock_ns * clock, PACE.team_ns * clock, PACE.memory_ns)

    def _factor(self) -> float:
        clock = 1 + 0.06 * np.sin(self.measured[-1][0])
        return super()._factor() * float(np.sqrt(clock))


class CrowdedMachine(MadeUpMachine):
    """While every second network is measured, neighbours leave half of the last-level cache."""

    def _crowded(self, design):
        return design.index // 2 % 2 == 1

    def _fit(self, threads):
        return cpu_fit(threads, weights_far=1.0)

    def _last_cache(self, design):
        return 16 << 20 if self._crowded(design) else 32 << 20

    def _pace(self, design, threads):
        return Pace(1e6, 6e5, 7e5, 0.45 if self._crowded(design) else 0.9)


class SlowMachine(MadeUpMachine):
    """Its clock takes half as long again as that of others."""

    def _pace(self, design, threads):
        return Pace(1.5 * PACE.clock_ns, 1.5 * PACE.team_ns, PACE.memory_ns)


class HourlyMachine(MadeUpMachine):
    """From calibration to calibration it does the same 4 % slower."""

    def measure(self, design, kind, threads):
        return super().measure(design, kind, threads).scaled(1.04 ** turn_of(design.index))


class StreamingMachine(MadeUpMachine):
    """Weights from memory take long; of its last-level cache neighbours leave so many bytes."""

    def __init__(self, left: int) -> None:
        super().__init__(noise=0.01)
        self.left = left

    def _fit(self, threads):
        return cpu_fit(threads, weights_far=1.0)

    def _last_cache(self, design):
        return self.left


def _calibrate(*arguments, **options):
    """Of ResNets only, unless `families` says more."""
    return calibrate(*arguments, **{"networks": NETWORKS, "families": [RESNET], **options})


def test_the_truth_is_found_and_written(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    result = _calibrate(path, measurer=MadeUpMachine())
    assert result.samples == SAMPLES
    assert result.held_out[RESNET][1]["detectors"]["count"] == 10
    assert result.held_out[RESNET][1]["networks"]["mape"] < 0.05
    assert not list(tmp_path.glob("*.part"))
    profile = load_profile(path)
    assert profile.calibration["machine"]["cpu"] == "made up"
    assert profile.calibration["samples"] == result.samples
    fits = [fit for section in profile.calibration["families"].values() for fit in section["fits"]]
    assert {fit["clock_ns"] for fit in fits} == {PACE.clock_ns}
    model = model_of(profile, 2)
    assert model is not None
    assert model.threads == 2
    truth = cpu_fit(2)
    record = draw_designs(1)[0].records(64)[-1][1]
    terms = block_terms(record, count_block(record, None, None, 1), model.machine, Place())[0]
    assert np.isclose(float(terms @ model.fit.block.ns), float(terms @ truth.block.ns), rtol=0.15)
    interval = model.network_interval(1e3)
    assert interval is not None
    assert 0.8 < interval.low < 1 < interval.high < 1.2


def test_an_interrupted_calibration_goes_on(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    first = MadeUpMachine(stop_after=30)
    with pytest.raises(KeyboardInterrupt):
        _calibrate(path, measurer=first)
    assert not path.exists()
    second = MadeUpMachine()
    _calibrate(path, measurer=second)
    # What is measured twice on purpose, for the repeatability, is all that both have in common.
    assert {key[1] for key in set(first.measured) & set(second.measured)} <= {"sparse", "dense", "swapped"}
    assert len(second.measured) < SAMPLES
    assert path.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threads": (1,)}, "taken with threads 1 and 2; this calibration has threads 1"),
        ({"families": (REGNET,)}, "taken with networks resnet 30; this calibration has networks regnet 30"),
    ],
)
def test_an_unfinished_calibration_of_another_kind_is_kept(tmp_path, options, words) -> None:
    path, part = tmp_path / "mine.yaml", tmp_path / "mine.yaml.part"
    with pytest.raises(KeyboardInterrupt):
        _calibrate(path, measurer=MadeUpMachine(stop_after=30))
    kept = part.read_bytes()
    other = MadeUpMachine()
    with pytest.raises(UserError, match="Its 30 samples were .* or start afresh: rm ") as error:
        _calibrate(path, measurer=other, **options)
    assert words in str(error.value)
    assert not other.measured and part.read_bytes() == kept and not path.exists()
    part.unlink()
    _calibrate(path, measurer=MadeUpMachine(), **options)
    assert path.exists() and not part.exists()


def test_what_handing_over_costs_is_found(tmp_path) -> None:
    _calibrate(tmp_path / "mine.yaml", measurer=MovingMachine(noise=0.01))
    one, two = (model_of(load_profile(tmp_path / "mine.yaml"), threads).fit for threads in (1, 2))
    assert not one.block.apart_ns.any()
    assert two.usual.handover == pytest.approx(0.1)
    assert two.block.apart_ns[TERMS.index("section")] == pytest.approx(MovingMachine.section_ns, rel=0.3)
    # Usual costs are what they are without it.
    truth = cpu_fit(2).block.ns
    record = draw_designs(1)[0].records(64)[-1][1]
    terms = block_terms(record, count_block(record, None, None, 1), Machine("avx512", 2, 32 << 20, 1 << 20), Place())[0]
    assert two.block.ns @ terms == pytest.approx(truth @ terms, rel=0.15)


def test_how_far_times_follow_the_clock_is_found(tmp_path) -> None:
    _calibrate(tmp_path / "mine.yaml", measurer=DriftingMachine(noise=0.01))
    for threads in (1, 2):
        model = model_of(load_profile(tmp_path / "mine.yaml"), threads)
        # Of a dozen networks the fit follows some of it by itself; what is missed leaves the clock as it was told.
        assert 0.4 < model.fit.clock_share < 0.75
        slower = model.at(replace(model.conditions, clock_ns=1.1 * model.conditions.clock_ns))
        frame = frame_of(draw_designs(1)[0])
        ratio = slower.frame_ns(frame, own_stem=True) / model.frame_ns(frame, own_stem=True)
        assert ratio == pytest.approx(1.1**model.fit.clock_share)
    _calibrate(tmp_path / "steady.yaml", measurer=MadeUpMachine(noise=0.01))
    assert model_of(load_profile(tmp_path / "steady.yaml"), 1).fit.clock_share == 1.0


def test_what_neighbours_leave_of_the_cache_is_told(tmp_path) -> None:
    _calibrate(tmp_path / "mine.yaml", measurer=CrowdedMachine(noise=0.01))
    model = model_of(load_profile(tmp_path / "mine.yaml"), 1)
    assert model.fit.usual.cache_share == pytest.approx(0.9)
    assert model.fit.block.ns[TERMS.index("weights_far")] == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_in_how_much_of_the_cache_weights_stay_is_found(tmp_path, share) -> None:
    left = int(share * (32 << 20))
    _calibrate(tmp_path / "mine.yaml", measurer=StreamingMachine(left))
    for threads in (1, 2):
        model = model_of(load_profile(tmp_path / "mine.yaml"), threads)
        assert model.fit.cache_for_weights == share and model.last_cache == left


def test_samples_have_a_place_of_their_own(tmp_path) -> None:
    path, machine = tmp_path / "mine.yaml", MadeUpMachine()
    for archive in (path, tmp_path / "mine.yaml.part"):
        with pytest.raises(UserError, match="something else there"):
            _calibrate(path, measurer=machine, archive=archive)
    with pytest.raises(UserError, match="Its folder does not exist"):
        _calibrate(path, measurer=machine, archive=tmp_path / "nowhere" / "mine.samples")
    assert not machine.measured and not list(tmp_path.iterdir())


def test_what_two_files_hold_counts_once(tmp_path) -> None:
    path, kept = tmp_path / "mine.yaml", tmp_path / "mine.samples"
    _calibrate(path, measurer=MadeUpMachine(), archive=kept)
    # As after an interruption between writing the one and removing the other.
    (tmp_path / "mine.yaml.part").write_bytes(kept.read_bytes())
    kept.touch()
    machine = MadeUpMachine()
    assert _calibrate(path, measurer=machine, archive=kept).fitted == SAMPLES
    assert all(turn_of(design) == 0 for design, _, _ in machine.measured)


def test_kept_samples_are_fitted_too(tmp_path) -> None:
    path, kept = tmp_path / "mine.yaml", tmp_path / "mine.samples"
    first = _calibrate(path, measurer=MadeUpMachine(), archive=kept)
    assert first.fitted == first.samples == SAMPLES
    again = _calibrate(path, measurer=MadeUpMachine(noise=0.03), archive=kept)
    assert again.fitted == 2 * again.samples == 2 * SAMPLES
    turns = Counter(turn_of(json.loads(line)["design"]) for line in kept.read_text().splitlines()[1:])
    assert turns == {0: SAMPLES, 1: SAMPLES}, "each time other networks are measured"
    assert load_profile(path).calibration["samples"] == 2 * SAMPLES
    assert len(kept.read_text().splitlines()) == 1 + 2 * SAMPLES
    before = kept.read_bytes()
    other = MadeUpMachine()
    with pytest.raises(UserError, match="another kind of calibration"):
        _calibrate(path, measurer=other, archive=kept, threads=(1,))
    assert not other.measured and kept.read_bytes() == before


def test_intervals_hold_what_differs_from_hour_to_hour(tmp_path) -> None:
    def after(calibrations: int) -> float:
        (tmp_path / "kept").unlink(missing_ok=True)
        for _ in range(calibrations):
            _calibrate(tmp_path / "cpu.yaml", measurer=HourlyMachine(), archive=tmp_path / "kept", threads=(1,))
        return model_of(load_profile(tmp_path / "cpu.yaml"), 1).network_interval(1e4).high

    # One knows only its own hour; of three, the first and the last are 6 % away from what the others say.
    assert after(1) < 1.04 < 1.055 < after(3)


def test_a_file_of_something_else_is_no_place_for_samples(tmp_path) -> None:
    kept, machine = tmp_path / "notes.txt", MadeUpMachine()
    kept.write_text("my notes\n")
    with pytest.raises(UserError, match="holds no samples"):
        _calibrate(tmp_path / "mine.yaml", measurer=machine, archive=kept)
    with pytest.raises(UserError, match="It is a folder"):
        _calibrate(tmp_path / "mine.yaml", measurer=machine, archive=tmp_path)
    kept.write_text('{"version": 1}\n')
    with pytest.raises(UserError, match="holds no samples"):
        _calibrate(tmp_path / "mine.yaml", measurer=machine, archive=kept)
    assert kept.read_text() == '{"version": 1}\n' and not machine.measured
    kept.write_bytes(b"")
    assert _calibrate(tmp_path / "mine.yaml", measurer=machine, archive=kept).fitted == SAMPLES


@pytest.mark.parametrize("change", [{"design": 77_777}, {"design": -3}, {"counts": [], "block_ns": []}])
def test_samples_that_somebody_changed(tmp_path, change) -> None:
    kept = tmp_path / "kept"
    _calibrate(tmp_path / "cpu.yaml", measurer=MadeUpMachine(), archive=kept)
    (tmp_path / "cpu.yaml").unlink()
    lines = kept.read_text().splitlines()
    lines[5] = json.dumps({**json.loads(lines[5]), **change})
    kept.write_text("\n".join(lines) + "\n")
    again = MadeUpMachine()
    with pytest.raises(UserError, match="not of a calibration"):
        _calibrate(tmp_path / "cpu.yaml", measurer=again, archive=kept)
    assert again.measured == [] and list(tmp_path.iterdir()) == [kept]


def test_a_side_file_of_another_machine_is_refused(tmp_path) -> None:
    side = SideFile(tmp_path / "a.part", {"cpu": "one"})
    side.start([])
    sample = MadeUpMachine().measure(draw_designs(1)[0], "sparse", 1)
    side.add(sample)
    assert side.load() == [sample]
    with pytest.raises(UserError, match="taken with cpu one; this calibration has cpu two"):
        SideFile(tmp_path / "a.part", {"cpu": "two"}).load()
    with open(tmp_path / "a.part", "a") as file:
        file.write('{"design": 3, "ki')
    assert side.load() == [sample]
    with open(tmp_path / "a.part", "ab") as file:
        file.write(bytes(range(128, 256)))
    assert side.load() == [sample]
    for damaged in (b"[", b"", bytes(range(256))):
        (tmp_path / "a.part").write_bytes(damaged)
        assert side.load() == []


def test_a_side_file_that_cannot_be_written(tmp_path) -> None:
    side = SideFile(tmp_path / "nowhere" / "a.part", {})
    for write in (lambda: side.start([]), lambda: side.add(MadeUpMachine().measure(draw_designs(1)[0], "sparse", 1))):
        with pytest.raises(UserError, match="choose another place|Choose another place"):
            write()


def test_families_with_few_undisturbed_samples_use_all_of_theirs() -> None:
    from dataclasses import replace

    from laudc.calibrate.run import usable_samples

    designs = draw_families({RESNET: 12, VIT: 6})
    machine = MadeUpMachine()
    samples = [machine.measure(design, "sparse", threads) for design in designs for threads in (1, 2)]
    assert usable_samples(designs, samples) == samples
    transformers = {design.index for design in designs if design.family == VIT}
    bad = [s for s in samples if s.threads == 2 and s.design in transformers] + samples[:1]
    disturbed = [replace(sample, spread=0.9 if sample in bad else 0.0) for sample in samples]
    assert usable_samples(designs, disturbed) == disturbed[1:]


def test_a_calibration_in_a_slow_hour_is_kept_but_does_not_count(tmp_path) -> None:
    path, kept = tmp_path / "mine.yaml", tmp_path / "mine.samples"
    assert _calibrate(path, measurer=MadeUpMachine(), archive=kept).fitted == SAMPLES
    assert _calibrate(path, measurer=SlowMachine(), archive=kept).fitted == SAMPLES
    assert len(kept.read_text().splitlines()) == 1 + 2 * SAMPLES
    assert _calibrate(tmp_path / "other.yaml", measurer=SlowMachine()).fitted == SAMPLES, "all that there is"


@pytest.mark.parametrize("machine", [MadeUpMachine(noise=0.6), MadeUpMachine(foreign=0.5)])
def test_a_noisy_machine_writes_nothing_unless_forced(tmp_path, machine) -> None:
    path = tmp_path / "mine.yaml"
    with pytest.raises(CheckFailed, match="too noisy"):
        _calibrate(path, measurer=machine)
    assert not list(tmp_path.iterdir())
    _calibrate(path, measurer=machine, force=True)
    assert path.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"networks": 3}, "fewer than 18"),
        ({"networks": 1000}, "at most 300"),
        ({"families": FAMILIES, "networks": 14}, "would be of LAUD-ResNet"),
        ({"families": ["regnets"]}, "families regnets"),
        ({"families": []}, "none"),
        ({"threads": [0]}, "Cannot measure 0"),
        ({"threads": [64]}, "2 usable threads"),
        ({"device": "nothing"}, "no device"),
    ],
)
def test_impossible_calibrations(tmp_path, options, words) -> None:
    with pytest.raises(UserError, match=words):
        _calibrate(tmp_path / "x.yaml", measurer=MadeUpMachine(), **options)
    assert not list(tmp_path.iterdir())


def test_devices_that_are_not_here_cannot_be_measured(tmp_path) -> None:
    with pytest.raises(UserError, match="on the device itself"):
        laudc.calibrate(tmp_path / "x.yaml", device="nano")


def test_the_users_own_profile_is_found_by_name(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LAUDC_DEVICES", str(tmp_path))
    _calibrate(measurer=MadeUpMachine())
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
    _calibrate(path, measurer=MadeUpMachine())
    data = yaml.safe_load(path.read_text())
    changes = (
        {"model": "other"},
        {"version": 1},
        {"machine": {"isa": "mips"}},
        {"families": {RESNET: {"fits": []}}},
        {"families": {RESNET: {"fits": [{"threads": 1}]}}},
        {"families": {"other": {"fits": []}}},
        {"families": None},
    )
    for change in changes:
        path.write_text(yaml.safe_dump({**data, "calibration": {**data["calibration"], **change}}))
        with pytest.raises(UserError, match="cannot be used"):
            model_of(load_profile(path), 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A calibration of all families with the default number of networks."""
    path = tmp_path_factory.mktemp("whole") / "mine.yaml"
    return calibrate(path, measurer=MadeUpMachine())


def test_every_family_is_measured_within_the_limit(whole) -> None:
    assert 250 < whole.samples <= 300
    profile = load_profile(whole.path)
    assert profile.calibration["samples"] == whole.samples
    assert set(whole.held_out) == set(profile.calibration["families"]) == set(FAMILIES)
    for family in FAMILIES:
        assert {threads: errors["networks"]["mape"] < 0.05 for threads, errors in whole.held_out[family].items()} == {
            1: True, 2: True,
        }  # fmt: skip
        model, truth = model_of(profile, 2, family=family), family_model(family, 2)
        assert model is not None
        if family != RESNET:
            record = draw_designs(1, family=family)[0].records(64)[-1][1]
            expected, found = (
                one.batch_ns(record, full_work(record), Place(), np.zeros((1, 1), int)) for one in (truth, model)
            )
            assert found[0] == pytest.approx(expected[0], rel=0.15)


def test_families_that_are_not_measured_stay(whole, tmp_path) -> None:
    path = tmp_path / "more.yaml"
    _calibrate(path, device=whole.path, families=[REGNET], networks=12, measurer=MadeUpMachine())
    before, after = (load_profile(p).calibration["families"] for p in (whole.path, path))
    assert after[RESNET] == before[RESNET] and after[VIT] == before[VIT]
    assert after[REGNET]["samples"] != before[REGNET]["samples"]
    # On another machine nothing of it holds.
    other = MadeUpMachine()
    facts = {**other.facts(), "cpu": "another"}
    other.facts = lambda: facts
    _calibrate(path, device=whole.path, families=[REGNET], networks=12, measurer=other)
    assert set(load_profile(path).calibration["families"]) == {REGNET}


def test_a_calibration_of_an_earlier_version_is_refused_and_not_kept(whole, tmp_path) -> None:
    path = tmp_path / "old.yaml"
    data = yaml.safe_load(whole.path.read_text())
    path.write_text(yaml.safe_dump({**data, "calibration": {**data["calibration"], "version": 3}}))
    with pytest.raises(UserError, match="Calibrate again"):
        model_of(load_profile(path), 1)
    after = tmp_path / "new.yaml"
    _calibrate(after, device=path, families=[VIT], networks=12, measurer=MadeUpMachine())
    assert set(load_profile(after).calibration["families"]) == {VIT}


def test_a_calibration_that_saw_the_cache_in_another_way_is_not_told_it(tmp_path) -> None:
    path, before = tmp_path / "cpu.yaml", tmp_path / "before.yaml"
    _calibrate(path, measurer=CrowdedMachine())
    data = yaml.safe_load(path.read_text())
    before.write_text(yaml.safe_dump({**data, "calibration": {**data["calibration"], "version": 9}}))
    now, then = (model_of(load_profile(one), 1) for one in (path, before))
    assert now.conditions.cache_share == pytest.approx(0.9) and math.isnan(then.conditions.cache_share)
    crowded = replace(now.conditions, cache_share=0.45)
    assert now.at(crowded).last_cache == 16 << 20
    assert then.at(crowded).last_cache == then.last_cache == 32 << 20
    assert then.at(crowded).conditions.clock_ns == now.conditions.clock_ns
    # What stays of it in a later calibration is not told either.
    after = tmp_path / "after.yaml"
    _calibrate(after, device=before, families=[VIT], measurer=CrowdedMachine())
    kept = model_of(load_profile(after), 1)
    assert math.isnan(kept.conditions.cache_share)
    assert not math.isnan(model_of(load_profile(after), 1, family=VIT).conditions.cache_share)


def test_designs_of_all_families_differ_and_are_mixed() -> None:
    designs = draw_families({RESNET: 30, REGNET: 12, VIT: 12})
    assert len({design.index for design in designs}) == 54
    assert {design.family for design in designs[:6]} == set(FAMILIES)
    detectors = [design for design in designs if design.tail is not None]
    assert len(detectors) == 10 and {design.family for design in detectors} == {RESNET}
    assert all(design.kinds == ("dense",) for design in detectors)
    assert all(set(design.kinds) <= set(KINDS) for design in designs)
    assert all("sparse" in design.kinds for design in designs if design.tail is None)
    regnets, vits = draw_designs(13, family=REGNET), draw_designs(13, family=VIT)
    assert {design.blueprint.group_width for design in regnets} == {8, 16, 24}
    # Every second one has masks of one kind and similar rates.
    for design in regnets[1::2]:
        assert len(set(design.blueprint.modes)) == 1
        assert np.std(design.drawn.channel) < 0.2 and len(design.drawn.channel) == sum(design.blueprint.layers)
    assert {design.blueprint.t2t for design in vits} == {True, False}
    kinds = {kind for design in vits for _, record in design.records(64) for kind in record.decisions}
    assert kinds == {"token", "head", "layer"}
    for design in (*regnets, *vits):
        assert len(design.records(64)) == len(design.dense) == len(design.executions("mixed"))


@pytest.mark.parametrize("turn", [0, 2, 3, 6])
def test_every_block_of_a_made_up_network_has_masks(turn) -> None:
    """Of further calibrations as well: some of their tiny networks have blocks narrower than the largest groups."""
    for design in draw_families({RESNET: 120}, turn):
        for name, record in design.records(64):
            assert record.mask_groups or record.channel_groups, (design.index, name)


def test_designs_are_the_same_everywhere_and_cover_everything() -> None:
    designs = draw_designs(30)
    assert designs == draw_designs(30)
    assert designs[:5] == draw_designs(5)
    assert draw_detectors(8)[:3] == draw_detectors(3)
    for first, other in zip(draw_families({RESNET: 12, VIT: 6}), draw_families({RESNET: 12, VIT: 6}, 1), strict=True):
        assert (turn_of(first.index), turn_of(other.index)) == (0, 1)
        assert (first.index % 2, first.kinds, first.tail is None) == (other.index % 2, other.kinds, other.tail is None)
        assert first.drawn != other.drawn or first.tail != other.tail
    modes = {mode for design in designs for mode in design.blueprint.modes}
    assert modes == {"spatial", "channel", "layer", "both"}
    swapped = [design for design in designs if "swapped" in design.kinds]
    assert {len(design.kinds) for design in designs} == {2} and len(swapped) >= len(designs) // 4
    for design in swapped:
        assert set(design.executions("swapped")) == {"sparse"}
        for (_, own), (_, other) in zip(design.records(64), design.records(64, "swapped"), strict=True):
            assert (own.conv2_algorithm == other.conv2_algorithm) == (own.stride == 2)
    algorithms = {record.conv2_algorithm for design in designs for _, record in design.records(64)}
    assert algorithms == set(Conv2Algorithm)
    assert json.dumps([design.drawn.spatial for design in designs])

"""Predicted beside measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from laudc.calibrate import measure
from laudc.calibrate.pace import Pace, PaceMeter
from laudc.predict.distribution import Distribution
from laudc.predict.interface import Conditions
from laudc.predict.network import BlockPrediction, NetworkPrediction
from laudc.profile.compare import MachineState, PredictedTime, _ranks, compare
from laudc.profile.conditions import watched_conditions


def _prediction(samples=(100.0, 200.0)) -> NetworkPrediction:
    ns = np.asarray(samples) * 1e3
    blocks = tuple(
        BlockPrediction(f"b{i}", "sparse", Distribution.of(np.full(2, us * 1e3), us * 1e3, (0.9, 1.2)))
        for i, us in enumerate((10.0, 20.0, 30.0))
    )
    latency = Distribution.of(ns, ns.max(), (0.9, 1.2))
    return NetworkPrediction(latency, 5.0, blocks, 2, "test", 1, 1, "test", np.asarray(samples))


def test_errors_are_signed_and_intervals_checked() -> None:
    result = compare(_prediction(), [110.0, 210.0], {"b0": [10.0] * 4, "b1": [40.0] * 4, "b2": [33.0] * 4})
    assert result.median.error == pytest.approx(150 / 160 - 1)
    assert result.median.inside is True
    assert result.blocks["b1"].error == pytest.approx(-0.5)
    assert result.blocks["b1"].inside is False
    assert result.blocks["b2"].inside is True
    assert result.block_error == pytest.approx((0 + 0.5 + 3 / 33) / 3)
    assert result.spearman == pytest.approx(0.5)


def test_runs_go_through_the_images_in_turn() -> None:
    result = compare(_prediction(), [100.0, 200.0, 100.0], {})
    assert result.mean.predicted_us == pytest.approx(400 / 3)
    assert result.mean.error == pytest.approx(0)
    assert result.spearman is None
    assert result.block_error is None


def test_the_state_is_told_beside_the_usual_one() -> None:
    state = MachineState.of(
        Conditions(800.0, 0.1), Conditions(1000.0, 0.0), 2, change=1.1, usual_us=[100.0, 120.0, 500.0]
    )
    assert state == MachineState(pytest.approx(1.25), pytest.approx(1.2), 1.1, 120.0)
    crowded = MachineState.of(
        Conditions(1000.0, 0.0, 0.6), Conditions(1000.0, 0.0, 0.8), 2, change=1.0, usual_us=[100.0]
    )
    assert crowded.cache == pytest.approx(0.75)
    assert compare(_prediction(), [110.0, 210.0], {}, state).state is state


def test_conditions_are_looked_at_before_and_after(monkeypatch) -> None:
    before = [Pace(ns, ns * 0.6, math.nan, 0.9) for ns in (990.0, 1000.0, 5000.0, 1000.0, 1010.0)]
    after = [Pace(ns, ns * 0.7, math.nan, 0.5) for ns in (1200.0, 1200.0, 1150.0, 9000.0, 1210.0)]
    found = iter([*before, *after])
    meter = PaceMeter(lambda: None)
    monkeypatch.setattr(meter, "in_caches", lambda: next(found))
    monkeypatch.setattr(measure.CpuMeasurer, "__init__", lambda self: None)
    monkeypatch.setattr(measure.CpuMeasurer, "pace", lambda self, threads: meter)
    with watched_conditions(2) as watch:
        assert watch.conditions is None
    assert watch.conditions == Conditions(1100.0, pytest.approx(0.15), pytest.approx(0.7))
    assert watch.change == pytest.approx(0.7 / 0.6)


def test_with_one_thread_the_clock_is_that_between_the_calls(monkeypatch) -> None:
    now = [0]
    monkeypatch.setattr("laudc.calibrate.pace.time.perf_counter_ns", lambda: now[0])

    def work() -> None:
        now[0] += 1300

    meter = PaceMeter(work)
    monkeypatch.setattr(meter, "in_caches", lambda: Pace(1000.0, 1000.0, math.nan, 0.9))
    monkeypatch.setattr(measure.CpuMeasurer, "__init__", lambda self: None)
    monkeypatch.setattr(measure.CpuMeasurer, "pace", lambda self, threads: meter)
    with watched_conditions(1) as watch:
        now[0] += 10**9
        watch.between(work, 1e9)
    assert watch.conditions == Conditions(pytest.approx(1300.0), 0.0, 0.9)
    assert watch.change == 1.0 and watch.evened.tolist() == [1.0]


def test_without_an_interval_nothing_is_inside_or_outside() -> None:
    assert PredictedTime.of(2.0, 1.0, None).inside is None


def test_ranks_share_ties() -> None:
    assert _ranks(np.asarray([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]

"""The machine's pace, by parts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from laudc.calibrate import pace as module
from laudc.calibrate.pace import Pace, PaceMeter, cache_share, conditions, usual_pace
from laudc.calibrate.samples import Sample
from laudc.predict.interface import Conditions

USUAL = Pace(1000.0, 600.0, 700.0)


def near(pace: Pace) -> Pace:
    """What equals it but for rounding."""
    clock, team = (pytest.approx(ns) for ns in (pace.clock_ns, pace.team_ns))
    return replace(pace, clock_ns=clock, team_ns=team)


@pytest.mark.parametrize(
    ("pace", "slowness"),
    [
        (USUAL, 1.0),
        (Pace(1400.0, 840.0, 700.0), 1.1),  # the clock alone counts a quarter: sharing costs as much of it as before
        (Pace(1000.0, 720.0, 700.0), 1.0),  # what sharing costs is something that predictions are told
        (Pace(1000.0, 600.0, 980.0), 1.1),  # memory counts a quarter
        (Pace(900.0, 540.0, 700.0), 1.0),  # faster than usual is not slow, and memory is what it was
    ],
)
def test_the_slowest_part_counts(pace, slowness) -> None:
    assert pace.slowness(USUAL) == pytest.approx(slowness)


def test_what_is_usual_is_neither_the_fastest_nor_the_middle() -> None:
    paces = [Pace(1000.0 + i, 600.0 + 2 * i, 700.0 + 3 * i, i / 100) for i in range(101)]
    usual = usual_pace(paces)
    assert usual.clock_ns == pytest.approx(1010.0)
    assert usual.memory_ns == pytest.approx(730.0)
    assert 600.0 < usual.team_ns < 640.0
    assert usual.cache_share == pytest.approx(0.9)
    assert math.isnan(usual_pace([USUAL]).cache_share)


def test_a_meter_times_what_it_is_given(monkeypatch) -> None:
    now = [0]
    monkeypatch.setattr(module.time, "perf_counter_ns", lambda: now[0])

    def takes(ns: int):
        def call() -> None:
            now[0] += ns

        return call

    class Piece:
        sum = staticmethod(takes(70))

    monkeypatch.setattr(module, "_memory", lambda: [Piece()] * 4)
    assert PaceMeter(takes(100)).now() == Pace(100.0, 100.0, 70.0)
    meter = PaceMeter(takes(100), takes(60))
    assert meter.now() == Pace(100.0, 60.0, 70.0)
    assert meter.weigh([Pace(100.0, 60.0, 70.0)] * 2) == 1.0
    assert meter.weigh([Pace(100.0, 60.0, 98.0), Pace(100.0, 60.0, 70.0)]) == pytest.approx(1.1)
    alone = meter.in_caches()
    assert (alone.clock_ns, alone.team_ns) == (100.0, 60.0)
    assert math.isnan(alone.memory_ns)


def test_the_clock_is_looked_at_meanwhile(monkeypatch) -> None:
    now = [0]
    monkeypatch.setattr(module.time, "perf_counter_ns", lambda: now[0])

    def work() -> None:
        now[0] += 1_000_000 if now[0] < 150e6 else 1_200_000

    def measured() -> None:
        again.append(now[0])

    again: list[int] = []
    watch = PaceMeter(work).meanwhile()
    watch.between(measured, 1e6)
    assert watch.told(USUAL) == USUAL and not again
    now[0] = 50_000_000
    watch.between(measured, 1e6)
    # Right after it there is nothing to look at, and what is short is made again before the next is timed.
    watch.between(measured, 1e6)
    assert again == [59_000_000]
    assert watch.told(Pace(2e6, 2e6, 700.0, 0.5)) == near(Pace(1e6, 1e6, 700.0, 0.5))
    assert watch.evened() == pytest.approx(np.ones(3))
    now[0] = 200_000_000
    watch.between(measured, 1e8)
    assert len(again) == 1
    # Two calls before the first look, at (2, 1 ms), one after it, and one right before the second, at (4, 1.2 ms).
    seen = np.log([1.0, 1.0, 1.2**0.25, 1.2**0.75])
    assert watch.told(USUAL).clock_ns == pytest.approx(1e6 * np.exp(seen.mean()))
    assert watch.evened() == pytest.approx(np.exp(0.7 * (seen.mean() - seen)))


def test_shared_work_is_looked_at_where_threads_rest(monkeypatch) -> None:
    now, rest = [0], [True]
    monkeypatch.setattr(module.time, "perf_counter_ns", lambda: now[0])
    monkeypatch.setattr(module, "threads_rest", lambda: rest[0])

    def takes(ns: int):
        def call() -> None:
            now[0] += ns

        return call

    watch = PaceMeter(takes(1000), takes(700)).meanwhile()
    now[0] = 15_000_000
    watch.between(lambda: pytest.fail("it is too early"), 1.0)
    now[0] = 25_000_000
    watch.between(lambda: None, 1.0)
    assert watch.told(Pace(900.0, 500.0, 700.0, 0.5)) == near(Pace(1000.0, 700.0, 700.0, 0.5))
    # Threads of another session that keep the cores busy would be timed with it.
    rest[0] = False
    watch = PaceMeter(takes(1000), takes(700)).meanwhile()
    now[0] += 90_000_000
    watch.between(lambda: pytest.fail("nothing was looked at"), 1.0)
    assert watch.told(USUAL) == USUAL and (watch.evened() == 1).all()


def test_what_sharing_costs_must_not_change_meanwhile() -> None:
    slow = Pace(1000.0, 720.0, 700.0)
    assert module.slowness([slow, slow], USUAL) == pytest.approx(1.0)
    assert module.slowness([USUAL, slow], USUAL) == pytest.approx(1.1)
    assert module.shared_change([USUAL]) == 1.0


@pytest.mark.parametrize(("shared", "counts"), [(1.0, True), (1.35, True), (1.5, True), (1.6, False), (1.8, False)])
def test_threads_need_a_core_each(shared, counts) -> None:
    pace = Pace(1000.0, 600.0 * shared, 700.0)
    assert (module.slowness([pace, pace], USUAL) <= module.SLOW) == counts


def test_conditions_are_means() -> None:
    found = conditions([Pace(1000.0, 600.0, 700.0, 0.8), Pace(1200.0, 960.0, 700.0, 0.6)], 2)
    assert found.cache_share == pytest.approx(0.7)
    assert found.clock_ns == pytest.approx(1100.0)
    assert found.handover == pytest.approx(0.2)
    assert USUAL.handover(1) == 0.0


def test_who_does_not_know_the_cache_does_not_count() -> None:
    some, none = Pace(1000.0, 600.0, 700.0, 0.6), Pace(1200.0, 960.0, 700.0)
    assert conditions([some, none], 2).cache_share == 0.6
    assert conditions([some, none], 2).clock_ns == pytest.approx(1100.0)
    assert math.isnan(conditions([none, none], 2).cache_share)


def test_samples_are_brought_to_a_clock() -> None:
    paces = (Pace(900.0, 500.0, 700.0), Pace(1100.0, 800.0, 700.0))
    sample = Sample(0, "mixed", 2, 5000.0, 0.0, 0.0, paces, ((1.0,), (1.0,)), (2000.0, None))
    assert sample.conditions.clock_ns == 1000.0
    slower = sample.at_clock(1200.0)
    assert slower.total_ns == pytest.approx(6000.0) and slower.block_ns == (pytest.approx(2400.0), None)
    assert sample.slowness(USUAL) == pytest.approx((1 + (800 / 1100) / (500 / 900)) / 2)


@pytest.mark.parametrize("left", [1.0, 0.75, 0.5, 0.3])
def test_what_is_left_of_the_cache_shows_in_what_is_read_again(left) -> None:
    size = 32 << 20

    def read_ns(count: int) -> float:
        return count * (1.0 if count <= left * size else 1.3)

    assert cache_share(size, lambda _: read_ns) == pytest.approx(left, abs=0.07)


@pytest.mark.parametrize(
    ("size", "factor"), [(0, 1.3), (1 << 40, 1.3), (32 << 20, 1.05)], ids=["unknown", "huge", "as slow as memory"]
)
def test_nobody_knows_what_is_left_of_some_caches(size, factor) -> None:
    assert math.isnan(cache_share(size, lambda _: lambda count: count * (factor if count > size else 1.0)))


def test_reading_is_timed_for_real() -> None:
    found = cache_share(8 << 20)
    assert math.isnan(found) or 0.25 <= found <= 1.0


def test_what_is_left_is_of_what_usually_is() -> None:
    usual = Conditions(1000.0, 0.0, 0.8)
    assert Conditions(1000.0, 0.0, 0.6).left_of_cache(usual) == pytest.approx(0.75)
    assert Conditions(1000.0, 0.0, 0.9).left_of_cache(usual) == 1.0
    assert Conditions(1000.0, 0.0).left_of_cache(usual) == 1.0
    assert Conditions(1000.0, 0.0, 0.6).left_of_cache(Conditions(1000.0, 0.0)) == 1.0

"""What work costs as far as cores are apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laudc.predict.cpu.cost import Cost, fit_cost

NAMES = ("block", "conv1_macs", "section", "waited_far")
MOST = 0.12


def measured_rows(apart_ns, excesses=(0.0, 0.0, 0.03, MOST)):
    """Random work at several handovers, and what it takes."""
    random = np.random.default_rng(0)
    terms = random.lognormal(3, 1, (200, len(NAMES)))
    excess = random.choice(excesses, 200)
    truth = Cost(np.asarray([1.0, 0.2, 2.0, 4.0]), np.asarray(apart_ns))
    return terms, excess, truth


def test_what_is_handed_over_costs_more_and_memory_less() -> None:
    terms, excess, truth = measured_rows([0.0, 0.0, 50.0, -2.0 / MOST])
    found = fit_cost(NAMES, terms, truth.of(terms, excess), excess)
    assert np.allclose(found.ns, truth.ns, rtol=0.05)
    assert np.allclose(found.apart_ns, truth.apart_ns, rtol=0.1, atol=0.5)
    assert np.allclose(found.of(terms, excess), truth.of(terms, excess), rtol=0.02)


@pytest.mark.parametrize(("times", "fitted"), [(3.0, 1.0), (1.0, 1.0), (0.7, 0.7), (0.2, 0.5)])
def test_two_ways_to_memory_are_never_slower_than_one_and_at_most_twice_as_fast(times, fitted) -> None:
    terms, excess, truth = measured_rows([0.0] * 4)
    far = terms * (np.asarray(NAMES) == "waited_far")
    measured = (terms + far * (times - 1) * (excess / MOST)[:, None]) @ truth.ns
    found = fit_cost(NAMES, terms, measured, excess)
    assert found.at(MOST)[3] / found.ns[3] == pytest.approx(fitted, rel=0.05)


def test_bounds_hold_beyond_what_was_seen() -> None:
    free = Cost(np.asarray([1.0, 0.2, 2.0, 4.0]), np.asarray([0.0, 0.0, 0.0, -1e3]))
    assert free.at(0.12).tolist() == [1.0, 0.2, 2.0, 2.0]


def test_cores_that_were_never_apart_tell_nothing() -> None:
    terms, excess, truth = measured_rows([0.0] * 4, excesses=(0.0,))
    found = fit_cost(NAMES, terms, truth.of(terms, excess), excess)
    assert np.allclose(found.ns, truth.ns, rtol=0.05)
    assert not found.apart_ns.any()


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=5))
def test_rows_cost_what_each_costs_alone(excesses) -> None:
    terms, _, cost = measured_rows([0.0, 0.0, 50.0, -20.0])
    excess = np.asarray(excesses)
    rows = cost.of(terms[: len(excess)], excess)
    assert np.allclose(rows, [one @ cost.at(at) for one, at in zip(terms, excesses, strict=False)])


def test_what_two_ways_differ_by_is_found_from_pairs() -> None:
    """What both have in common is off by a tenth, the same for both: only their difference tells the ways apart."""
    found = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        common, ways = random.lognormal(3, 1, 30), random.uniform(0.05, 0.15, (2, 30))
        off = random.normal(1, 0.1, 30)
        one, other = common * ways
        measured = np.r_[common * off + one, common * off + 1.5 * other]
        both = np.vstack([np.stack([common, one, 0 * one], 1), np.stack([common, 0 * other, other], 1)])
        pairs = np.stack([np.arange(30), np.arange(30) + 30], 1)
        with_pairs, without = (
            fit_cost(("block", "conv2_macs", "winograd_macs"), both, measured, np.zeros(60), pairs=some).ns
            for some in (pairs, None)
        )
        found.append([abs(ns[2] - ns[1] - 0.5) for ns in (with_pairs, without)])
    paired, alone = np.mean(found, axis=0)
    assert paired < 0.7 * alone

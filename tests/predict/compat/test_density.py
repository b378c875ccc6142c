"""Density of the fullest tile: the expected value against many draws, and the authors' way of drawing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laudc.predict.compat.density import ClosedForm, SeededDraws, drawn_density
from laudc.predict.compat.tiles import candidates

sizes = st.integers(1, 300)
shares = st.floats(0, 1, allow_nan=False)


@given(channels=sizes, share=shares, run=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_between_the_share_and_one(channels, share, run):
    found = ClosedForm().of(channels, share, run)
    assert len(found) == len(candidates(channels))
    assert np.all(found >= share) and np.all(found <= 1 + 1e-12)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_is_random_about_all_or_nothing(share):
    assert np.all(ClosedForm().of(64, share, 1) == share)
    assert np.all(SeededDraws(3).of(64, share, 1) == share)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("channels, run", [(64, 1), (104, 1), (64, 4), (64, 64), (96, 16)])
def test_expected_values_agree_with_many_draws(channels, share, run):
    rng = np.random.default_rng(0)
    for tile, found in zip(sorted(candidates(channels)), ClosedForm().of(channels, share, run), strict=True):
        count = -(-channels // tile)
        drawn = drawn_density(rng.random((4000, -(-count * tile // run))), count, tile, share, run)
        # The third kind of tile, whose borders cut runs, is itself drawn 100 times.
        cut = tile % run and run % tile
        assert found == pytest.approx(drawn, abs=0.12 if cut else 0.03)


def test_one_tile_of_everything_has_no_worst():
    found = dict(zip(sorted(candidates(64)), ClosedForm().of(64, 0.4, 1), strict=True))
    assert found[64] == pytest.approx(0.4) and found[1] == pytest.approx(1.0)


def test_draws_by_hand():
    # Two masks of two runs of two channels; tiles of three channels, one of them: on channels 2 and 1.
    uniforms = np.array([[0.1, 0.9], [0.9, 0.1]])
    assert drawn_density(uniforms, 1, 3, 0.5, 2) == pytest.approx((2 + 1) / 2 / 3)
    assert drawn_density(uniforms, 1, 3, 0.6, 2) == 0.6  # never below the share


def test_draws_repeat_and_are_remembered():
    first, again, other = SeededDraws(1), SeededDraws(1), SeededDraws(2)
    values = first.of(48, 0.5, 1)
    assert np.array_equal(values, again.of(48, 0.5, 1)) and np.array_equal(values, first.of(48, 0.5, 1))
    assert not np.array_equal(values, other.of(48, 0.5, 1))


def test_expected_values_do_not_depend_on_history():
    ClosedForm().of(96, 0.3, 5)
    assert np.array_equal(ClosedForm().of(100, 0.3, 7), ClosedForm().of(100, 0.3, 7))
    assert ClosedForm() == ClosedForm() and hash(ClosedForm()) == hash(ClosedForm())

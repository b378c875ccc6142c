"""Coefficients and the learned residual."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laudc.predict.cpu.model import Fit
from laudc.predict.linear import fit_relative
from laudc.predict.residual import Residual, fit_residual
from tests.predict.models import cpu_fit


def test_coefficients_are_found_again() -> None:
    random = np.random.default_rng(0)
    terms = random.lognormal(3, 2, (200, 6))
    true = np.asarray([0.0, 1.0, 0.2, 5.0, 0.0, 0.01])
    found = fit_relative(terms, terms @ true, ridge=1e-10)
    assert np.allclose(found, true, rtol=1e-3, atol=1e-4)


@given(st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_coefficients_are_a_minimum_over_what_is_not_negative(seed) -> None:
    random = np.random.default_rng(seed)
    terms, measured = random.random((30, 5)) + 0.1, random.random(30) + 0.5
    found = fit_relative(terms, measured, ridge=0.0)
    assert (found >= 0).all()

    def loss(w):
        error = np.abs(terms @ w - measured) / measured
        return np.where(error < 0.1, error**2, 0.2 * error - 0.01).sum()

    for j in range(5):
        for step in (1e-3, -1e-3):
            other = found.copy()
            other[j] = max(0.0, other[j] + step)
            assert loss(other) >= loss(found) - 1e-4


def test_terms_that_no_sample_has_cost_nothing() -> None:
    found = fit_relative(np.asarray([[1.0, 0.0], [2.0, 0.0]]), np.asarray([3.0, 6.0]), ridge=0.0)
    assert np.allclose(found, [3.0, 0.0])


def test_errors_relative_to_another_scale() -> None:
    terms, measured = np.ones((2, 1)), np.asarray([1.0, 3.0])
    assert np.isclose(fit_relative(terms, measured, scale=np.asarray([1.0, 1.0]), ridge=0.0)[0], 2.0)
    assert fit_relative(terms, measured, ridge=0.0)[0] < 1.5


def test_samples_count_by_their_importance() -> None:
    terms, measured = np.ones((2, 1)), np.asarray([1.0, 1.1])
    one, other = (
        fit_relative(terms, measured, scale=np.ones(2), importance=np.asarray(importance), ridge=0.0)[0]
        for importance in ([9.0, 1.0], [1.0, 9.0])
    )
    assert np.isclose(one, 1.01) and np.isclose(other, 1.09)


def test_the_residual_learns_what_is_smooth_and_survives_its_file() -> None:
    random = np.random.default_rng(1)
    terms = random.lognormal(5, 2, (600, 4))
    truth = 0.2 * np.tanh(np.log1p(terms[:, 0]) - 5)
    residual = fit_residual(terms[:500], truth[:500], width=4.0, ridge=0.1)
    again = Residual.from_dict(residual.to_dict())
    error = np.abs(again.log_factor(terms[500:]) - truth[500:]).mean()
    assert error < 0.5 * np.abs(truth[500:]).mean()
    assert np.abs(residual.log_factor(terms) - again.log_factor(terms)).max() < 0.02


def test_a_residual_of_other_terms_is_refused() -> None:
    terms = np.random.default_rng(1).lognormal(5, 2, (100, 4))
    data = {**cpu_fit().to_dict(), "residual": fit_residual(terms, np.zeros(100)).to_dict()}
    with pytest.raises(ValueError, match="a residual of 4 terms"):
        Fit.from_dict(data)


def test_one_disturbed_sample_does_not_pull_the_fit_along() -> None:
    terms = np.random.default_rng(0).lognormal(1, 1, (60, 3))
    measured = terms @ np.asarray([1.0, 2.0, 3.0])
    measured[7] *= 3
    assert np.allclose(fit_relative(terms, measured, ridge=1e-8), [1.0, 2.0, 3.0], rtol=0.02)

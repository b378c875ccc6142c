"""Non-negative least squares on relative errors."""

from __future__ import annotations

import numpy as np

Array = np.ndarray

_TOLERANCE = 1e-10
_HUBER = 0.1
_ROBUST_ROUNDS = 8
# How much the difference of a pair counts beside either of its rows.
_PAIR_COUNTS = 8.0


def fit_relative(
    terms: Array,
    measured: Array,
    *,
    scale: Array | None = None,
    importance: Array | None = None,
    pairs: Array | None = None,
    ridge: float = 1e-4,
) -> Array:
    """Coefficients w ≥ 0 that minimise Σ importance·h((terms·w − measured) / scale) + ridge·|scaled w|².

    h is Huber's loss, quadratic up to 10 % and linear beyond: a disturbed sample cannot pull the fit along.

    Args:
        terms: (samples, terms), amounts of work.
        measured: (samples,).
        scale: (samples,), what an error is relative to; the measured value if left out.
        importance: (samples,), how much each counts; all the same if left out.
        pairs: (pairs, 2), samples whose difference counts by itself too, relative to what either took.
        ridge: keeps terms that always occur together from taking turns; relative to columns of unit length.

    Returns:
        (terms,), zero for columns that no sample has.
    """
    by = measured if scale is None else scale
    given = np.ones(len(measured)) if importance is None else importance
    if pairs is not None:
        one, other = pairs.T
        terms = np.vstack([terms, terms[other] - terms[one]])
        measured = np.r_[measured, measured[other] - measured[one]]
        by = np.r_[by, (by[one] + by[other]) / 2]
        given = np.r_[given, _PAIR_COUNTS * (given[one] + given[other]) / 2]
    scaled, target = terms / by[:, None], measured / by
    out = _weighted(scaled, target, given, ridge, np.zeros(terms.shape[1]))
    for _ in range(_ROBUST_ROUNDS):
        error = np.abs(scaled @ out - target)
        out = _weighted(scaled, target, given * _HUBER / np.maximum(error, _HUBER), ridge, out)
    return out


def _weighted(terms: Array, target: Array, weight: Array, ridge: float, start: Array) -> Array:
    """One round; `start`: coefficients that the search begins with."""
    root = np.sqrt(weight)
    rows = terms * root[:, None]
    length = np.sqrt((rows**2).sum(axis=0))
    used = length > 0
    a = rows[:, used] / length[used]
    gram = a.T @ a + ridge * np.eye(a.shape[1])
    w = _non_negative(gram, a.T @ (target * root), start[used] * length[used])
    out = np.zeros(terms.shape[1])
    out[used] = w / length[used]
    return out


def _non_negative(gram: Array, target: Array, start: Array) -> Array:
    """Minimises w'·gram·w/2 − target'·w for w ≥ 0: the active-set method of Lawson and Hanson (1974), begun at
    `start`."""
    size = len(target)
    free = start > _TOLERANCE
    w = _solve_inside(gram, target, np.where(free, start, 0.0), free)
    for _ in range(3 * size):
        gradient = target - gram @ w
        gradient[free] = -np.inf
        best = int(gradient.argmax())
        if gradient[best] <= _TOLERANCE:
            break
        free[best] = True
        w = _solve_inside(gram, target, w, free)
    return w


def _solve_inside(gram: Array, target: Array, w: Array, free: Array) -> Array:
    """The minimum over the free coefficients; those that would turn negative are fixed at zero on the way."""
    while True:
        solved = np.zeros_like(w)
        solved[free] = np.linalg.solve(gram[np.ix_(free, free)], target[free])
        if not free.any() or (solved[free] > 0).all():
            return solved
        negative = free & (solved <= 0)
        step = (w[negative] / (w[negative] - solved[negative])).min()
        w = w + step * (solved - w)
        free &= w > _TOLERANCE
        w = np.where(free, w, 0.0)

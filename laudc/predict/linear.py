"""Non-negative least squares on relative errors."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def fit_relative(terms: Array, measured: Array, ridge: float = 1e-4, rounds: int = 20000) -> Array:
    """Coefficients w ≥ 0 that minimise Σ ((terms·w − measured) / measured)² + ridge·|scaled w|².

    Coordinate descent; columns are scaled to unit length first, so that `ridge` means the same for all of them.

    Args:
        terms: (samples, terms), amounts of work.
        measured: (samples,), positive.

    Returns:
        (terms,), zero for columns that no sample has.
    """
    scaled = terms / measured[:, None]
    length = np.sqrt((scaled**2).sum(axis=0))
    used = length > 0
    a = scaled[:, used] / length[used]
    gram = a.T @ a + ridge * np.eye(a.shape[1])
    target = a.sum(axis=0)
    w = np.zeros(a.shape[1])
    for _ in range(rounds):
        before = w.copy()
        for j in range(len(w)):
            w[j] = max(0.0, w[j] + (target[j] - gram[j] @ w) / gram[j, j])
        if np.abs(w - before).max() < 1e-9:
            break
    out = np.zeros(terms.shape[1])
    out[used] = w / length[used]
    return out

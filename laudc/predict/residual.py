"""What the terms miss, learned: a smooth function of the logarithms of the amounts of work.

Ridge regression on random Fourier features (Rahimi and Recht, 2007) of log(1 + terms): a Gaussian process in effect,
but its file holds a few hundred numbers and predicting is one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray

# No correction beyond this factor: far from all samples the function returns to 0 anyhow.
_LIMIT = 0.5


@dataclass(frozen=True)
class Residual:
    """A fitted residual. `mean` and `scale` standardise the features; `weights` has one entry per random feature."""

    seed: int
    width: float
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]

    def log_factor(self, terms: Array) -> Array:
        """log(measured / analytic) expected for each row of terms."""
        features = _features(
            terms, np.asarray(self.mean), np.asarray(self.scale), self.seed, self.width, len(self.weights)
        )
        return np.clip(features @ np.asarray(self.weights), -_LIMIT, _LIMIT)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, rounded: the fourth digit of a correction means nothing."""
        return {
            "seed": self.seed,
            "width": self.width,
            "mean": [round(v, 4) for v in self.mean],
            "scale": [round(v, 4) for v in self.scale],
            "weights": [round(v, 5) for v in self.weights],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Residual:
        """Inverse of `to_dict`."""
        return cls(
            int(data["seed"]),
            float(data["width"]),
            *(tuple(map(float, data[key])) for key in ("mean", "scale", "weights")),
        )


def fit_residual(
    terms: Array, log_ratio: Array, *, count: int = 200, width: float = 4.0, ridge: float = 3.0, seed: int = 7
) -> Residual:
    """Fits log(measured / analytic) of the samples.

    Args:
        terms: (samples, terms).
        log_ratio: (samples,).
        count: random features.
        width: length scale in standard deviations of the features.
        ridge: noise over signal: larger corrects less.
        seed: of the random features.
    """
    logs = np.log1p(terms)
    mean, spread = logs.mean(axis=0), logs.std(axis=0)
    scale = np.where(spread > 1e-6, spread, 1.0)
    features = _features(terms, mean, scale, seed, width, count)
    gram = features.T @ features + ridge * np.eye(count)
    weights = np.linalg.solve(gram, features.T @ log_ratio)
    return Residual(seed, width, *(tuple(map(float, values)) for values in (mean, scale, weights)))


def _features(terms: Array, mean: Array, scale: Array, seed: int, width: float, count: int) -> Array:
    random = np.random.default_rng(seed)
    directions = random.standard_normal((len(mean), count)) / width
    phases = random.uniform(0, 2 * np.pi, count)
    standard = (np.log1p(terms) - mean) / scale
    # Single precision is exact to a millionth of the correction, and several times as fast.
    angles = standard.astype(np.float32) @ directions.astype(np.float32) + phases.astype(np.float32)
    return np.cos(angles).astype(np.float64) * np.sqrt(2 / count)

"""Latencies over many images as a handful of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Distribution:
    """Latency in microseconds over images: mean, median, 95th and 99th percentile.

    `worst` is the latency with everything kept, which may exceed every image seen. `low` and `high` enclose the true
    mean with the probability that the device profile states (90 %); None where no interval was calibrated.
    """

    mean_us: float
    p50_us: float
    p95_us: float
    p99_us: float
    worst_us: float
    low_us: float | None = None
    high_us: float | None = None

    @classmethod
    def of(cls, ns: Array, worst_ns: float, interval: Sequence[float] | None = None) -> Distribution:
        """From one latency per image, in nanoseconds; `interval` holds the factors (low, high) of a prediction."""
        mean = float(ns.mean()) / 1e3
        p50, p95, p99 = (float(value) / 1e3 for value in np.percentile(ns, (50, 95, 99)))
        low, high = (mean * interval[0], mean * interval[1]) if interval is not None else (None, None)
        return cls(mean, p50, p95, p99, max(float(worst_ns) / 1e3, p99), low, high)

    def to_dict(self) -> dict[str, float | None]:
        """Plain data, to a hundredth of a microsecond."""
        return {key: None if value is None else round(value, 2) for key, value in asdict(self).items()}

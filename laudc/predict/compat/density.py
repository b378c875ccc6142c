"""Density of the fullest channel tile when channels are on at random.

All tiles of a kernel wait for the fullest one. The authors draw 100 random masks for each question; here the expected
value is computed, and their draws can be had with a seed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .tiles import candidates

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DRAWS = 100
_FALLBACK_SEED = 0


class WorstTileDensity(Protocol):
    """Expected share of on channels in the fullest tile."""

    def of(self, channels: int, share: float, run: int) -> NDArray[np.float64]:
        """For each candidate tile size of `channels`, ascending: the channels are cut into tiles of that many; each
        run of `run` channels is on with probability `share`. Never below `share`."""


class ClosedForm:
    """The expected value itself: same question, same answer. All instances are alike."""

    def of(self, channels: int, share: float, run: int) -> NDArray[np.float64]:
        return _expected(channels, float(share), run)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClosedForm)

    def __hash__(self) -> int:
        return hash(ClosedForm)


class SeededDraws:
    """The authors' way: 100 masks from NumPy's legacy generator, drawn when a question comes up first and remembered.

    So answers depend on the seed and on the order of all questions before; a fresh object repeats a run.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.RandomState(seed)
        self._known: dict[tuple[int, int, float, int], float] = {}

    def of(self, channels: int, share: float, run: int) -> NDArray[np.float64]:
        answers = {tile: self._one(-(-channels // tile), tile, float(share), run) for tile in candidates(channels)}
        return np.array([answers[tile] for tile in sorted(answers)])

    def _one(self, count: int, tile: int, share: float, run: int) -> float:
        if share == 1.0:
            return 1.0
        key = (count, tile, share, run)
        if key not in self._known:
            self._known[key] = drawn_density(self._random, count, tile, share, run)
        return self._known[key]


def drawn_density(random: np.random.RandomState, count: int, tile: int, share: float, run: int) -> float:
    """Mean over 100 random masks of the largest share of on channels in `count` tiles of `tile` channels."""
    channels = count * tile
    on = random.rand(_DRAWS, -(-channels // run)) < share
    on = np.repeat(on, run, axis=1)[:, :channels].reshape(_DRAWS, count, tile)
    return max(float(on.sum(axis=2).max(axis=1).mean()) / tile, share)


@lru_cache(maxsize=16384)
def _expected(channels: int, share: float, run: int) -> NDArray[np.float64]:
    tiles = sorted(candidates(channels))
    if share in (0.0, 1.0):
        return np.full(len(tiles), share)
    counts = [-(-channels // tile) for tile in tiles]
    if all(tile % run == 0 for tile in tiles):
        return largest_of_binomials(np.array(counts), np.array(tiles) // run, share)
    return np.array([_with_runs(count, tile, share, run) for count, tile in zip(counts, tiles, strict=True)])


def _with_runs(count: int, tile: int, share: float, run: int) -> float:
    if tile % run == 0:
        return float(largest_of_binomials(np.array([count]), np.array([tile // run]), share)[0])
    if run % tile == 0:
        # A tile is on or off as a whole: some tile is on unless every run is off.
        return max(share, 1.0 - (1.0 - share) ** -(-count * tile // run))
    return drawn_density(np.random.RandomState(_FALLBACK_SEED), count, tile, share, run)


def largest_of_binomials(counts: NDArray[np.int64], trials: NDArray[np.int64], share: float) -> NDArray[np.float64]:
    """E[max of `count` independent Binomial(`trial`, share)] / trial for each pair, at least `share`; 0 < share < 1.

    E[max] is the sum of P(max > j) = 1 - F(j)**count over j < trial.
    """
    ends = np.cumsum(trials)
    starts = ends - trials
    trial = np.repeat(trials, trials)
    j = np.arange(ends[-1]) - np.repeat(starts, trials)
    log_factorial = _log_factorials(int(trials.max()))
    log_pmf = log_factorial[trial] - log_factorial[j] - log_factorial[trial - j]
    log_pmf += j * np.log(share) + (trial - j) * np.log1p(-share)
    running = np.cumsum(np.exp(log_pmf))
    before = np.concatenate(([0.0], running))[starts]
    cdf = np.clip(running - np.repeat(before, trials), 0.0, 1.0)
    expected = np.add.reduceat(1.0 - cdf ** np.repeat(counts, trials), starts)
    return np.maximum(expected / trials, share)


@lru_cache(maxsize=64)
def _log_factorials(largest: int) -> NDArray[np.float64]:
    return np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, largest + 1, dtype=np.float64)))))

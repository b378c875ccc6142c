"""Density of the fullest channel tile when channels are on at random.

All tiles of a kernel wait for the fullest one. The authors draw 100 random masks for each question; here the expected
value is computed, and their draws can be had with a seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.random import RandomState

from .tiles import axis, candidates

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
        self._random = RandomState(seed)
        self._known: dict[tuple[int, int, float, int], float] = {}

    def of(self, channels: int, share: float, run: int) -> NDArray[np.float64]:
        answers = {tile: self._one(-(-channels // tile), tile, float(share), run) for tile in candidates(channels)}
        return np.array([answers[tile] for tile in sorted(answers)])

    def _one(self, count: int, tile: int, share: float, run: int) -> float:
        if share == 1.0:
            return 1.0
        key = (count, tile, share, run)
        if key not in self._known:
            uniforms = self._random.rand(_DRAWS, -(-count * tile // run))
            self._known[key] = drawn_density(uniforms, count, tile, share, run)
        return self._known[key]


def drawn_density(uniforms: NDArray[np.float64], count: int, tile: int, share: float, run: int) -> float:
    """Mean over masks of the largest share of on channels in `count` tiles of `tile` channels, at least `share`.

    `uniforms` (masks, runs) are numbers between 0 and 1: a run of `run` channels is on where its number is below
    `share`. Channels beyond the tiles are cut off.
    """
    on = np.repeat((uniforms < share).view(np.uint8), run, axis=1)
    on = on[:, : count * tile].reshape(len(uniforms), count, tile)
    return max(float(on.sum(axis=2, dtype=np.uint32).max(axis=1).mean()) / tile, share)


@lru_cache(maxsize=16384)
def _expected(channels: int, share: float, run: int) -> NDArray[np.float64]:
    tiles = axis(channels).tiles
    if share in (0.0, 1.0):
        return np.full(len(tiles), share)
    whole, others = _split(channels, run)
    found = np.empty(len(tiles))
    if len(whole.at):
        found[whole.at] = whole.largest(share)
    for index in others:
        tile = int(tiles[index])
        found[index] = _with_runs(-(-channels // tile), tile, share, run)
    return np.maximum(found, share)


def _with_runs(count: int, tile: int, share: float, run: int) -> float:
    """Tiles whose borders cut runs apart."""
    if run % tile == 0:
        # A tile is on or off as a whole: some tile is on unless every run is off.
        return 1.0 - (1.0 - share) ** -(-count * tile // run)
    return drawn_density(_fixed_uniforms(-(-count * tile // run)), count, tile, share, run)


@lru_cache(maxsize=256)
def _fixed_uniforms(runs: int) -> NDArray[np.float64]:
    return RandomState(_FALLBACK_SEED).rand(_DRAWS, runs)


@dataclass(frozen=True)
class _Binomials:
    """For tile sizes at the indices `at`, made of `trials` runs each: all outcomes j < trials of each tile, one tile
    after another, with the logarithm of how many ways lead there; `tiles` repeats the number of tiles."""

    at: NDArray[np.intp]
    trials: NDArray[np.int64]
    starts: NDArray[np.int64]
    on: NDArray[np.int64]
    off: NDArray[np.int64]
    log_ways: NDArray[np.float64]
    tiles: NDArray[np.int64]

    def largest(self, share: float) -> NDArray[np.float64]:
        """E[max of the tiles' independent Binomial(trials, share)] / trials; 0 < share < 1.

        E[max] is the sum of P(max > j) = 1 - F(j)**tiles over j < trials.
        """
        running = np.cumsum(np.exp(self.log_ways + self.on * math.log(share) + self.off * math.log1p(-share)))
        before = np.concatenate(((0.0,), running))[self.starts]
        cdf = np.minimum(running - np.repeat(before, self.trials), 1.0)
        return np.add.reduceat(1.0 - cdf**self.tiles, self.starts) / self.trials


@lru_cache(maxsize=4096)
def _split(channels: int, run: int) -> tuple[_Binomials, list[int]]:
    """The candidate tiles that whole runs fill, and the indices of the others."""
    tiles = axis(channels).tiles.astype(np.int64)
    at = np.flatnonzero(tiles % run == 0)
    trials = tiles[at] // run
    starts = np.cumsum(trials) - trials
    trial = np.repeat(trials, trials)
    on = np.arange(len(trial)) - np.repeat(starts, trials)
    log_factorial = np.concatenate(((0.0,), np.cumsum(np.log(np.arange(1, tiles.max() + 1)))))
    log_ways = log_factorial[trial] - log_factorial[on] - log_factorial[trial - on]
    counts = np.repeat(-(-channels // tiles[at]), trials)
    binomials = _Binomials(at, trials, starts, on, trial - on, log_ways, counts)
    return binomials, [int(index) for index in np.flatnonzero(tiles % run)]

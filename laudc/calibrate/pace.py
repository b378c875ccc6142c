"""How fast the machine is right now: small fixed pieces of work, timed again and again.

Clocks move by some per cent within minutes, and a virtual machine seldom tells where they stand. Its cores may be near
each other in one minute and far apart in the next, so that what goes from one to the other takes twice as long. The
latency model is told both (`laudc.predict.interface.Conditions`). Neighbours slow the machine down besides, without any
process of ours to show for it: everything takes 1.3 or 1.7 times as long for some seconds, or only what comes from
memory does. Timing something known before and after each measurement tells.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from laudc.calibrate.resting import threads_rest
from laudc.predict.interface import Conditions

_CALLS = 25
# A measurement is interrupted so often for a look, of so many calls, after so many that bring the work back into the
# core's caches: the first of these takes a quarter longer. What several cores do together changes faster than a clock.
_LOOK_EVERY_NS, _LOOK_TEAM_EVERY_NS, _LOOK_CALLS, _LOOK_WARMUP = 40e6, 20e6, 4, 5
# By how much calls follow what was seen around them: networks measured again and again followed with powers of 0.5 (one
# thread) and 0.77 (two), and anything in between evens them out as well.
_FOLLOWS = 0.7
# Calls no longer than this find things of their own in a core's caches.
_SHORT_NS = 3e6
# Floats that are gone through at a time, and pieces of so many: more than most last-level caches hold. Of each cache
# line one is read: adding up all of them takes some CPUs longer than memory needs to bring them.
_STREAM, _PIECES, _LINE = 4 << 20, 16, 16
# How fast memory is depends on where a process' pages lie, and few networks wait for it: while it took up to 1.3 times
# as long as at best, they took no longer.
_MEMORY_COUNTS = 0.25
# The clock is told, and the power that times follow it with is known to a quarter.
_CLOCK_COUNTS = 0.25
# Shared work takes up to so many times as long where cores are far apart (1.2 and 1.35 times were seen, on two
# machines), and 1.8 times on two virtual cores of one real one.
_FAR_APART = 1.4
# What was measured while the machine took longer than so many times the usual pace is measured again, else left out.
SLOW = 1.08
# How much is read to see what is left of the last-level cache, as shares of it: the first is always there, the one
# beyond never. A cache must be this much faster than memory for times to tell.
_SHARES, _BEYOND = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0), 1.5
_FASTER, _READS, _MOST_READ = 1.1, 6, 256 << 20
# Not the fastest of all that were seen, which may be chance.
_USUAL_BEST = 0.1


@dataclass(frozen=True)
class Pace:
    """What the fixed pieces of work took, in ns.

    Attributes:
        clock_ns: work of one thread that stays in a core's own caches: what the core's clock makes of it.
        team_ns: the same work, shared by as many threads as are measured.
        memory_ns: reading from memory; NaN where nobody did.
        cache_share: see `Conditions.cache_share`.
    """

    clock_ns: float
    team_ns: float
    memory_ns: float
    cache_share: float = math.nan

    @property
    def shared(self) -> float:
        """What the work takes when it is shared, over what it takes one thread."""
        return self.team_ns / self.clock_ns

    def handover(self, threads: int) -> float:
        """See `Conditions.handover`; with one thread there is none."""
        return max(0.0, self.shared - 1 / threads)

    def slowness(self, usual: Pace) -> float:
        """How many times as slow as usual the machine is, beside what the model is told: by its clock or its memory,
        whichever says more."""
        clock = 1 + _CLOCK_COUNTS * (self.clock_ns / usual.clock_ns - 1)
        memory = 1 + _MEMORY_COUNTS * (self.memory_ns / usual.memory_ns - 1)
        return max(clock, memory)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pace:
        """From parsed JSON."""
        clock, team, memory = (float(data[name]) for name in ("clock_ns", "team_ns", "memory_ns"))
        share = float(data.get("cache_share", math.nan))
        # The one object, so that what nobody knows compares equal to itself.
        return cls(clock, team, memory, math.nan if math.isnan(share) else share)


def slowness(paces: Sequence[Pace], usual: Pace) -> float:
    """How many times as slow as usual the machine was at worst around a measurement, or half of how much what sharing
    costs changed meanwhile: the model is told the mean, but nobody knows when it changed. Or how much longer shared
    work took than it does where cores are far apart: then threads had no core each, and nothing that is shared was
    faster for it."""
    apart = max(pace.shared for pace in paces) / usual.shared
    return max(*(pace.slowness(usual) for pace in paces), (1 + shared_change(paces)) / 2, apart / _FAR_APART)


def shared_change(paces: Sequence[Pace]) -> float:
    """How many times as long as at best shared work took at worst, beside that of one thread."""
    shared = [pace.shared for pace in paces]
    return max(shared) / min(shared)


def conditions(paces: Sequence[Pace], threads: int) -> Conditions:
    """Those around a measurement with so many threads, on average over those who know."""
    clock, handover = np.mean([(pace.clock_ns, pace.handover(threads)) for pace in paces], axis=0)
    return Conditions(float(clock), float(handover), of_known_shares(paces, np.mean))


def of_known_shares(paces: Iterable[Pace], summary: Callable[[list[float]], Any]) -> float:
    """`summary` of the cache shares of those who know theirs; NaN where nobody does."""
    shares = [pace.cache_share for pace in paces if not math.isnan(pace.cache_share)]
    return float(summary(shares)) if shares else math.nan


def usual_pace(paces: Iterable[Pace]) -> Pace:
    """What the machine does when nothing slows it down."""
    every = list(paces)
    seen = [(one.clock_ns, one.shared, one.memory_ns) for one in every]
    clock, shared, memory = map(float, np.quantile(seen, _USUAL_BEST, axis=0))
    share = of_known_shares(every, lambda shares: np.quantile(shares, 1 - _USUAL_BEST))
    return Pace(clock, clock * shared, memory, share)


class PaceMeter:
    """Times `alone`, which always does the same on one thread and stays in a core's own caches; `together`, the same by
    as many threads as are measured (None: one); and reading from memory and from a last-level cache of `last_cache`
    bytes (0: nobody knows)."""

    def __init__(
        self, alone: Callable[[], Any], together: Callable[[], Any] | None = None, last_cache: int = 0
    ) -> None:
        self._alone, self._together, self._last_cache = alone, together, last_cache
        self._seen: list[Pace] = []

    def now(self) -> Pace:
        """The lower quartile of a few calls of each: how fast it can be now, not how often it was interrupted."""
        return replace(self.in_caches(), memory_ns=_quartile_ns([piece.sum for piece in _memory()]))

    def in_caches(self) -> Pace:
        """The same without memory, which takes a quarter of a gigabyte to tell."""
        clock = _calls_ns(self._alone)
        team = clock if self._together is None else _calls_ns(self._together)
        return Pace(clock, team, math.nan, cache_share(self._last_cache))

    def weigh(self, paces: Sequence[Pace]) -> float:
        """How slow these, around a measurement, are beside those of all measurements so far, which they now are of."""
        self._seen += paces
        return slowness(paces, usual_pace(self._seen))

    def meanwhile(self) -> PaceWatch:
        """Looks at the same while something is timed, memory and caches left out."""
        return PaceWatch(self._alone, self._together)


class PaceWatch:
    """Looks at the pace between the calls of a measurement, by what a `PaceMeter` has. Where neighbours share the
    cores, a clock changes by a tenth within some hundredths of a second, and what shared work takes by half: what they
    were before and after tells less than nothing. Sessions of several threads can take turns only if their threads rest
    in between (`laudc.calibrate.resting`): where they do not, nobody looks."""

    def __init__(self, alone: Callable[[], Any], together: Callable[[], Any] | None) -> None:
        self._alone, self._together = alone, together
        self._every_ns = _LOOK_EVERY_NS if together is None else _LOOK_TEAM_EVERY_NS
        self._calls = 0
        # How many calls there were before each look, and the logarithms of what the work took: alone, shared.
        self._looks: list[tuple[int, float, float]] = []
        self._looked = time.perf_counter_ns()

    def between(self, call: Callable[[], Any], last_ns: float) -> None:
        """Looks if it is time to, after a `call` that took `last_ns`. A short one finds things of its own in the core's
        caches no more after that: it is made once again, before the next is timed."""
        self._calls += 1
        if time.perf_counter_ns() - self._looked < self._every_ns:
            return
        if self._together is None or threads_rest():
            self._look()
            if last_ns < _SHORT_NS:
                call()
        self._looked = time.perf_counter_ns()

    def _look(self) -> None:
        team = None if self._together is None else _look_ns(self._together)
        clock = _look_ns(self._alone)
        self._looks.append((self._calls, math.log(clock), math.log(clock if team is None else team)))

    def _around_calls(self) -> np.ndarray:
        """(calls, 2) of what the work took around each call, alone and shared: logarithms, in between two looks."""
        counts, *seen = np.asarray(self._looks).T
        middles = np.arange(self._calls) + 0.5
        return np.stack([np.interp(middles, counts, values) for values in seen], axis=1)

    def evened(self) -> np.ndarray:
        """(calls,) of factors that bring every call to the pace that was there on average; 1 where nobody looked. One
        call in a burst of other work says less of the machine than the look next to it."""
        if not self._looks:
            return np.ones(self._calls)
        shared = self._around_calls()[:, 1]
        return np.asarray(np.exp(_FOLLOWS * (shared.mean() - shared)))

    def told(self, pace: Pace) -> Pace:
        """A pace of before or after with what was seen meanwhile, on average over the calls, as `Pace.clock_ns` and
        `Pace.team_ns` have it."""
        if not self._looks:
            return pace
        clock, team = map(float, np.exp(self._around_calls().mean(axis=0)))
        return replace(pace, clock_ns=clock, team_ns=team)


def cache_share(last_cache: int, reader: Callable[[int], Callable[[int], float]] | None = None) -> float:
    """How much of a last-level cache of so many bytes is left to us, as a share: what is read again and again comes
    from there as long as it fits, and from memory beyond.

    Args:
        last_cache: in bytes; 0: unknown.
        reader: of a cache of that size gives the time, in ns, to read so many bytes that were read just before; None:
            it is measured.

    Returns:
        The share, NaN where the cache is unknown, hardly faster than memory, or larger than is worth reading.
    """
    if not 0 < last_cache * _BEYOND <= _MOST_READ:
        return math.nan
    read_ns = (_reader if reader is None else reader)(last_cache)
    shares = np.asarray(_SHARES)
    per_byte = np.asarray([read_ns(int(share * last_cache)) / share for share in (*_SHARES, _BEYOND)])
    near, far = per_byte[0], per_byte[-1]
    if far < _FASTER * near:
        return math.nan
    there = np.clip((far - per_byte[:-1]) / (far - near), 0, 1)
    return float(shares[0] + np.sum(np.diff(shares) * (there[1:] + there[:-1]) / 2))


@functools.cache
def _reader(last_cache: int) -> Callable[[int], float]:
    """Times reading again and again from one place, which is no larger than it has to be."""
    place = np.ones(int(last_cache * _BEYOND) // 4, np.float32)

    def read_ns(count: int) -> float:
        piece = place[: count // 4 : _LINE]
        piece.sum()
        return _quartile_ns([piece.sum] * _READS)

    return read_ns


@functools.cache
def _memory() -> np.ndarray:
    """What is read, the same for every number of threads."""
    return np.ones((_PIECES, _STREAM), np.float32)[:, ::_LINE]


def _look_ns(call: Callable[[], Any]) -> float:
    """The median: calls around the look are interrupted as often."""
    return float(np.median([_call_ns(call) for _ in range(_LOOK_WARMUP + _LOOK_CALLS)][_LOOK_WARMUP:]))


def _calls_ns(call: Callable[[], Any]) -> float:
    call()
    return _quartile_ns([call] * _CALLS)


def _quartile_ns(calls: list[Callable[[], Any]]) -> float:
    """The lower one: how fast it can be, not how often it was interrupted."""
    return float(np.percentile([_call_ns(call) for call in calls], 25))


def _call_ns(call: Callable[[], Any]) -> float:
    start = time.perf_counter_ns()
    call()
    return float(time.perf_counter_ns() - start)

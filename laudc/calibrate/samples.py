"""What calibration measured, and the side file that lets an interrupted calibration go on."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from laudc.calibrate.pace import Pace, conditions, slowness
from laudc.errors import UserError
from laudc.files import atomic_write
from laudc.predict.interface import Conditions

SIDE_VERSION = 9


@dataclass(frozen=True)
class Sample:
    """One network timed in one form with one number of threads.

    Attributes:
        design: index of the network.
        kind, threads: see `laudc.calibrate.design.KINDS`.
        total_ns: around the whole call, mean of the middle half of the calls.
        spread: width of the middle half of the calls over the median.
        foreign: cores that other processes took meanwhile.
        paces: the machine's pace before and after, as far as nobody looked in between.
        counts: the work of each block, as `laudc.predict.work.first_row` has it: of the one image, or means.
        block_ns: mean of each block in the same calls; None for blocks of the runtime, which have no clock.
    """

    design: int
    kind: str
    threads: int
    total_ns: float
    spread: float
    foreign: float
    paces: tuple[Pace, ...]
    counts: tuple[tuple[float, ...], ...]
    block_ns: tuple[float | None, ...]

    @property
    def conditions(self) -> Conditions:
        """Those that it was measured under, on average."""
        return conditions(self.paces, self.threads)

    def slowness(self, usual: Pace) -> float:
        """See `laudc.calibrate.pace.slowness`."""
        return slowness(self.paces, usual)

    def at_clock(self, clock_ns: float) -> Sample:
        """What the same would have taken at another clock."""
        return self.scaled(clock_ns / self.conditions.clock_ns)

    def scaled(self, factor: float) -> Sample:
        """So many times as long, the call and each of its blocks."""
        blocks = tuple(None if ns is None else ns * factor for ns in self.block_ns)
        return replace(self, total_ns=self.total_ns * factor, block_ns=blocks)

    @property
    def key(self) -> tuple[int, str, int]:
        """What was measured."""
        return self.design, self.kind, self.threads

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sample:
        """From parsed JSON."""
        counts = tuple(tuple(map(float, row)) for row in data["counts"])
        paces = tuple(map(Pace.from_dict, data["paces"]))
        return cls(**{**data, "paces": paces, "counts": counts, "block_ns": tuple(data["block_ns"])})


class SideFile:
    """Samples of an unfinished calibration, one JSON line each, written as they are measured.

    The first line says what they depend on: machine, library and plan. What another plan left is never overwritten.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self.path = path
        self._facts = {"version": SIDE_VERSION, **facts}

    def load(self) -> list[Sample]:
        """What an interrupted run left, of repeated ones the last; nothing where there was none, or nothing that can be
        read.

        Raises UserError for samples that depend on something else: they took minutes, and are somebody's.
        """
        return list({sample.key: sample for sample in self.every()}.values())

    def every(self) -> list[Sample]:
        """All samples in the file; otherwise as `load`."""
        try:
            return self._samples_in(self.path.read_text(errors="replace").splitlines())
        except OSError:
            return []

    def _samples_in(self, lines: Sequence[str]) -> list[Sample]:
        found = _parsed(lines[0]) if lines else None
        if not isinstance(found, dict):
            return []
        if found != self._facts:
            # Without a sample there is nothing to lose.
            if len(lines) > 1:
                raise self._of_another_plan(found, len(lines) - 1)
            return []
        samples = []
        for line in lines[1:]:
            # The interruption may have cut the last line.
            with contextlib.suppress(ValueError, TypeError, KeyError):
                samples.append(Sample.from_dict(json.loads(line)))
        return samples

    def kept(self) -> list[Sample]:
        """As `every`, of a file that somebody named. Raises UserError also for a file of anything else, however little
        it holds."""
        try:
            lines = self.path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(
                f"cannot read the samples in {self.path}", error.strerror or str(error), "choose another file"
            ) from error
        found = _parsed(lines[0]) if lines else None
        if lines and not (isinstance(found, dict) and found.keys() >= self._facts.keys()):
            raise UserError(
                f"{self.path} holds no samples",
                "it is not a file that laudc calibrate wrote, and would be overwritten",
                "choose another file for --samples",
            )
        return self._samples_in(lines)

    def _of_another_plan(self, found: Mapping[str, Any], samples: int) -> UserError:
        differing = [name for name in {**found, **self._facts} if found.get(name) != self._facts.get(name)]
        # A digest says nothing to anybody, unless it is all there is.
        names = [name for name in differing if name != "designs"] or differing
        there, here = (
            ", ".join(f"{name} {_shown(facts.get(name))}" for name in names) for facts in (found, self._facts)
        )
        return UserError(
            f"{self.path} holds samples of another kind of calibration, which this one would overwrite",
            f"its {samples} samples were taken with {there}; this calibration has {here}",
            "go on with those by the options that they were taken with, choose another place for these (-o for the "
            f"profile, --samples for what is kept), or start afresh: rm {shlex.quote(str(self.path))}",
        )

    def start(self, samples: list[Sample]) -> None:
        """Begins the file anew with what is known already. Raises UserError when it cannot be written."""
        self._write("w", self._facts, *map(asdict, samples))

    def add(self, sample: Sample) -> None:
        """Appends one sample and makes sure that it is on the disk. Raises UserError as `start` does."""
        self._write("a", asdict(sample))

    def _write(self, mode: str, *lines: Mapping[str, Any]) -> None:
        try:
            with open(self.path, mode) as file:
                file.write("".join(json.dumps(line) + "\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"cannot keep the measurements in {self.path}",
                error.strerror or str(error),
                "choose another place for the profile with -o",
            ) from error

    def remove(self) -> None:
        """Deletes the file: the calibration is complete."""
        self.path.unlink(missing_ok=True)

    def replace(self, samples: Sequence[Sample]) -> None:
        """Puts these in place of what the file held, all at once. Raises UserError when it cannot be written."""
        lines = (self._facts, *map(asdict, samples))
        with atomic_write(self.path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _shown(fact: Any) -> str:
    """A fact in words: `resnet 21 and vit 10` for numbers by family, `1 and 2` for several of them."""
    if fact is None:
        return "not given"
    if isinstance(fact, Mapping):
        return " and ".join(f"{name} {value}" for name, value in fact.items())
    return " and ".join(map(str, fact)) if isinstance(fact, list) else str(fact)

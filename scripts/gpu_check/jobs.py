"""Cases one after another, while there is time, each written down as soon as it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from .journal import FAILED, RESULT, SKIPPED, Journal


class Record(Protocol):
    """Something that can be written down."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""


T_co = TypeVar("T_co", bound=Record, covariant=True)


@dataclass(frozen=True)
class Job(Generic[T_co]):
    """A case: its name, unique within its part, and what finds its result."""

    name: str
    run: Callable[[], T_co]


class Stopped(Exception):
    """A case ended in an error after which the process can do nothing more on the GPU."""


@dataclass(frozen=True)
class Worker:
    """Runs jobs until `deadline`, a time of `time.monotonic`; None: all."""

    journal: Journal
    deadline: float | None
    say: Callable[[str], None] = print

    def work_off(self, part: str, jobs: Iterable[Job[Record]]) -> bool:
        """Whether all of the part is done now, by this call or earlier ones. Raises Stopped."""
        for job in jobs:
            if self.journal.has(part, job.name):
                continue
            if self.deadline is not None and time.monotonic() >= self.deadline:
                return False
            self.say(f"{part}: {job.name}")
            self._run(part, job)
        return True

    def _run(self, part: str, job: Job[Record]) -> None:
        import torch

        try:
            value = job.run().to_dict()
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            self.journal.add(part, job.name, SKIPPED, "the GPU's memory is too small")
            return
        except Exception as error:  # the compiler's and library's own kinds too: one case must not cost the others
            why = _reason(error)
            self.journal.add(part, job.name, FAILED, why)
            self.say(f"{part}: {job.name} FAILED: {why}")
            if not _gpu_works():
                raise Stopped(f"{part}: {job.name}: {why}") from error
            return
        self.journal.add(part, job.name, RESULT, value)


def _reason(error: Exception) -> str:
    """One line. Errors of CUDA and of the kernels explain themselves, a KeyError does not."""
    first = next(iter(str(error).splitlines()), "")
    if not first or isinstance(error, RuntimeError):
        return first or type(error).__name__
    return f"{type(error).__name__}: {first}"


def _gpu_works() -> bool:
    """False after an error, such as a wrong address, that ends all use of the GPU by this process."""
    import torch

    if not torch.cuda.is_available():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True

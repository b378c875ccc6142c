"""One core for every thread that is timed.

Two threads of a session can end up on one core of a small machine, or wander between two, and stay there for seconds:
times are then a third longer, or twice as long, for no reason that a model could know. Where the operating system does
not let threads be placed, everything here does nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

Loaded = TypeVar("Loaded")

_TASKS = Path("/proc/self/task")
# The cores of threads that are tied to one of them for a while.
_untied: dict[int, list[int]] = {}


def load_pinned(load: Callable[[], Loaded]) -> Loaded:
    """What `load` makes; the threads that it starts are tied to one core each, the first usable one left out."""
    cores, before = _usable_cores(), _tasks()
    loaded = load()
    for task, core in zip(sorted(_tasks() - before), itertools.cycle(cores[1:])):
        with contextlib.suppress(OSError):  # it may be gone already
            os.sched_setaffinity(task, {core})
    return loaded


@contextlib.contextmanager
def caller_pinned() -> Iterator[None]:
    """Ties the calling thread to the first usable core for a while."""
    cores, thread = _usable_cores(), threading.get_native_id()
    if not cores or thread in _untied:
        yield
        return
    _untied[thread] = cores
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, _untied.pop(thread))


def _usable_cores() -> list[int]:
    """Of the calling thread, whatever it is tied to now: sessions may be made while it is."""
    if not hasattr(os, "sched_setaffinity") or not _TASKS.exists():
        return []
    return _untied.get(threading.get_native_id()) or sorted(os.sched_getaffinity(0))


def _tasks() -> set[int]:
    return {int(task) for task in os.listdir(_TASKS)} if _TASKS.exists() else set()

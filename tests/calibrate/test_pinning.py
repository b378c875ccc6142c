"""Threads stay where they are put, and the caller gets its cores back."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest

from laudc.calibrate.pinning import caller_pinned, load_pinned

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be placed here")


def test_the_caller_is_tied_to_one_core_for_a_while() -> None:
    before = os.sched_getaffinity(0)
    with caller_pinned():
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_the_caller_gets_its_cores_back_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError), caller_pinned():
        raise RuntimeError
    assert os.sched_getaffinity(0) == before


def test_tied_again_changes_nothing() -> None:
    before = os.sched_getaffinity(0)
    with caller_pinned():
        with caller_pinned():
            assert os.sched_getaffinity(0) == {min(before)}
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def _thread_until(stop: threading.Event) -> threading.Thread:
    started = threading.Event()

    def work() -> None:
        started.set()
        stop.wait()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    return thread


@pytest.mark.parametrize("around", [contextlib.nullcontext, caller_pinned])
def test_threads_that_a_session_starts_leave_the_first_core_to_the_caller(around) -> None:
    before = sorted(os.sched_getaffinity(0))
    stop = threading.Event()
    # A session made while the caller is tied to one core must not put its threads there too.
    with around():
        thread = load_pinned(lambda: _thread_until(stop))
    try:
        assert thread.native_id is not None
        cores = os.sched_getaffinity(thread.native_id)
        assert cores == ({before[1]} if len(before) > 1 else set(before))
        assert sorted(os.sched_getaffinity(0)) == before
    finally:
        stop.set()
        thread.join()

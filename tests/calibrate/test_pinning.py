"""Threads stay where they are put, and the caller gets its cores back."""

from __future__ import annotations

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


def test_threads_that_a_session_starts_leave_the_first_core_to_the_caller() -> None:
    before = sorted(os.sched_getaffinity(0))
    stop, started = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        stop.wait()

    def load() -> threading.Thread:
        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        return thread

    thread = load_pinned(load)
    try:
        assert thread.native_id is not None
        cores = os.sched_getaffinity(thread.native_id)
        assert cores == ({before[1]} if len(before) > 1 else set(before))
        assert sorted(os.sched_getaffinity(0)) == before
    finally:
        stop.set()
        thread.join()

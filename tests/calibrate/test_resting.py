"""Whether threads rest."""

from __future__ import annotations

import threading
import time

from laudc.calibrate import resting


def test_a_thread_that_waits_busily_is_seen() -> None:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        assert not resting.threads_rest()
        begin = time.perf_counter()
        resting.settle()  # somebody else's thread, perhaps: nobody waits for ever
        assert time.perf_counter() - begin < 1.0
    finally:
        stop.set()
        thread.join()
    # Other tests may have left threads that rest a moment later.
    assert any(resting.threads_rest() for _ in range(100))

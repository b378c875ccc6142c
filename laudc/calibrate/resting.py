"""Threads that wait for more work after a call keep their cores busy, and would take them from another session.

By default those of ONNX Runtime wait so for some hundredths of a second, which is an age: what a virtual machine's
cores do for each other changes faster. Sessions that are measured in turn are loaded with `SPIN_US`.
"""

from __future__ import annotations

import time

# How long threads of a measured session wait busily, in microseconds: hardly a parallel section comes later in a call.
# Runtimes that know no such option do as they like, and `threads_rest` finds out.
SPIN_US = 1000
# What they take at most, with what the runtime makes of that.
_REST_SECONDS, _LOOK_SECONDS = 0.003, 0.001
_BUSY = 0.3
# How long threads wait busily at most, whatever the runtime.
_SETTLE_SECONDS = 0.06


def threads_rest() -> bool:
    """Whether all threads of this process rest shortly after a call."""
    time.sleep(_REST_SECONDS)
    begin, busy = time.perf_counter(), time.process_time()
    time.sleep(_LOOK_SECONDS)
    return time.process_time() - busy < _BUSY * (time.perf_counter() - begin)


def settle() -> None:
    """Returns once all threads of this process rest, or should."""
    begin = time.perf_counter()
    while not threads_rest() and time.perf_counter() - begin < _SETTLE_SECONDS:
        pass

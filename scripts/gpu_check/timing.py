"""GPU time of a call: CUDA events, one CUDA graph, candidates in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from laudc.profile.records import Timing

Call = Callable[[], Any]
Clock = Callable[[Call], float]

_WARMUP = 3


def event_clock() -> Clock:
    """Microseconds of what a call puts on the current stream."""
    import torch

    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def clock(call: Call) -> float:
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) * 1000

    return clock


def as_graph(call: Call) -> Call:
    """A call that replays what `call` does as one CUDA graph."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is allocated or tuned at first use may not be captured
        for _ in range(_WARMUP):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def in_turn(candidates: Mapping[str, Call], clock: Clock, runs: int) -> dict[str, Timing]:
    """Each candidate `runs` times, in turn and in changing order, so that a drift of the clocks hits all alike."""
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for run in range(-_WARMUP, runs):
        for name in order if run % 2 else order[::-1]:
            took = clock(candidates[name])
            if run >= 0:
                samples[name].append(took)
    return {name: Timing.of(values) for name, values in samples.items()}

"""What an operator costs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cost:
    """Seconds: `latency_s` in all, of which computing, moving data and launching kernels.

    `latency_s` is the sum of the parts unless the device overlaps computing and moving. `tile` is the tile the search
    chose, where an operator has one.
    """

    latency_s: float
    compute_s: float
    memory_s: float
    launch_s: float = 0.0
    tile: dict[str, int] | None = field(default=None, compare=False)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.latency_s + other.latency_s,
            self.compute_s + other.compute_s,
            self.memory_s + other.memory_s,
            self.launch_s + other.launch_s,
            self.tile if other.tile is None else other.tile,
        )

    def __mul__(self, share: float) -> Cost:
        return Cost(
            self.latency_s * share, self.compute_s * share, self.memory_s * share, self.launch_s * share, self.tile
        )

    __rmul__ = __mul__


FREE = Cost(0.0, 0.0, 0.0)


def total(costs: list[Cost]) -> Cost:
    """The sum; of nothing, no cost."""
    result = FREE
    for cost in costs:
        result = result + cost
    return result

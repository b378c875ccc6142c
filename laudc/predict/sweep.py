"""From which activation rate on skipping does not pay: predictions over rates, per block and for the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from laudc.predict.activation import activation_at_rate
from laudc.predict.families import Record
from laudc.predict.frame import AnyFrame
from laudc.predict.interface import LatencyModel
from laudc.predict.network import PlannedBlock, batches, block_counts, places, predict_network

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_IMAGES = 32


@dataclass(frozen=True)
class BlockSweep:
    """One block over RATES: time by our kernels and by the runtime (µs).

    `break_even` is the rate from which on the runtime's dense execution is faster; 1.0: never, 0.0: always.
    """

    name: str
    sparse_us: tuple[float, ...]
    dense_us: float
    break_even: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "sparse_us": [round(value, 2) for value in self.sparse_us],
            "dense_us": round(self.dense_us, 2),
            "break_even": round(self.break_even, 3),
        }


@dataclass(frozen=True)
class Sweep:
    """A network over RATES: mean end-to-end latency with all blocks by our kernels, and with all by the runtime."""

    rates: tuple[float, ...]
    network_us: tuple[float, ...]
    dense_us: float
    blocks: tuple[BlockSweep, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "rates": list(self.rates),
            "network_us": [round(value, 2) for value in self.network_us],
            "dense_us": round(self.dense_us, 2),
            "blocks": [block.to_dict() for block in self.blocks],
        }


def sweep_rates(
    model: LatencyModel, frame: AnyFrame, records: Sequence[tuple[str, Record]], *, batch: int = 1
) -> Sweep:
    """Predicts the blocks at every rate; `records` say how conv2 runs."""
    blocks = [PlannedBlock(name, record) for name, record in records]
    network, per_block = [], []
    far = 1.0
    for rate in RATES:
        activation = activation_at_rate(records, rate, images=_IMAGES)
        predicted = predict_network(model, frame, blocks, activation, batch=batch, status="")
        network.append(predicted.latency.mean_us)
        counts = block_counts(blocks, activation)
        stands = places(blocks, counts, model.last_cache, frame.weights)
        groups = batches(activation.images, batch)
        far = stands[0].far if stands else far
        per_block.append(
            [
                float(model.batch_ns(block.record, work, place, groups).mean()) / 1e3
                for block, work, place in zip(blocks, counts, stands, strict=True)
            ]
        )
    dense = [PlannedBlock(name, record, "dense") for name, record in records]
    all_dense = predict_network(model, frame, dense, activation_at_rate(records, 1.0, images=1), batch=batch, status="")
    return Sweep(
        RATES,
        tuple(network),
        all_dense.latency.mean_us,
        tuple(
            _block_sweep(name, times, model.dense_ns(record, batch, far) / 1e3)
            for (name, record), times in zip(records, zip(*per_block, strict=True), strict=True)
        ),
    )


def _block_sweep(name: str, times: Sequence[float], dense_us: float) -> BlockSweep:
    return BlockSweep(name, tuple(times), dense_us, break_even(RATES, times, dense_us))


def break_even(rates: Sequence[float], times: Sequence[float], limit: float) -> float:
    """The last rate up to which `times` stay below `limit`, interpolated; 0 when the first does not, 1 when all do."""
    if times[0] >= limit:
        return 0.0
    for (low, before), (high, after) in zip(
        zip(rates, times, strict=True), list(zip(rates, times, strict=True))[1:], strict=False
    ):
        if after >= limit:
            return low + (high - low) * (limit - before) / (after - before)
    return 1.0

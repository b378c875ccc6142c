"""Measured against predicted: how far the latency model is off on this engine, these images and this machine."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laudc.devices.profile import MEASURED
from laudc.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from laudc.engine.manifest import Manifest
    from laudc.predict.frame import AnyFrame
    from laudc.predict.interface import Conditions
    from laudc.predict.models import TrustedModel
    from laudc.predict.network import NetworkPrediction, PlannedBlock


@dataclass(frozen=True)
class PredictedTime:
    """A predicted time beside a measured one.

    `error` is predicted over measured minus 1: above 0 the model was too slow. `inside`: the measured value lies in the
    interval `low_us` to `high_us`; None where the model has no interval.
    """

    predicted_us: float
    measured_us: float
    error: float
    low_us: float | None = None
    high_us: float | None = None
    inside: bool | None = None

    @classmethod
    def of(cls, predicted_us: float, measured_us: float, interval: tuple[float, float] | None) -> PredictedTime:
        """`interval` holds factors around the prediction."""
        error = predicted_us / measured_us - 1
        if interval is None:
            return cls(predicted_us, measured_us, error)
        low, high = predicted_us * interval[0], predicted_us * interval[1]
        return cls(predicted_us, measured_us, error, low, high, low <= measured_us <= high)


@dataclass(frozen=True)
class EngineModel:
    """The latency model of an engine's device, and the engine as it sees it; `model_sha256`: of what it was built from.
    """

    trusted: TrustedModel
    frame: AnyFrame
    blocks: tuple[PlannedBlock, ...]
    model_sha256: str | None

    @property
    def usual(self) -> Conditions | None:
        """What predictions are for; None where nobody knows, or where they are for another machine."""
        return self.trusted.model.conditions if self.trusted.status == MEASURED else None

    def predict(
        self,
        masks: Mapping[str, NDArray[np.float32]],
        found: Mapping[str, NDArray[np.int64]],
        *,
        batch: int,
        conditions: Conditions | None = None,
    ) -> NetworkPrediction:
        """For the very masks of the measured images, and what was found in them, under these conditions or the usual
        ones."""
        from laudc.predict.activation import activation_from_masks
        from laudc.predict.network import predict_network

        model = self.trusted.model if conditions is None else self.trusted.model.at(conditions)
        activation = activation_from_masks(masks, "the measured images", self.model_sha256, found)
        return predict_network(model, self.frame, self.blocks, activation, batch=batch, status=self.trusted.status)


@dataclass(frozen=True)
class MachineState:
    """How the machine was while it was measured, beside how it usually is.

    `clock`: as a multiple of the one of its calibration. `shared`: how many times as long as usual fixed work took that
    was shared among the threads, beside that of one; on average: `change`: how many times as long as at best it took at
    worst. `usual_median_us`: what would be predicted if all was as usual. `cache`: how much of the last-level cache
    neighbours left, as a share of what they usually leave.
    """

    clock: float
    shared: float
    change: float
    usual_median_us: float
    cache: float = 1.0

    @classmethod
    def of(
        cls, now: Conditions, usual: Conditions, threads: int, *, change: float, usual_us: Iterable[float]
    ) -> MachineState:
        """`usual_us`: predicted for every run if all was as usual."""
        shared = (1 / threads + now.handover) / (1 / threads + usual.handover)
        usually = statistics.median(map(float, usual_us))
        return cls(usual.clock_ns / now.clock_ns, shared, change, usually, now.left_of_cache(usual))


@dataclass(frozen=True)
class Comparison:
    """The whole network: medians, means and 95th percentiles of all runs, and the blocks' order by time.

    `status` says what the model rests on. `spearman` is the rank correlation of blocks, None for fewer than three.
    `state`: of the machine, which is what everything is predicted for; None where nobody knows.
    """

    status: str
    threads: int
    median: PredictedTime
    mean: PredictedTime
    p95: PredictedTime
    blocks: Mapping[str, PredictedTime]
    spearman: float | None
    state: MachineState | None = None

    @property
    def block_error(self) -> float | None:
        """Mean absolute error of the blocks."""
        errors = [abs(block.error) for block in self.blocks.values()]
        return sum(errors) / len(errors) if errors else None


def engine_model(
    manifest: Manifest,
    portable: onnx.ModelProto,
    frame: AnyFrame,
    *,
    threads: int,
    device: str | os.PathLike[str] | None = None,
) -> EngineModel | None:
    """What an engine can be predicted by; None where there is no model for it.

    `frame`: of the portable model. `device`: profile to predict with; None: the one of the engine's name.
    """
    from laudc.devices import load_profile
    from laudc.predict.families import family_of_network
    from laudc.predict.models import latency_model

    blocks = _planned(manifest, portable)
    family = family_of_network(block.record for block in blocks)
    if family is None:
        return None
    try:
        profile = load_profile(device or manifest.device.id)
    except UserError:
        if device is not None:
            raise
        return None
    isa = manifest.cpu.isa if manifest.cpu is not None else None
    trusted = latency_model(profile, threads=threads, isa=isa, precision=manifest.precision, family=family)
    if trusted is None:
        return None
    return EngineModel(trusted, frame, tuple(blocks), manifest.source.onnx_sha256)


def _planned(manifest: Manifest, portable: onnx.ModelProto) -> list[PlannedBlock]:
    """The blocks as the engine runs them."""
    from laudc.predict.families import record_of
    from laudc.predict.network import PlannedBlock
    from laudc.schedule.blocks import Graph
    from laudc.schedule.plan import block_records

    records = dict(block_records(Graph(portable), 64))
    planned = []
    for block in manifest.blocks:
        record = block.get("record")
        found = record_of(record) if isinstance(record, dict) else records[block["name"]]
        planned.append(PlannedBlock(block["name"], found, block["execution"]))
    return planned


def compare(
    prediction: NetworkPrediction,
    total_us: Sequence[float],
    blocks_us: Mapping[str, Sequence[float]],
    state: MachineState | None = None,
) -> Comparison:
    """Puts a prediction beside measured runs, which went through the batches in turn; `state`: see `Comparison`."""
    import numpy as np

    expected = np.resize(prediction.samples_us, len(total_us))
    latency = prediction.latency
    factors = _factors(latency.mean_us, latency.low_us, latency.high_us)
    measured = np.asarray(total_us)
    blocks = {}
    for block in prediction.blocks:
        times = blocks_us.get(block.name)
        if times:
            one = block.latency
            around = _factors(one.mean_us, one.low_us, one.high_us)
            blocks[block.name] = PredictedTime.of(one.mean_us, float(np.mean(_middle(times))), around)
    return Comparison(
        prediction.status,
        prediction.threads,
        PredictedTime.of(float(np.median(expected)), float(np.median(measured)), factors),
        PredictedTime.of(float(expected.mean()), float(measured.mean()), factors),
        PredictedTime.of(float(np.percentile(expected, 95)), float(np.percentile(measured, 95)), factors),
        blocks,
        _spearman(blocks),
        state,
    )


def _middle(times: Sequence[float]) -> Sequence[float]:
    """Without the slowest twentieth: a preempted call is no property of a block."""
    ordered = sorted(times)
    return ordered[: max(1, len(ordered) - len(ordered) // 20)]


def _factors(middle: float, low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None or not middle else (low / middle, high / middle)


def _spearman(blocks: Mapping[str, PredictedTime]) -> float | None:
    import numpy as np

    if len(blocks) < 3:
        return None
    predicted = _ranks(np.asarray([block.predicted_us for block in blocks.values()]))
    measured = _ranks(np.asarray([block.measured_us for block in blocks.values()]))
    if predicted.std() == 0 or measured.std() == 0:
        return None
    return float(np.corrcoef(predicted, measured)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of theirs."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return (last - (counts - 1) / 2)[inverse]

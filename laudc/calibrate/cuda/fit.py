"""From times of blocks and networks on a GPU to the coefficients of its latency model."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from laudc.calibrate.fit import _block_intervals, _interval, error_summary
from laudc.ops.scheduled import BlockRecord
from laudc.predict.counts import Counts
from laudc.predict.gpu.gemm import Gpu, Parts, Problem, gemm_parts, moved_ns
from laudc.predict.gpu.load import GpuFit
from laudc.predict.gpu.model import GpuModel
from laudc.predict.interface import Place

Array = np.ndarray

_FOLDS = 8
_ANY_US = 1e9
_ROUNDS = 60
_HUBER = 0.1  # errors beyond 10 % pull no harder than those of 10 %
_PRIOR = 0.002  # keeps what the samples do not determine near what the profile says
_STEP = 1e-4
_FIRST_REPLAY_US = 1.0


@dataclass(frozen=True)
class TimedBlock:
    """A block of ours, what its masks left (as `Sample.counts`), and the time of its graph in ns."""

    record: BlockRecord
    counts: tuple[float, ...]
    ns: float


@dataclass(frozen=True)
class TimedNetwork:
    """Blocks measured one by one and, unless `total_ns` is None, in one graph. Networks of the same `group` are left
    out together when errors are judged."""

    group: Hashable
    precision: str
    batch: int
    blocks: tuple[TimedBlock, ...]
    total_ns: float | None = None


class _Recorder(GpuModel):
    """A model that notes what launches consist of in place of adding up their times."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__(replace(gpu, launch_ns=0.0))
        self.parts: list[Parts] = []

    def _problem_ns(self, problem: Problem) -> Array:
        self.parts.append(gemm_parts(problem, self.gpu))
        return np.zeros(problem.rows.shape)

    def _moved_ns(self, elements: Array) -> Array:
        size = np.reshape(elements * self.gpu.element, -1)[:1]
        nothing = np.zeros((1, 1))
        self.parts.append(Parts(nothing, nothing, moved_ns(size, self.gpu)))
        return np.zeros(np.shape(elements))


@dataclass(frozen=True)
class _Rows:
    """Launches of all blocks: arithmetic and filling by tile (launches, tiles) and traffic (launches,), times how often
    they happen; the block that each belongs to. Per block its launches, the time that nothing scales, what was measured
    and the network. Per network what was measured, NaN where nothing was."""

    compute: Array
    fill: Array
    memory: Array
    owner: Array
    launches: Array
    fixed: Array
    block_ns: Array
    network: Array
    total_ns: Array

    def predict(self, values: Array) -> tuple[Array, Array]:
        """Times of blocks and networks; `values` as `_VALUES`."""
        launch, compute, memory, replay = values
        core = np.maximum((self.compute / compute + self.fill).min(axis=1), self.memory / memory)
        blocks = self.fixed + self.launches * launch
        np.add.at(blocks, self.owner, core)
        networks = np.full(len(self.total_ns), replay)
        np.add.at(networks, self.network, blocks)
        return blocks + replay, networks


def _rows(gpu: Gpu, networks: Sequence[TimedNetwork]) -> _Rows:
    launches: list[tuple[Array, Array, float, int]] = []
    blocks: list[tuple[int, float, float, int]] = []
    for number, network in enumerate(networks):
        for block in network.blocks:
            recorder = _Recorder(gpu)
            counts = Counts(*(np.asarray([value]) for value in block.counts))
            together = np.zeros((1, network.batch), int)
            fixed = float(recorder.batch_ns(block.record, counts, Place(), together)[0])
            # With a channel mask one launch computes every image by itself.
            times = network.batch if block.record.channel_groups else 1
            for part in recorder.parts:
                compute, fill = (np.zeros(4) + value[:, 0] for value in (part.compute_ns, part.fill_ns))
                launches.append((times * compute, times * fill, times * float(part.memory_ns[0]), len(blocks)))
            blocks.append((len(recorder.parts), fixed, block.ns, number))
    compute, fill, memory, owner = map(np.asarray, zip(*launches, strict=True))
    count, fixed_ns, measured, of_network = map(np.asarray, zip(*blocks, strict=True))
    totals = [np.nan if network.total_ns is None else network.total_ns for network in networks]
    return _Rows(
        compute, fill, memory, owner, count.astype(float), fixed_ns.astype(float), measured, of_network,
        np.asarray(totals, float),
    )  # fmt: skip


def fit_precision(gpu: Gpu, precision: str, networks: Sequence[TimedNetwork]) -> tuple[GpuFit, dict[str, Any]]:
    """Coefficients for a data type, with what they achieve on networks left out in turn. `gpu`: as its profile has it
    without a calibration."""
    own = [network for network in networks if network.precision == precision]
    groups = list(dict.fromkeys(network.group for network in own))
    found: list[tuple[Array, ...]] = []
    for fold in range(min(_FOLDS, len(groups))):
        out = set(groups[fold::_FOLDS])
        values = _solve(gpu, _rows(gpu, [network for network in own if network.group not in out]))
        unseen = _rows(gpu, [network for network in own if network.group in out])
        found.append((*unseen.predict(values), unseen.block_ns, unseen.total_ns))
    blocks, totals, block_ns, total_ns = (np.concatenate(values) for values in zip(*found, strict=True))
    known = ~np.isnan(total_ns)
    launch, compute, memory, replay = _solve(gpu, _rows(gpu, own))
    fit = GpuFit(
        precision,
        float(launch) / 1e3,
        float(compute),
        float(memory),
        float(replay) / 1e3,
        tuple(_block_intervals(blocks, block_ns)),
        _interval(totals[known], total_ns[known], _ANY_US) if known.sum() >= _FOLDS else None,
    )
    errors = {"blocks": error_summary(blocks, block_ns)}
    if known.any():
        errors["networks"] = error_summary(totals[known], total_ns[known])
    return fit, errors


def _solve(gpu: Gpu, rows: _Rows) -> Array:
    """Launch (ns), efficiencies of arithmetic and memory, and replay (ns) with the least relative error: Levenberg and
    Marquardt's method on logarithms, with Huber's weights."""
    start = np.log([max(gpu.launch_ns, 1.0), gpu.compute_efficiency, gpu.memory_efficiency, _FIRST_REPLAY_US * 1e3])
    at, damping = start, 1e-2
    error = _errors(rows, at)
    for _ in range(_ROUNDS):
        slopes = np.stack([(_errors(rows, at + one) - error) / _STEP for one in np.eye(len(at)) * _STEP], axis=1)
        weight = _HUBER / np.maximum(np.abs(error), _HUBER)
        prior = len(error) * _PRIOR**2
        normal = slopes.T @ (slopes * weight[:, None]) + prior * np.eye(len(at))
        downhill = slopes.T @ (weight * error) + prior * (at - start)
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -downhill)
        tried = _errors(rows, at + step)
        if _loss(tried, at + step - start) < _loss(error, at - start):
            at, error, damping = at + step, tried, damping / 3
            if np.abs(step).max() < 1e-6:
                break
        else:
            damping *= 4
    return np.asarray(np.exp(at))


def _errors(rows: _Rows, logarithms: Array) -> Array:
    blocks, networks = rows.predict(np.exp(logarithms))
    known = ~np.isnan(rows.total_ns)
    return np.concatenate([np.log(blocks / rows.block_ns), np.log(networks[known] / rows.total_ns[known])])


def _loss(error: Array, away: Array) -> float:
    size = np.abs(error)
    huber = np.where(size <= _HUBER, size**2 / 2, _HUBER * (size - _HUBER / 2))
    return float(huber.sum() + len(error) * _PRIOR**2 / 2 * (away**2).sum())


def fit_gpu(models: Iterable[tuple[str, Gpu]], networks: Sequence[TimedNetwork]) -> list[tuple[GpuFit, dict[str, Any]]]:
    """Fits of every data type that was measured."""
    measured = {network.precision for network in networks}
    return [fit_precision(gpu, precision, networks) for precision, gpu in models if precision in measured]

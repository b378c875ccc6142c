"""From times of blocks and networks on a GPU to the coefficients of its latency model."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from laudc.calibrate.fit import error_summary
from laudc.calibrate.intervals import block_intervals, conformal_interval
from laudc.predict.families import Record, family_of
from laudc.predict.gpu.launch import Gpu
from laudc.predict.gpu.load import FamilyIntervals, GpuFit
from laudc.predict.gpu.model import GpuModel
from laudc.predict.interface import Place
from laudc.predict.traffic import far_share, touched_floats
from laudc.predict.work import work_of_row

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

    record: Record
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


@dataclass(frozen=True)
class _Rows:
    """Launches of all blocks: parts of their time as `Launch` has them, whether they multiply on the GEMMs' units, and
    the block that each belongs to. Per block its launches, what was measured, family and network. Per network what was
    measured, NaN where nothing was, and its family."""

    compute: Array
    fill: Array
    wait: Array
    memory: Array
    on_gemm_units: Array
    owner: Array
    launches: Array
    block_ns: Array
    block_family: Array
    network: Array
    total_ns: Array
    family: Array

    def predict(self, values: Array) -> tuple[Array, Array]:
        """Times of blocks and networks; `values`: launch, efficiencies of GEMMs, of other arithmetic and of memory,
        factor of latencies, and replay."""
        launch, gemm, fp32, memory, latency, replay = values
        compute = self.compute / np.where(self.on_gemm_units, gemm, fp32)
        busy = self.fill * latency + np.maximum(compute, self.wait * latency)
        core = np.maximum(busy, self.memory / memory)
        blocks = self.launches * launch
        np.add.at(blocks, self.owner, core)
        networks = np.full(len(self.total_ns), replay)
        np.add.at(networks, self.network, blocks)
        return blocks + replay, networks

    def of(self, networks: Array) -> _Rows:
        """The rows of some networks, (networks,) bool."""
        blocks = networks[self.network]
        launches = blocks[self.owner]
        numbers, places = np.cumsum(networks) - 1, np.cumsum(blocks) - 1
        parts = (self.compute, self.fill, self.wait, self.memory, self.on_gemm_units, places[self.owner])
        per_block = (self.launches, self.block_ns, self.block_family, numbers[self.network])
        return _Rows(
            *(values[launches] for values in parts),
            *(values[blocks] for values in per_block),
            *(values[networks] for values in (self.total_ns, self.family)),
        )


def _rows(gpu: Gpu, networks: Sequence[TimedNetwork]) -> _Rows:
    model = GpuModel(gpu)
    launches: list[tuple[float, float, float, float, bool, int]] = []
    blocks: list[tuple[int, float, str, int]] = []
    for number, network in enumerate(networks):
        together = np.zeros((1, network.batch), int)
        works = [work_of_row(block.record, block.counts) for block in network.blocks]
        touched = (touched_floats(b.record, work)[0] for b, work in zip(network.blocks, works, strict=True))
        place = Place(far=far_share(float(sum(touched)), model.last_cache))
        for block, work in zip(network.blocks, works, strict=True):
            # Every block is a run of its own.
            found = [
                *model.launches(block.record, work, place, together),
                *model.run_launches(block.record, network.batch),
            ]
            for one in found:
                parts = (float(part[0]) for part in (one.compute_ns, one.fill_ns, one.wait_ns, one.memory_ns))
                launches.append((*parts, one.on_gemm_units, len(blocks)))  # type: ignore[arg-type]
            blocks.append((len(found), block.ns, family_of(block.record), number))
    compute, fill, wait, memory, on_gemm_units, owner = map(np.asarray, zip(*launches, strict=True))
    count, measured, families, of_network = map(np.asarray, zip(*blocks, strict=True))
    totals = [np.nan if network.total_ns is None else network.total_ns for network in networks]
    return _Rows(
        compute, fill, wait, memory, on_gemm_units, owner, count.astype(float), measured, families, of_network,
        np.asarray(totals, float), np.asarray([family_of(network.blocks[0].record) for network in networks]),
    )  # fmt: skip


def fit_precision(gpu: Gpu, precision: str, networks: Sequence[TimedNetwork]) -> tuple[GpuFit, dict[str, Any]]:
    """Coefficients for a data type, with what they achieve on networks left out in turn. `gpu`: as its profile has it
    without a calibration."""
    own = [network for network in networks if network.precision == precision]
    rows = _rows(gpu, own)
    unseen = _held_out(gpu, rows, [network.group for network in own])
    errors = unseen.errors()
    launch, gemm, fp32, memory, latency, replay = _solve(gpu, rows)
    families = list(dict.fromkeys(map(str, unseen.block_family)))
    fit = GpuFit(
        precision,
        launch_us=float(launch) / 1e3,
        compute_efficiency=float(gemm),
        memory_efficiency=float(memory),
        replay_us=float(replay) / 1e3,
        fp32_efficiency=float(fp32),
        latency_factor=float(latency),
        families={family: unseen.of(family).intervals() for family in families},
    )
    if len(families) > 1:
        errors["families"] = {family: unseen.of(family).errors() for family in families}
    return fit, errors


@dataclass(frozen=True)
class _HeldOut:
    """Blocks and networks, predicted by fits that have not seen them."""

    blocks: Array
    block_ns: Array
    block_family: Array
    networks: Array
    total_ns: Array
    family: Array

    def of(self, family: str) -> _HeldOut:
        """Those of one family."""
        blocks, networks = self.block_family == family, self.family == family
        return _HeldOut(
            self.blocks[blocks], self.block_ns[blocks], self.block_family[blocks],
            self.networks[networks], self.total_ns[networks], self.family[networks],
        )  # fmt: skip

    def intervals(self) -> FamilyIntervals:
        """What measurements lie in."""
        known = ~np.isnan(self.total_ns)
        enough = known.sum() >= _FOLDS
        network = conformal_interval(self.networks[known], self.total_ns[known], _ANY_US) if enough else None
        return FamilyIntervals(tuple(block_intervals(self.blocks, self.block_ns)), network)

    def errors(self) -> dict[str, Any]:
        """How far predictions are off."""
        errors = {"blocks": error_summary(self.blocks, self.block_ns)}
        known = ~np.isnan(self.total_ns)
        if known.any():
            errors["networks"] = error_summary(self.networks[known], self.total_ns[known])
        return errors


def _held_out(gpu: Gpu, rows: _Rows, group_of: Sequence[Hashable]) -> _HeldOut:
    groups = list(dict.fromkeys(group_of))
    found: list[tuple[Array, ...]] = []
    for fold in range(min(_FOLDS, len(groups))):
        left_out = set(groups[fold::_FOLDS])
        out = np.asarray([group in left_out for group in group_of])
        values, unseen = _solve(gpu, rows.of(~out)), rows.of(out)
        blocks, networks = unseen.predict(values)
        found.append((blocks, unseen.block_ns, unseen.block_family, networks, unseen.total_ns, unseen.family))
    return _HeldOut(*(np.concatenate(values) for values in zip(*found, strict=True)))


def _solve(gpu: Gpu, rows: _Rows) -> Array:
    """What `_Rows.predict` takes, with the least relative error: Levenberg and Marquardt's method on logarithms, with
    Huber's weights."""
    factors = (gpu.compute_efficiency, gpu.fp32_efficiency, gpu.memory_efficiency, gpu.latency_factor)
    start = np.log([max(gpu.launch_ns, 1.0), *factors, _FIRST_REPLAY_US * 1e3])
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

"""The measurement itself."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from laudc.devices.profile import MEASURED
from laudc.engine.manifest import PORTABLE, Manifest
from laudc.errors import UserError
from laudc.profile.activation import Activation, Masks, count_activation, trace_masks
from laudc.profile.compare import Comparison, EngineModel, MachineState, compare, engine_model
from laudc.profile.conditions import Watch, watched_conditions
from laudc.profile.inputs import Inputs, collect_inputs
from laudc.profile.records import BlockProfile, DenseComparison, LayerProfile, ProfileResult, Spread, Timing

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from laudc.engine.engine import Engine
    from laudc.predict.frame import AnyFrame
    from laudc.predict.network import NetworkPrediction
    from laudc.profile.dense import DenseNetwork

Progress = Callable[[str, float], None]

# Calls of the dense network with the runtime's profiler on; a pass of its own, so that it disturbs no timing.
_PROFILED_RUNS = 10


@dataclass
class _Samples:
    """Raw measurements of one candidate, in the order of the runs. Blocks: one list of times per run."""

    total_us: list[float] = field(default_factory=list)
    blocks_us: list[list[float]] = field(default_factory=list)


def profile(
    engine: str | os.PathLike[str],
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    *,
    runs: int = 50,
    warmup: int = 5,
    batch: int = 1,
    threads: int | None = None,
    against_dense: bool = False,
    device: str | os.PathLike[str] | None = None,
    save_activation: str | os.PathLike[str] | None = None,
    progress: Progress = lambda step, share: None,
) -> ProfileResult:
    """Measures an engine on images; every image's real masks decide what is computed.

    Args:
        engine: path of a bundle.
        images: image files and folders (at most 64 are used); None generates some (the result says so).
        runs: measured calls; they go through the images in turn.
        warmup: calls before that are not measured.
        batch: images per call.
        threads: threads of the runtime; None is one per usable core.
        against_dense: also measure the dense network in onnxruntime, call by call in turn with the engine,
            each when the other's threads rest, so that these do not slow it.
        device: profile whose latency model is compared with what is measured; None: that of the engine's device.
        save_activation: file for the masks of the images, for `--activation` of other verbs.
        progress: called with the current step and its finished share.

    Raises:
        UserError: engine, images or numbers are unusable, or the bundle lacks the portable model that
            `against_dense` needs.
    """
    from laudc.calibrate.resting import SPIN_US
    from laudc.devices import threads_per_call
    from laudc.engine.engine import load_engine
    from laudc.ops.macs import network_shape
    from laudc.predict.frame import frame_of_model

    if runs < 1 or warmup < 0:
        raise UserError(
            f"cannot measure {runs} runs after {warmup} to warm up",
            "at least one run is needed",
            "use --runs 50",
        )
    if isinstance(images, (str, os.PathLike)):
        images = [images]
    threads = threads_per_call(threads)
    with load_engine(engine, threads=threads, spin_us=SPIN_US) as loaded:
        portable = _portable(loaded, needed=against_dense)
        inputs = collect_inputs(loaded.manifest, images, batch)
        progress("activation", 0.0)
        masks = trace_masks(loaded, inputs.batches)
        activation = count_activation(masks, network_shape(portable) if portable is not None else None)
        frame = frame_of_model(portable) if portable is not None else None
        found = _found(portable, frame, inputs.batches)
        if save_activation is not None:
            _save_activation(save_activation, masks, found, inputs, loaded.manifest)
        dense = _dense_network(portable, threads) if against_dense and portable is not None else None
        in_turn = dense is not None and threads > 1
        model = None
        if portable is not None and frame is not None:
            model = engine_model(loaded.manifest, portable, frame, threads=threads, device=device)
        told = model is not None and model.usual is not None
        with watched_conditions(threads) if told else contextlib.nullcontext(Watch()) as watch:
            own, other = _measure(loaded, dense, inputs.batches, runs, warmup, in_turn, watch, progress)
        names = [block["name"] for block in loaded.manifest.blocks]
        dense_blocks = _dense_blocks(dense, inputs.batches, names, progress)
        comparison = None
        if model is not None:
            predict = functools.partial(model.predict, masks, found, batch=batch)
            comparison = _compared(model, predict, own.total_us, _by_name(loaded, own), watch)
        blocks = _block_profiles(loaded, own, activation, dense_blocks, comparison)
        settings = {
            "runs": runs,
            "warmup": warmup,
            "batch": batch,
            "threads": threads,
            "interleaved": dense is not None,
            "threads_rest": in_turn,
        }
        objects = _objects(frame, found)
        return _result(loaded, own, other, blocks, activation, inputs, settings, comparison, objects)


def _portable(engine: Engine, *, needed: bool) -> onnx.ModelProto | None:
    from laudc.engine.build import parse_onnx

    bundle = engine.bundle
    if PORTABLE in bundle:
        return parse_onnx(bundle.read(PORTABLE), bundle.path)
    if needed:
        raise UserError(
            f"{bundle.path} cannot be compared with the dense network",
            "it does not carry its portable model (it was built with --no-portable)",
            "build it again without --no-portable",
        )
    return None


def _found(
    portable: onnx.ModelProto | None, frame: AnyFrame | None, batches: list[NDArray[np.float32]]
) -> dict[str, NDArray[np.int64]]:
    """What a detector finds in the images: its engine does not say how many boxes it went through on the way."""
    from laudc.engine.trace import trace_found

    if portable is None or importlib.util.find_spec("onnxruntime") is None:
        return {}
    return trace_found(portable, batches, frame)


def _objects(frame: AnyFrame | None, found: dict[str, NDArray[np.int64]]) -> dict[str, Spread] | None:
    from laudc.predict.frame import selecting_of
    from laudc.predict.selection import regions_and_objects

    if frame is None or not found:
        return None
    counted = regions_and_objects(selecting_of(frame), found)
    return {name: Spread.of(values.tolist()) for name, values in counted.items()}


def _save_activation(
    path: str | os.PathLike[str],
    masks: Masks,
    found: dict[str, NDArray[np.int64]],
    inputs: Inputs,
    manifest: Manifest,
) -> None:
    from laudc.files import atomic_write
    from laudc.predict.activation import activation_from_masks

    # The last batch is filled up with images that were there already.
    count = inputs.source["count"]
    once = {name: mask[:count] for name, mask in masks.items()}
    counts = {name: values[:count] for name, values in found.items()}
    kind = "generated images" if inputs.source["kind"] == "generated" else "images"
    source = f"{inputs.source['count']} {kind}"
    with atomic_write(path) as file:
        file.write(activation_from_masks(once, source, manifest.source.onnx_sha256, counts).to_json())


def _dense_network(portable: onnx.ModelProto, threads: int) -> DenseNetwork:
    from laudc.calibrate.resting import SPIN_US
    from laudc.profile.dense import DenseNetwork

    return DenseNetwork(portable, threads, spin_us=SPIN_US)


def _measure(
    engine: Engine,
    dense: DenseNetwork | None,
    batches: list[NDArray[np.float32]],
    runs: int,
    warmup: int,
    in_turn: bool,
    watch: Watch,
    progress: Progress,
) -> tuple[_Samples, _Samples]:
    """Times of the engine and of the dense network, taken in turn and in changing order; `watch` looks in between."""
    own, other = _Samples(), _Samples()

    def time_engine(images: NDArray[np.float32], keep: bool) -> None:
        on_gpu = engine.gpu_time_us(images)
        total = _timed(engine, images, in_turn) if on_gpu is None else on_gpu
        times = engine.block_times_ns
        if keep:
            own.total_us.append(total)
            own.blocks_us.append([] if times is None else [ns / 1000 for ns in times.tolist()])
            watch.between(functools.partial(engine, images), total * 1000)

    def time_dense(images: NDArray[np.float32], keep: bool) -> None:
        total = _timed(dense, images, in_turn)
        if keep:
            other.total_us.append(total)

    candidates = [time_engine] if dense is None else [time_engine, time_dense]
    for run in range(-warmup, runs):
        progress("measuring", max(0, run) / runs)
        images = batches[run % len(batches)]
        for candidate in candidates if run % 2 else candidates[::-1]:
            candidate(images, run >= 0)
    return own, other


def _timed(call: Any, images: NDArray[np.float32], in_turn: bool) -> float:
    """Wall time of one call, microseconds. Where two pools work in turn, threads of the other one rest first, and as
    these do so too by then, an untimed call wakes them."""
    from laudc.calibrate.resting import settle

    if in_turn:
        settle()
        call(images)
    start = time.perf_counter_ns()
    call(images)
    return (time.perf_counter_ns() - start) / 1000


def _dense_blocks(
    dense: DenseNetwork | None, batches: list[NDArray[np.float32]], names: list[str], progress: Progress
) -> dict[str, Timing]:
    if dense is None:
        return {}
    progress("profiling dense blocks", 0.0)
    passes = [batches[run % len(batches)] for run in range(_PROFILED_RUNS + 2)]
    calls = dense.block_times_us(passes, names, warmup=2)
    times = {name: [call[name] for call in calls if name in call] for name in names}
    return {name: Timing.of(values) for name, values in times.items() if values}


def _compared(
    model: EngineModel,
    predict: Callable[..., NetworkPrediction],
    total_us: list[float],
    blocks_us: dict[str, tuple[float, ...]],
    watch: Watch,
) -> Comparison:
    """With what is predicted for the conditions that the machine was under on average, where they are known; measured
    times are brought to these, call by call."""
    now, evened, usual = watch.conditions, watch.evened, model.usual
    if now is None or evened is None or usual is None:
        return compare(predict(), total_us, blocks_us)
    factors = evened.tolist()
    total_us = _times(total_us, factors)
    blocks_us = {name: tuple(_times(times, factors)) for name, times in blocks_us.items()}
    state = MachineState.of(
        now, usual, model.trusted.model.threads, change=watch.change, usual_us=predict().samples_us
    )
    return compare(predict(conditions=now), total_us, blocks_us, state)


def _times(values: Iterable[float], factors: Iterable[float]) -> list[float]:
    return [value * factor for value, factor in zip(values, factors, strict=True)]


def _by_name(engine: Engine, own: _Samples) -> dict[str, tuple[float, ...]]:
    """The times of each block in all runs."""
    return dict(zip(engine.block_names, zip(*own.blocks_us, strict=True), strict=False))


def _block_profiles(
    engine: Engine,
    own: _Samples,
    activation: Activation,
    dense: dict[str, Timing],
    comparison: Comparison | None,
) -> tuple[BlockProfile, ...]:
    columns = _by_name(engine, own)
    profiles = []
    for planned in engine.manifest.blocks:
        name = planned["name"]
        active = activation.blocks.get(name)
        share = active.share if active else None
        profiles.append(
            BlockProfile(
                name=name,
                execution=planned["execution"],
                reason=planned["reason"],
                timing=Timing.of(columns[name]) if name in columns else None,
                spatial_rate=active.spatial_rate if active else None,
                channel_rate=active.channel_rate if active else None,
                token_rate=active.token_rate if active else None,
                head_rate=active.head_rate if active else None,
                layer_rate=active.layer_rate if active else None,
                activation=share,
                ideal_speedup=1 / share if share else None,
                dense=dense.get(name),
                predicted=comparison.blocks.get(name) if comparison is not None else None,
            )
        )
    return tuple(profiles)


def _result(
    engine: Engine,
    own: _Samples,
    other: _Samples,
    blocks: tuple[BlockProfile, ...],
    activation: Activation,
    inputs: Inputs,
    settings: dict[str, Any],
    comparison: Comparison | None,
    objects: dict[str, Spread] | None,
) -> ProfileResult:
    from laudc.engine.build import usable_backend
    from laudc.profile.environment import describe_environment

    share = activation.share
    ideal = 1 / share if share else None
    total = Timing.of(own.total_us)
    residuals = [whole - sum(parts) for whole, parts in zip(own.total_us, own.blocks_us, strict=True)]
    return ProfileResult(
        engine=_engine_facts(engine.manifest),
        images=inputs.source,
        settings=settings,
        environment=describe_environment(usable_backend(engine.manifest.backend.name)),
        end_to_end=total,
        blocks=blocks,
        residual_us=statistics.median(residuals),
        activation=share,
        ideal_speedup=ideal,
        dense=_compare(own, other, ideal) if other.total_us else None,
        notes=tuple(_notes(inputs, total, engine.manifest, ideal, comparison)),
        comparison=comparison,
        layers=tuple(
            LayerProfile(name, Timing.of(times)) for name, times in engine.layer_times_us(_PROFILED_RUNS).items()
        ),
        found=objects,
    )


def _engine_facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "arch": manifest.arch,
        "config": manifest.config,
        "input": list(manifest.input.shape),
        "precision": manifest.precision,
        "device": manifest.device.id,
        "isa": manifest.cpu.isa if manifest.cpu else None,
        "backend": f"{manifest.backend.name} {manifest.backend.version}",
        "source_onnx_sha256": manifest.source.onnx_sha256,
        "checkpoint_sha256": manifest.source.checkpoint_sha256,
    }


def _compare(own: _Samples, other: _Samples, ideal: float | None) -> DenseComparison:
    timing = Timing.of(other.total_us)
    speedup = timing.median_us / statistics.median(own.total_us)
    ratios = [dense / mine for dense, mine in zip(other.total_us, own.total_us, strict=True)]
    return DenseComparison(timing, speedup, statistics.median(ratios), speedup / ideal if ideal else None)


def _notes(
    inputs: Inputs, total: Timing, manifest: Manifest, ideal: float | None, comparison: Comparison | None
) -> Iterable[str]:
    """What a reader must know to judge the numbers."""
    if inputs.source["kind"] == "generated":
        yield "The images were generated, so the activation rates say nothing about real ones (use --images)."
    if total.cv > 0.10:
        yield f"The runs vary by {total.cv:.0%} (standard deviation over mean): something else was running."
    if ideal is None:
        yield "FLOP-ideal unknown: the engine was built with --no-portable."
    if any(block["execution"] == "dense" for block in manifest.blocks):
        yield "Blocks scheduled dense are computed by the runtime and have no time of their own here."
    if comparison is None:
        yield "Nothing is predicted: there is no latency model for this network on these kernels (docs/predictor.md)."
    elif comparison.threads and comparison.status != MEASURED:
        yield f"Predictions are {comparison.status}: laudc calibrate measures this machine."

"""Times made-up networks on a device.

What a device must offer is small (`Measurer`); the CPU is measured through ONNX Runtime with our operators, just as
engines run, so that weights come from memory and operators have the neighbours they have in a network.
"""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from laudc.calibrate.design import KINDS, Design
from laudc.calibrate.load import LoadMeter
from laudc.calibrate.pace import SLOW, Pace, PaceMeter, PaceWatch
from laudc.calibrate.pinning import caller_pinned, load_pinned
from laudc.calibrate.resting import SPIN_US, settle
from laudc.calibrate.samples import Sample
from laudc.calibrate.synthetic import Drawn, cuts_for, synthetic_image, synthetic_network
from laudc.calibrate.synthetic_vit import VitDrawn, synthetic_vit, vit_masks
from laudc.engine.weights import as_engines_hold
from laudc.predict.blueprint import Blueprint
from laudc.predict.vit_blueprint import VitBlueprint
from laudc.predict.work import count_work, first_row

if TYPE_CHECKING:
    import onnx

    from laudc.backends.interface import Backend, Runner

Masks = dict[str, dict[str, np.ndarray]]
Result = TypeVar("Result")

_WARMUP = 3
_LEAST_CALLS, _MOST_CALLS = 9, 150
_LEAST_SECONDS = 0.5
# Measured again, so many times, when others took more of the machine than this.
_DISTURBED = 0.08
# Slow phases last some seconds: each attempt waits longer than the one before.
_PAUSE_SECONDS = 0.5
_ATTEMPTS = 2


# Some hundred microseconds of work that fits into a core's own caches, most of it multiplications: what others leave of
# the shared cache must not show.
_PACE = Design(
    1_000_000,
    Blueprint(layers=(1, 1, 1, 1), modes=("channel",) * 4, channel=(8,) * 4, input_size=160, width_mult=0.25),
    Drawn((1.0,) * 4, (1.0,) * 4),
    (False,) * 4,
    (False,) * 4,
)


class Measurer(Protocol):
    """A device that can be measured."""

    kinds: tuple[str, ...]

    def measure(self, design: Design, kind: str, threads: int) -> Sample:
        """Times one network in one form."""

    def facts(self) -> dict[str, Any]:
        """What the numbers depend on: machine, runtime, library, kernels, clocks."""


@dataclass(frozen=True)
class _Built:
    index: int
    portable: Any
    image: np.ndarray
    masks: Masks


class CpuMeasurer:
    """This machine's CPU. A network is built once and timed in every form and with every number of threads."""

    kinds: tuple[str, ...] = KINDS

    def __init__(self) -> None:
        from laudc.engine.build import usable_backend

        self._backend: Any = usable_backend("onnxruntime")
        self._panel = int(self._backend.native_abi()["panel"])
        self._built: _Built | None = None
        self._paces: dict[int, PaceMeter] = {}
        self._pace_calls: dict[int, Callable[[], Any]] = {}

    def pace(self, threads: int) -> PaceMeter:
        """Tells how fast the machine is with so many threads, by a small network of its own."""
        if threads not in self._paces:
            call = self._pace_call
            together = call(threads) if threads > 1 else None
            self._paces[threads] = PaceMeter(call(1), together, self.facts()["last_cache"])
        return self._paces[threads]

    def _pace_call(self, threads: int) -> Callable[[], Any]:
        """The same one for all meters: what one thread does alone is part of each."""
        if threads not in self._pace_calls:
            serialized, image = self._pace_network
            runner = load_measured(self._backend, serialized, threads)
            self._pace_calls[threads] = lambda: runner.run(image)
        return self._pace_calls[threads]

    @functools.cached_property
    def _pace_network(self) -> tuple[bytes, np.ndarray]:
        """The network that tells the pace, scheduled, and its image."""
        built = self._build(_PACE)
        return self._lower(_PACE, built.portable, "sparse").SerializeToString(), built.image

    def facts(self) -> dict[str, Any]:
        """See `Measurer.facts`."""
        from laudc.devices import detect_host

        host, abi = detect_host(), self._backend.native_abi()
        return {
            "cpu": host.cpu,
            "arch": host.arch,
            "family": host.family,
            "isa": str(abi["active"]),
            "cores": host.cores,
            "usable_threads": host.usable_threads,
            "last_cache": max(host.caches.values(), default=0),
            "second_cache": host.caches.get("L2", 0),
            "onnxruntime": self._backend.version(),
            "library": str(abi["version"]),
        }

    def measure(self, design: Design, kind: str, threads: int) -> Sample:
        """See `Measurer.measure`."""
        return self.sample(design, kind, threads, self.timed(design, kind, threads))

    def timed(self, design: Design, kind: str, threads: int) -> Timed:
        """Calls of one network in one form."""
        built = self._built_of(design)
        scheduled = self._lower(design, built.portable, kind)
        weights, serialized = as_engines_hold(scheduled), scheduled.SerializeToString()
        runner = load_measured(self._backend, serialized, threads, weights)
        return time_undisturbed(lambda: runner.run(built.image), lambda: runner.block_times_ns, self.pace(threads))

    def sample(self, design: Design, kind: str, threads: int, timed: Timed) -> Sample:
        """What a calibration keeps of these calls."""
        total, blocks = timed.usual()
        times = iter(blocks)
        low, middle, high = np.percentile(timed.totals, (25, 50, 75))
        return Sample(
            design.index,
            kind,
            threads,
            total,
            float((high - low) / middle),
            timed.foreign,
            timed.paces,
            tuple(self._counts(design, kind, self._built_of(design))),
            tuple(float(next(times)) if way == "sparse" else None for way in design.executions(kind)),
        )

    def _built_of(self, design: Design) -> _Built:
        if self._built is None or self._built.index != design.index:
            self._built = self._build(design)
        return self._built

    def _counts(self, design: Design, kind: str, built: _Built) -> list[tuple[float, ...]]:
        records = design.records(self._panel, kind)
        return [first_row(count_work(record, built.masks[name], 1)) for name, record in records]

    def _build(self, design: Design) -> _Built:
        image = synthetic_image(design.blueprint.input_size, design.index)
        make = self._transformer if isinstance(design.blueprint, VitBlueprint) else self._convolutional
        portable, masks = make(design, image)
        return _Built(design.index, portable, image, masks)

    def _transformer(self, design: Design, image: np.ndarray) -> tuple[onnx.ModelProto, Masks]:
        blueprint, drawn = design.blueprint, design.drawn
        assert isinstance(blueprint, VitBlueprint) and isinstance(drawn, VitDrawn)
        masks = vit_masks(blueprint, drawn, design.index)
        return synthetic_vit(blueprint, masks, design.index), masks

    def _convolutional(self, design: Design, image: np.ndarray) -> tuple[onnx.ModelProto, Masks]:
        blueprint, drawn = design.blueprint, design.drawn
        assert not isinstance(blueprint, VitBlueprint) and isinstance(drawn, Drawn)
        portable = synthetic_network(blueprint, drawn, design.index, tail=design.tail)
        margins = self._trace(design, portable, image)
        if any(record.mask_groups for _, record in blueprint.blocks()):
            cuts = cuts_for(margins, blueprint, drawn)
            portable = synthetic_network(blueprint, drawn, design.index, cuts, tail=design.tail)
            margins = self._trace(design, portable, image)
        masks = {
            name: {kind.removesuffix("_margin"): values >= 0 for kind, values in kinds.items()}
            for name, kinds in margins.items()
        }
        return portable, masks

    def _trace(self, design: Design, portable: onnx.ModelProto, image: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        runner = self._backend.load(self._lower(design, portable, "sparse").SerializeToString(), threads=1)
        margins: dict[str, dict[str, np.ndarray]] = runner.trace(image)[1]
        return margins

    def _lower(self, design: Design, portable: onnx.ModelProto, kind: str) -> onnx.ModelProto:
        from laudc.schedule import BlockPlan, Plan, lower

        planned = zip(design.records(self._panel, kind), design.executions(kind), strict=True)
        blocks = tuple(
            BlockPlan(name, execution, "calibration", record if execution == "sparse" else None)
            for (name, record), execution in planned
        )
        return lower(portable, Plan("auto", self._panel, blocks))


@dataclass(frozen=True)
class Timed:
    """Wall times of calls (calls,) and of their blocks (calls, blocks) in ns, evened out (`PaceWatch.evened`); what
    other processes took meanwhile, in cores; and the machine's pace before and after."""

    totals: np.ndarray
    blocks: np.ndarray
    foreign: float
    paces: tuple[Pace, Pace]

    def usual(self) -> tuple[float, np.ndarray]:
        """Wall time of a usual call and of its blocks (blocks,), ns: means over the middle half of the calls.
        Medians of each block would not add up: in nearly every call some block is slow, but seldom the same."""
        low, high = np.percentile(self.totals, (25, 75))
        middle = (self.totals >= low) & (self.totals <= high)
        return float(self.totals[middle].mean()), self.blocks[middle].mean(axis=0)


def load_measured(
    backend: Backend, model: bytes, threads: int, weights: Mapping[str, np.ndarray] | None = None
) -> Runner:
    """A session that can be measured in turn with others: each of its threads is tied to one core and rests soon after
    a call."""
    return load_pinned(lambda: backend.load(model, threads=threads, weights=weights, spin_us=SPIN_US))


def time_undisturbed(call: Callable[[], Any], block_times: Callable[[], Any], pace: PaceMeter) -> Timed:
    """`time_calls`, again when the machine was busy or slow; the attempt at the best pace counts. Threads of sessions
    that `call` and `pace` run should have been loaded with `load_measured`."""
    with caller_pinned():
        return _best_attempt(call, block_times, pace)


def _best_attempt(call: Callable[[], Any], block_times: Callable[[], Any], pace: PaceMeter) -> Timed:
    attempts: list[tuple[tuple[bool, float], Timed]] = []

    def timed(watch: PaceWatch) -> tuple[np.ndarray, np.ndarray, float]:
        meter = LoadMeter()
        totals, blocks = time_calls(call, block_times, watch)
        return totals, blocks, meter.foreign()

    for attempt in range(_ATTEMPTS):
        time.sleep(_PAUSE_SECONDS * attempt)
        paces, (totals, blocks, foreign) = between_looks(pace, timed)
        rank = (foreign > _DISTURBED, pace.weigh(paces))
        attempts.append((rank, Timed(totals, blocks, foreign, paces)))
        if rank <= (False, SLOW):
            break
    return min(attempts, key=operator.itemgetter(0))[1]


def between_looks(pace: PaceMeter, timed: Callable[[PaceWatch], Result]) -> tuple[tuple[Pace, Pace], Result]:
    """The pace before and after `timed`, which is handed what looks at it meanwhile, and its result; all threads rest
    when either begins."""
    settle()
    before = pace.now()
    settle()
    watch = pace.meanwhile()
    found = timed(watch)
    settle()
    return (watch.told(before), watch.told(pace.now())), found


def time_calls(
    call: Callable[[], Any], block_times: Callable[[], Any], watch: PaceWatch
) -> tuple[np.ndarray, np.ndarray]:
    """Wall time of each call (calls,), and what `block_times` gives after each (calls, blocks), in ns; `watch` looks in
    between, and evens them out."""
    for _ in range(_WARMUP):
        call()
    totals: list[int] = []
    blocks: list[Any] = []
    begin = time.perf_counter()
    while len(totals) < _LEAST_CALLS or (time.perf_counter() - begin < _LEAST_SECONDS and len(totals) < _MOST_CALLS):
        start = time.perf_counter_ns()
        call()
        totals.append(time.perf_counter_ns() - start)
        times = block_times()
        blocks.append(np.array([] if times is None else times, float))
        watch.between(call, totals[-1])
    evened = watch.evened()
    return evened * np.asarray(totals, float), evened[:, None] * np.stack(blocks)

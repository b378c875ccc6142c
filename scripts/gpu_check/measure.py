"""Blocks and whole networks, sparse against the best dense alternative in the same run."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch.nn import functional

from laudc.ops.scheduled import encode_blocks
from laudc.predict.decisions import mean_counts
from laudc.profile.records import Timing

from .cases import Case, block_macs, network_records
from .jobs import Job
from .native import Library, Run
from .reference import DenseBlock, exact_margins, masked_block
from .timing import Call, Clock, as_graph, in_turn
from .weights import Block, make_block

# Sparse precision: that of the dense network that it has to beat.
PAIRS = {"fp16": torch.float16, "tf32": torch.float32}


@dataclass(frozen=True)
class Bench:
    """How everything is measured. `make`, `graph` and `device` are replaced where there is no GPU."""

    library: Library
    clock: Clock
    runs: int
    compiled: bool
    make: Callable[..., Any] = Run
    graph: Callable[[Call], Call] = as_graph
    device: str = "cuda"


@dataclass(frozen=True)
class Row:
    """One comparison: times of all candidates, the best dense one, and the speed-up over it."""

    name: str
    mode: str
    stage: int
    granularity: int
    rate: float
    batch: int
    precision: str
    macs: int
    times: dict[str, Timing]
    # Of a single block: its record, and conv1, conv2, tiles, conv3, channels as its masks left them (means over images;
    # None for a layer that is measured kept and skipped).
    record: list[int] | None = None
    counts: tuple[float, ...] | None = None

    @property
    def sparse_us(self) -> float:
        """Median of the kernels'."""
        return self.times["laudc"].median_us

    @property
    def best_dense(self) -> str:
        """The fastest dense candidate."""
        dense = {name: timing.median_us for name, timing in self.times.items() if name != "laudc"}
        return min(dense, key=dense.__getitem__)

    @property
    def speedup(self) -> float:
        """Best dense over sparse, medians."""
        return self.times[self.best_dense].median_us / self.sparse_us

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the derived figures."""
        return {**asdict(self), "best_dense": self.best_dense, "speedup": self.speedup}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        """What `to_dict` made."""
        own = {field.name: data[field.name] for field in fields(cls)}
        own["times"] = {name: Timing(**timing) for name, timing in own["times"].items()}
        own["counts"] = None if own["counts"] is None else tuple(own["counts"])
        return cls(**own)


def dense_candidates(
    module: torch.nn.Module, x: torch.Tensor, *, compiled: bool, graph: Callable[[Call], Call]
) -> dict[str, Call]:
    """The dense network as users would run it: channels-last cuDNN with and without a CUDA graph, and compiled."""
    module = module.to(x.device, x.dtype).to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)

    def eager() -> Any:
        with torch.no_grad():
            return module(x)

    candidates = {"cudnn": eager, "cudnn graph": graph(eager)}
    if compiled:
        try:
            candidates["compiled graph"] = graph(_compiled(module, x))
        except Exception as error:  # Triton may be missing, or not know this GPU: one candidate less, and that is said
            warnings.warn(f"torch.compile left out: {error}", stacklevel=2)
    return candidates


def _compiled(module: torch.nn.Module, x: torch.Tensor) -> Call:
    torch._dynamo.reset()  # it gives up, silently, on code that was compiled for several modules before
    fast = torch.compile(module, mode="max-autotune-no-cudagraphs")

    def run() -> Any:
        with torch.no_grad():
            return fast(x)

    return run


def block_jobs(bench: Bench, cases: Iterable[Case]) -> Iterator[Job[Row]]:
    """Every case in every precision. Those of a stage and batch come together: they share the dense block."""
    for _, group in itertools.groupby(cases, key=lambda case: (case.batch, case.stage)):
        same = list(group)
        for precision, dtype in PAIRS.items():
            setup = functools.cache(functools.partial(_block_setup, bench, same[0], dtype))
            for case in same:
                yield Job(f"{case.name} {precision}", functools.partial(_measure_block, bench, case, precision, setup))


@dataclass(frozen=True)
class BlockSetup:
    """What the cases of one stage, batch and type share: the input and the dense candidates."""

    x: torch.Tensor
    dense: dict[str, Call]


def _block_setup(bench: Bench, case: Case, dtype: torch.dtype) -> BlockSetup:
    record = case.record
    torch.manual_seed(0)
    x = torch.randn(case.batch, record.cin, record.hin, record.win).abs_().to(bench.device, dtype)
    block = make_block(record, 1.0, x)
    return BlockSetup(x, dense_candidates(DenseBlock(block), x, compiled=bench.compiled, graph=bench.graph))


def _measure_block(bench: Bench, case: Case, precision: str, setup: Callable[[], BlockSetup]) -> Row:
    record, x, dense = case.record, setup().x, setup().dense
    # One image is computed or skipped as a whole: both are measured, and weighed with the rate afterwards.
    single = case.mode == "layer" and case.batch == 1
    blocks = [make_block(record, case.rate, x, keep_layer=keep) for keep in ((True, False) if single else (True,))]
    sparse = [_make(bench, [block], precision, case.batch) for block in blocks]
    given = x.permute(0, 2, 3, 1).contiguous()
    calls = {f"laudc{index or ''}": bench.graph(lambda run=run: run(given)) for index, run in enumerate(sparse)}
    try:
        times = in_turn({**calls, **dense}, bench.clock, bench.runs)
        counts = None if single else mean_counts(record, sparse[0].margins[:, : record.margins].cpu().numpy())
    finally:
        for run in sparse:
            run.close()
    if single:
        times["laudc"] = _mixed(times["laudc"], times.pop("laudc1"), case.rate)
    facts = (case.name, case.mode, case.stage + 1, case.granularity, case.rate, case.batch, precision)
    macs = block_macs(record) * case.batch
    return Row(*facts, macs=macs, times=times, record=encode_blocks([record]), counts=counts)


def _make(bench: Bench, blocks: Sequence[Block], precision: str, batch: int) -> Any:
    records, packed = [block.record for block in blocks], [block.packed for block in blocks]
    return bench.make(bench.library, records, packed, precision=precision, batch=batch, device=bench.device)


def _mixed(kept: Timing, skipped: Timing, rate: float) -> Timing:
    """What an image costs on average when the block is computed for `rate` of them."""
    values = {
        name: rate * getattr(kept, name) + (1 - rate) * getattr(skipped, name)
        for name in ("median_us", "p95_us", "mean_us", "min_us", "max_us", "cv")
    }
    return Timing(**values, runs=min(kept.runs, skipped.runs))


class DenseNetwork(torch.nn.Module):
    """ResNet-101 with the same blocks, stem and head."""

    def __init__(self, stem: torch.nn.Module, blocks: Sequence[Block], head: torch.nn.Module) -> None:
        super().__init__()
        self.stem, self.head = stem, head
        self.blocks = torch.nn.Sequential(*map(DenseBlock, blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Stem(torch.nn.Module):
    """Convolution 7x7 with stride 2, ReLU, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 64, 7, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(functional.relu(self.conv(x)), 3, 2, 1)


def network_jobs(
    bench: Bench, modes: Sequence[str], rates: Sequence[float], batches: Sequence[int]
) -> Iterator[Job[Row]]:
    """The whole of ResNet-101: one run of 33 blocks between the framework's stem and head, in one CUDA graph."""
    for batch in batches:
        for precision, dtype in PAIRS.items():
            setup = functools.cache(functools.partial(_network_setup, bench, batch, dtype))
            for rate, mode in itertools.product(rates, modes):
                run = functools.partial(_measure_network, bench, mode, rate, batch, precision, setup)
                yield Job(f"resnet101 {mode} {rate:.0%} batch {batch} {precision}", run)


@dataclass(frozen=True)
class NetworkSetup:
    """What the networks of one batch and type share: images, the framework's part, and the dense candidates."""

    images: torch.Tensor
    stem: torch.nn.Module
    head: torch.nn.Module
    dense: dict[str, Call]


def _network_setup(bench: Bench, batch: int, dtype: torch.dtype) -> NetworkSetup:
    torch.manual_seed(0)
    images = torch.randn(batch, 3, 224, 224).to(bench.device, dtype).to(memory_format=torch.channels_last)
    stem = Stem().to(bench.device, dtype).to(memory_format=torch.channels_last)
    head = torch.nn.Linear(2048, 1000).to(bench.device, dtype)
    network = DenseNetwork(stem, network_blocks("layer", 1.0, stem, images[:1]), head)
    dense = dense_candidates(network, images, compiled=bench.compiled, graph=bench.graph)
    return NetworkSetup(images, stem, head, dense)


def _measure_network(
    bench: Bench, mode: str, rate: float, batch: int, precision: str, setup: Callable[[], NetworkSetup]
) -> Row:
    shared = setup()
    blocks = network_blocks(mode, rate, shared.stem, shared.images)
    run = _make(bench, blocks, precision, batch)

    def sparse() -> Any:
        with torch.no_grad():
            x = shared.stem(shared.images).permute(0, 2, 3, 1).contiguous()
            return shared.head(run(x).mean((1, 2)))

    try:
        times = in_turn({"laudc": bench.graph(sparse), **shared.dense}, bench.clock, bench.runs)
        kept = _kept_share(run, blocks)
    finally:
        run.close()
    macs = sum(block_macs(b.record) for b in blocks) * batch
    return Row(f"resnet101 {mode} {kept:.0%}", mode, 0, 0, rate, batch, precision, macs, times)


def network_blocks(mode: str, rate: float, stem: torch.nn.Module, images: torch.Tensor) -> list[Block]:
    """33 blocks whose maskers keep `rate` of what really reaches them: each is made for what the one before gives."""
    with torch.no_grad():
        x = stem(images).float()
        blocks: list[Block] = []
        for index, record in enumerate(network_records(mode)):
            # Spread evenly over the network where one image is kept or skipped as a whole.
            keep = int((index + 1) * rate + 1e-9) > int(index * rate + 1e-9)
            block = make_block(record, rate, x, seed=index, keep_layer=keep)
            blocks.append(block)
            x = masked_block(block, x, exact_margins(block, x))
    return blocks


def _kept_share(run: Any, blocks: Sequence[Block]) -> float:
    """What the kernels report to have kept, over all decisions of the network."""
    counts = run.counts.float().cpu().numpy()
    possible = sum(b.record.spatial_cells + b.record.channel_groups for b in blocks) * len(counts)
    return float(counts[:, :, 2:].sum()) / possible


@dataclass(frozen=True)
class LaunchCost:
    """Microseconds per tiny kernel in a stream and in a graph, and of a read-back by the host."""

    stream_us: float
    graph_us: float
    sync_us: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def launch_cost(bench: Bench) -> LaunchCost:
    """Measures it."""
    value = torch.zeros(1, device=bench.device)
    count = 200

    def chain() -> None:
        for _ in range(count):
            value.add_(1)

    calls: dict[str, Call] = {"stream": chain, "graph": bench.graph(chain), "sync": value.item}
    times = {name: timing.median_us for name, timing in in_turn(calls, bench.clock, 20).items()}
    return LaunchCost(times["stream"] / count, times["graph"] / count, times["sync"])

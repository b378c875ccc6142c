"""Blocks and whole networks, sparse against the best dense alternative in the same run."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from laudc.ops.scheduled import encode_blocks
from laudc.predict.decisions import mean_counts
from laudc.profile.records import Timing

from .cases import Case, block_macs, network_records
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
    say: Callable[[str], None] = print


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
        fast = torch.compile(module, mode="max-autotune-no-cudagraphs")

        def run_compiled() -> Any:
            with torch.no_grad():
                return fast(x)

        try:
            candidates["compiled graph"] = graph(run_compiled)
        except Exception as error:  # Triton may be missing, or not know this GPU: one candidate less, and that is said
            warnings.warn(f"torch.compile left out: {error}", stacklevel=2)
    return candidates


def measure_blocks(bench: Bench, cases: Iterable[Case]) -> list[Row]:
    """Every case in every precision."""
    rows = []
    for case in cases:
        for precision, dtype in PAIRS.items():
            bench.say(f"{case.name} {precision}")
            rows.append(_measure_block(bench, case, precision, dtype))
    return rows


def _measure_block(bench: Bench, case: Case, precision: str, dtype: torch.dtype) -> Row:
    record = case.record
    random = np.random.default_rng(0)
    pixels = np.abs(random.standard_normal((case.batch, record.cin, record.hin, record.win), dtype=np.float32))
    x = torch.from_numpy(pixels).to(bench.device, dtype)
    # One image is computed or skipped as a whole: both are measured, and weighed with the rate afterwards.
    single = case.mode == "layer" and case.batch == 1
    blocks = [make_block(record, case.rate, pixels, keep_layer=keep) for keep in ((True, False) if single else (True,))]
    sparse = [_make(bench, [block], precision, case.batch) for block in blocks]
    given = x.permute(0, 2, 3, 1).contiguous()
    calls = {f"laudc{index or ''}": bench.graph(lambda run=run: run(given)) for index, run in enumerate(sparse)}
    try:
        dense = dense_candidates(DenseBlock(blocks[0]), x, compiled=bench.compiled, graph=bench.graph)
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


def measure_networks(bench: Bench, modes: Iterable[str], rates: Iterable[float], batches: Iterable[int]) -> list[Row]:
    """The whole of ResNet-101: one run of 33 blocks between the framework's stem and head, in one CUDA graph."""
    rows = []
    for batch, mode, rate in itertools.product(batches, modes, rates):
        for precision, dtype in PAIRS.items():
            bench.say(f"resnet101 {mode} {rate:.0%} batch {batch} {precision}")
            rows.append(_measure_network(bench, mode, rate, batch, precision, dtype))
    return rows


def _measure_network(bench: Bench, mode: str, rate: float, batch: int, precision: str, dtype: torch.dtype) -> Row:
    torch.manual_seed(0)
    images = torch.randn(batch, 3, 224, 224).to(bench.device, dtype).to(memory_format=torch.channels_last)
    stem = Stem().to(bench.device, dtype).to(memory_format=torch.channels_last)
    head = torch.nn.Linear(2048, 1000).to(bench.device, dtype)
    blocks = network_blocks(mode, rate, stem, images)
    run = _make(bench, blocks, precision, batch)

    def sparse() -> Any:
        with torch.no_grad():
            x = stem(images).permute(0, 2, 3, 1).contiguous()
            return head(run(x).mean((1, 2)))

    try:
        network = DenseNetwork(stem, blocks, head)
        dense = dense_candidates(network, images, compiled=bench.compiled, graph=bench.graph)
        times = in_turn({"laudc": bench.graph(sparse), **dense}, bench.clock, bench.runs)
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
            block = make_block(record, rate, x.cpu().numpy(), seed=index, keep_layer=keep)
            blocks.append(block)
            x = masked_block(block, x, exact_margins(block, x))
    return blocks


def _kept_share(run: Any, blocks: Sequence[Block]) -> float:
    """What the kernels report to have kept, over all decisions of the network."""
    counts = run.counts.float().cpu().numpy()
    possible = sum(b.record.spatial_cells + b.record.channel_groups for b in blocks) * len(counts)
    return float(counts[:, :, 2:].sum()) / possible


def launch_overhead(bench: Bench) -> dict[str, float]:
    """Microseconds per tiny kernel in a stream and in a graph, and of a read-back by the host."""
    value = torch.zeros(1, device=bench.device)
    count = 200

    def chain() -> None:
        for _ in range(count):
            value.add_(1)

    calls: dict[str, Call] = {"stream_us": chain, "graph_us": bench.graph(chain), "sync_us": value.item}
    times = in_turn(calls, bench.clock, 20)
    per = {"stream_us": count, "graph_us": count, "sync_us": 1}
    return {name: timing.median_us / per[name] for name, timing in times.items()}

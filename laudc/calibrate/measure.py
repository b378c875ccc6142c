"""Times made-up networks on a device.

What a device must offer is small (`Measurer`); the CPU is measured through ONNX Runtime with our operators, just as
engines run, so that weights come from memory and operators have the neighbours they have in a network.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from laudc.calibrate.samples import BlockSample, Design, NetworkSample
from laudc.calibrate.synthetic import synthetic_image, synthetic_network, thresholds_for
from laudc.predict.counts import count_block

if TYPE_CHECKING:
    import onnx

    from laudc.ops.scheduled import BlockRecord

_WARMUP = 3
_CALLS = 15
# Small networks are over in no time: repeat them until the medians settle.
_LEAST_SECONDS = 0.25
_MOST_CALLS = 200


class Measurer(Protocol):
    """A device that can be measured."""

    def measure(self, index: int, design: Design, threads: int) -> list[NetworkSample]:
        """Times one network, with our kernels and dense."""

    def versions(self) -> dict[str, str]:
        """What the numbers depend on: runtime, library, kernels."""


class CpuMeasurer:
    """This machine's CPU. Networks are built once and timed with every number of threads."""

    def __init__(self) -> None:
        from laudc.engine.build import usable_backend

        self._backend: Any = usable_backend("onnxruntime")
        self._panel = int(self._backend.native_abi()["panel"])
        self._built: tuple[int, onnx.ModelProto, onnx.ModelProto] | None = None

    def versions(self) -> dict[str, str]:
        """See `Measurer.versions`."""
        abi = self._backend.native_abi()
        return {"onnxruntime": self._backend.version(), "library": str(abi["version"]), "isa": str(abi["active"])}

    def measure(self, index: int, design: Design, threads: int) -> list[NetworkSample]:
        """See `Measurer.measure`."""
        if self._built is None or self._built[0] != index:
            self._built = (index, *self._build(design))
        _, portable, scheduled = self._built
        image = synthetic_image(design.blueprint.input_size, design.seed)
        return [
            self._sparse(index, design, scheduled, image, threads),
            self._dense(index, design, portable, image, threads),
        ]

    def _build(self, design: Design) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        image = synthetic_image(design.blueprint.input_size, design.seed)
        portable = synthetic_network(design.blueprint, design.drawn, design.seed)
        if any(record.mask_groups for _, record in design.blueprint.blocks()):
            runner = self._backend.load(self._lower(design, portable).SerializeToString(), threads=1)
            margins = runner.trace(image)[1]
            thresholds = thresholds_for(margins, design.blueprint, design.drawn)
            portable = synthetic_network(design.blueprint, design.drawn, design.seed, thresholds)
        return portable, self._lower(design, portable)

    def _lower(self, design: Design, portable: onnx.ModelProto) -> onnx.ModelProto:
        from laudc.schedule import BlockPlan, Plan, lower

        blocks = tuple(
            BlockPlan(name, "sparse", "calibration", record) for name, record in design.records(self._panel)
        )
        return lower(portable, Plan("sparse", self._panel, blocks))

    def _sparse(
        self, index: int, design: Design, scheduled: onnx.ModelProto, image: np.ndarray, threads: int
    ) -> NetworkSample:
        runner = self._backend.load(scheduled.SerializeToString(), threads=threads)
        masks = {
            name: {kind: values >= 0 for kind, values in kinds.items()} for name, kinds in runner.trace(image)[1].items()
        }
        totals, blocks = time_calls(lambda: runner.run(image), lambda: runner.block_times_ns)
        samples = tuple(
            _block_sample(name, record, masks[name], float(ns))
            for (name, record), ns in zip(design.records(self._panel), np.median(blocks, axis=0), strict=True)
        )
        return _network_sample(index, design, "sparse", threads, totals, samples)

    def _dense(
        self, index: int, design: Design, portable: onnx.ModelProto, image: np.ndarray, threads: int
    ) -> NetworkSample:
        """The portable model as the runtime runs it: every block's body, masks multiplied in."""
        from laudc.export import with_masks_as_outputs  # noqa: F401  (kept for symmetry of imports)

        session = self._backend.load_plain(portable, threads)
        name = portable.graph.input[0].name
        totals, _ = time_calls(lambda: session.run(None, {name: image}), lambda: ())
        return _network_sample(index, design, "dense", threads, totals, ())


def time_calls(call: Any, block_times: Any) -> tuple[np.ndarray, np.ndarray]:
    """Wall time of each call in ns, and what `block_times` gives after each."""
    for _ in range(_WARMUP):
        call()
    totals: list[int] = []
    blocks: list[Any] = []
    begin = time.perf_counter()
    while len(totals) < _CALLS or (time.perf_counter() - begin < _LEAST_SECONDS and len(totals) < _MOST_CALLS):
        start = time.perf_counter_ns()
        call()
        totals.append(time.perf_counter_ns() - start)
        blocks.append(np.array(block_times()))
    return np.asarray(totals, float), np.asarray(blocks, float)


def _block_sample(name: str, record: BlockRecord, masks: dict[str, np.ndarray], ns: float) -> BlockSample:
    counts = count_block(record, masks.get("spatial_margin"), masks.get("channel_margin"), 1)
    values = (counts.conv1, counts.conv2, counts.tiles, counts.conv3, counts.channels)
    return BlockSample(name, {key: int(value) for key, value in asdict(record).items()}, tuple(float(v[0]) for v in values), ns)


def _network_sample(
    index: int, design: Design, kind: str, threads: int, totals: np.ndarray, blocks: tuple[BlockSample, ...]
) -> NetworkSample:
    low, middle, high = np.percentile(totals, (25, 50, 75))
    return NetworkSample(
        index,
        kind,
        threads,
        design.blueprint.input_size,
        design.blueprint.stem_channels,
        design.blueprint.num_classes,
        float(middle),
        float((high - low) / middle),
        blocks,
    )

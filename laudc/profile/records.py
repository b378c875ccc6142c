"""What a measurement says, as plain records. All times are in microseconds, all rates between 0 and 1."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from laudc.errors import UserError
from laudc.profile.compare import Comparison, PredictedTime

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Timing:
    """Statistics of one repeated measurement; `cv` is standard deviation over mean."""

    median_us: float
    p95_us: float
    mean_us: float
    min_us: float
    max_us: float
    cv: float
    runs: int

    @classmethod
    def of(cls, samples_us: Sequence[float]) -> Timing:
        """From single measurements, at least one."""
        ordered = sorted(map(float, samples_us))
        mean = statistics.fmean(ordered)
        spread = statistics.stdev(ordered) if len(ordered) > 1 else 0.0
        return cls(
            median_us=statistics.median(ordered),
            # Nearest rank: a value that was really measured.
            p95_us=ordered[math.ceil(0.95 * len(ordered)) - 1],
            mean_us=mean,
            min_us=ordered[0],
            max_us=ordered[-1],
            cv=spread / mean if mean else 0.0,
            runs=len(ordered),
        )


@dataclass(frozen=True)
class BlockProfile:
    """One block over all measured runs.

    Rates are kept shares of patches (spatial), channels, tokens, heads, and sublayers (layer).
    `activation` is active MACs over dense MACs, `ideal_speedup` the reverse; rates of masks that the block
    does not have are None. `timing` is None for a block that the runtime computes itself, among its other
    operators. `dense` comes from a separate profiled pass of the dense network. `predicted`: by the device's latency
    model, for the masks of these images.
    """

    name: str
    execution: str
    reason: str
    timing: Timing | None
    spatial_rate: float | None
    channel_rate: float | None
    activation: float | None
    ideal_speedup: float | None
    dense: Timing | None
    token_rate: float | None = None
    head_rate: float | None = None
    layer_rate: float | None = None
    predicted: PredictedTime | None = None

    def rate(self, kind: str) -> float | None:
        """Kept share of a kind of decision, None if the block has no such mask."""
        found: float | None = getattr(self, f"{kind}_rate")
        return found

    @property
    def speedup(self) -> float | None:
        """Measured speed-up over the dense block."""
        return self.dense.median_us / self.timing.median_us if self.dense and self.timing else None


@dataclass(frozen=True)
class LayerProfile:
    """One layer of a compiled engine as its runtime names it, from a pass of its own with the runtime's profiler on.

    A run of blocks is one layer, named "first-last".
    """

    name: str
    timing: Timing


@dataclass(frozen=True)
class Spread:
    """A count over all images: mean, median, 95th percentile, and the most."""

    mean: float
    p50: float
    p95: float
    most: int

    @classmethod
    def of(cls, counts: Sequence[int]) -> Spread:
        """Of one count per image, at least one."""
        ordered = sorted(counts)
        p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
        return cls(statistics.fmean(ordered), float(statistics.median(ordered)), float(p95), ordered[-1])


@dataclass(frozen=True)
class DenseComparison:
    """The same network dense in onnxruntime, interleaved call by call with the engine.

    `speedup` is dense over engine (medians), `paired_speedup` the median of the ratios of neighbouring calls,
    which a slow drift of the machine cannot move. `share_of_ideal` is `speedup` over the FLOP-ideal.
    """

    timing: Timing
    speedup: float
    paired_speedup: float
    share_of_ideal: float | None


@dataclass(frozen=True)
class ProfileResult:
    """A whole measurement.

    `residual_us` is what end to end has beyond the timed blocks: stem, head, runtime, blocks left to it
    (median over the runs). `layers` is what runtimes that compile whole graphs can say instead of times per block.
    `found`: how many proposals and detections a detector with a second stage has in an image, None without one.
    `images` says what was run on; rates of generated images say nothing about real
    ones.
    """

    engine: dict[str, Any]
    images: dict[str, Any]
    settings: dict[str, Any]
    environment: dict[str, Any]
    end_to_end: Timing
    blocks: tuple[BlockProfile, ...]
    residual_us: float
    activation: float | None
    ideal_speedup: float | None
    dense: DenseComparison | None
    notes: tuple[str, ...]
    comparison: Comparison | None = None
    layers: tuple[LayerProfile, ...] = ()
    found: Mapping[str, Spread] | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of decisions to show: those of the network's family."""
        families = (("spatial", "channel"), ("token", "head", "layer"))
        kept = (
            kinds
            for kinds in families
            if any(block.rate(kind) is not None for block in self.blocks for kind in kinds)
        )
        return next(kept, families[0])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProfileResult:
        """From what `to_dict` gave, read back from JSON.

        Raises UserError when it is something else: it may come from another machine and another version.
        """
        from laudc.engine.records import FieldError, decode

        fields = {key: value for key, value in data.items() if key not in ("schema_version", "kind")}
        blocks = fields.get("blocks")
        if isinstance(blocks, list):
            fields["blocks"] = [{k: v for k, v in block.items() if k != "speedup"} for block in blocks]
        try:
            return decode(cls, fields)
        except FieldError as error:
            raise UserError(
                "this is not the result of a profile", str(error), "use the same version of laudc everywhere"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the derived figures."""
        data = asdict(self)
        for plain, block in zip(data["blocks"], self.blocks, strict=True):
            plain["speedup"] = block.speedup
        return {"schema_version": SCHEMA_VERSION, "kind": "profile", **data}

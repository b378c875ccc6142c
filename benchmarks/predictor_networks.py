"""The networks that the latency model is tested on: published architectures in full depth, unseen by a calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from laudc import backends
from laudc.calibrate.synthetic import Drawn, cuts_for, synthetic_image, synthetic_network
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.blueprint import ARCHITECTURES, Blueprint
from laudc.schedule import BlockPlan, Plan, lower

MODES: dict[str, dict[str, Any]] = {
    "spatial-4421": {"modes": ("spatial",) * 4, "spatial": (4, 4, 2, 1)},
    "spatial-8471": {"modes": ("spatial",) * 4, "spatial": (8, 4, 7, 1)},
    "spatial-1111": {"modes": ("spatial",) * 4, "spatial": (1, 1, 1, 1)},
    "channel-G1": {"modes": ("channel",) * 4, "channel": (1,) * 4},
    "channel-G2": {"modes": ("channel",) * 4, "channel": (2,) * 4},
    "layer": {"modes": ("layer",) * 4},
    "both-4421-G2": {"modes": ("both",) * 4, "spatial": (4, 4, 2, 1), "channel": (2,) * 4},
}
RATES = (0.25, 0.45, 0.65, 0.85)
# (architecture, width, side of the image); other sizes than those of a calibration.
SHAPES = (
    ("uni_resnet50", 1.0, 224),
    ("uni_resnet50", 1.0, 176),
    ("uni_resnet50", 1.0, 112),
    ("uni_resnet50", 0.5, 208),
    ("uni_resnet50", 0.625, 144),
    ("uni_resnet101", 1.0, 224),
    ("uni_resnet101", 0.5, 176),
    ("uni_resnet101", 0.75, 128),
)


@dataclass(frozen=True)
class Variant:
    """One network: which, with which masks, keeping how much."""

    arch: str
    width: float
    size: int
    mode: str
    rate: float

    @property
    def blueprint(self) -> Blueprint:
        """The network's description."""
        return Blueprint(
            layers=ARCHITECTURES[self.arch], input_size=self.size, width_mult=self.width, **MODES[self.mode]
        )

    @property
    def seed(self) -> int:
        """Of weights and images."""
        return 1000 + self.size + 7 * list(MODES).index(self.mode) + round(100 * self.rate)


def all_variants() -> list[Variant]:
    """Every shape in every mode at every rate."""
    return [Variant(*shape, mode, rate) for shape in SHAPES for mode in MODES for rate in RATES]


class Built:
    """A variant as a portable model whose masks keep its rate over `images` images."""

    def __init__(self, variant: Variant, images: int = 1) -> None:
        self.variant = variant
        self._backend: Any = backends.get("onnxruntime")
        self.panel = int(self._backend.native_abi()["panel"])
        blueprint = variant.blueprint
        self.records = [(name, _by_rule(record)) for name, record in blueprint.blocks(self.panel)]
        self.images = synthetic_image(variant.size, variant.seed, images)
        random = np.random.default_rng(variant.seed)
        on = random.permutation(len(self.records)) < round(variant.rate * len(self.records))
        once = variant.mode == "layer" and images == 1
        spatial = tuple(on.astype(float)) if once else (variant.rate,) * len(on)
        drawn = Drawn(spatial, (variant.rate,) * len(on))
        by_image = images > 1
        model = synthetic_network(blueprint, drawn, variant.seed, by_image=by_image)
        margins = self.trace_of(model)
        cuts = cuts_for(margins, blueprint, drawn)
        self.model = synthetic_network(blueprint, drawn, variant.seed, cuts, by_image=by_image)
        self.masks = {
            f"{name}.mask_{kind.removesuffix('_margin')}": (values >= 0)
            for name, kinds in self.trace_of(self.model).items()
            for kind, values in kinds.items()
        }

    def trace_of(self, model: Any) -> dict[str, dict[str, np.ndarray]]:
        """Margins of all images."""
        runner = self._backend.load(lower(model, self.plan(self.records)).SerializeToString(), threads=2)
        parts = [runner.trace(image[None])[1] for image in self.images]
        return {
            name: {kind: np.concatenate([part[name][kind] for part in parts]) for kind in parts[0][name]}
            for name in parts[0]
        }

    def plan(self, records: list[tuple[str, BlockRecord]]) -> Plan:
        """All blocks by our kernels, as the records say."""
        return Plan("sparse", self.panel, tuple(BlockPlan(name, "sparse", "", record) for name, record in records))

    def runner(self, threads: int, plan: Plan | None = None) -> Any:
        """A session."""
        scheduled = lower(self.model, plan or self.plan(self.records))
        return self._backend.load(scheduled.SerializeToString(), threads=threads)

    def with_algorithm(self, algorithm: Conv2Algorithm) -> list[tuple[str, BlockRecord]]:
        """The records with conv2 by one algorithm wherever it can be."""
        return [
            (name, replace(record, conv2_algorithm=algorithm if record.stride == 1 else Conv2Algorithm.DIRECT))
            for name, record in self.records
        ]


def _by_rule(record: BlockRecord) -> BlockRecord:
    coarse = not record.mask_groups or record.hout >= 2 * record.mask_h
    winograd = record.stride == 1 and record.hout * record.wout >= 128 and coarse
    return replace(record, conv2_algorithm=Conv2Algorithm.WINOGRAD_2X2 if winograd else Conv2Algorithm.DIRECT)

"""The networks that the latency model is tested on: published architectures in full depth, unseen by a calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from laudc import backends
from laudc.calibrate.measure import load_measured
from laudc.calibrate.synthetic import Drawn, cuts_for, synthetic_image, synthetic_network
from laudc.engine.weights import as_engines_hold
from laudc.ops.packing import ALIGN, TAIL, round_up
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.blueprint import ARCHITECTURES, Blueprint
from laudc.schedule import BlockPlan, Plan, lower
from laudc.schedule.plan import by_rule

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
# (architecture, width, side of the image); of other depths than the networks of a calibration, mostly other sizes.
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
    """One network: which, with which masks."""

    arch: str
    width: float
    size: int
    mode: str

    @property
    def blueprint(self) -> Blueprint:
        """The network's description."""
        return Blueprint(
            layers=ARCHITECTURES[self.arch], input_size=self.size, width_mult=self.width, **MODES[self.mode]
        )

    @property
    def seed(self) -> int:
        """Of weights and images."""
        return 1000 + self.size + 7 * list(MODES).index(self.mode)


def all_variants() -> list[Variant]:
    """Every shape in every mode."""
    return [Variant(*shape, mode) for shape in SHAPES for mode in MODES]


class Built:
    """A network whose masks can be set to keep any share, over `images` images.

    One build serves all rates and numbers of threads: its sessions share their weights, and the biases of the maskers,
    which stand at the end of each block's packed weights, are changed where they are.
    """

    def __init__(self, variant: Variant, threads: list[int], images: int = 1, algorithm: int | None = None) -> None:
        self.variant = variant
        backend: Any = backends.get("onnxruntime")
        panel = int(backend.native_abi()["panel"])
        self.records = [(name, with_algorithm(record, algorithm)) for name, record in variant.blueprint.blocks(panel)]
        self.images = synthetic_image(variant.size, variant.seed, images)
        self._by_image = images > 1
        everything = Drawn((1.0,) * len(self.records), (1.0,) * len(self.records))
        self.portable = synthetic_network(variant.blueprint, everything, variant.seed, by_image=self._by_image)
        plan = Plan("sparse", panel, tuple(BlockPlan(name, "sparse", "", record) for name, record in self.records))
        scheduled = lower(self.portable, plan)
        weights = as_engines_hold(scheduled)
        self._packed = {name: values for name, values in weights.items() if name.endswith(".packed")}
        serialized = scheduled.SerializeToString()
        self.runners = {count: load_measured(backend, serialized, count, weights) for count in threads}
        for name, record in self.records:
            self._write(name, record, np.zeros(record.mask_groups), np.zeros(record.channel_groups))
        self._margins = self._trace()

    def _trace(self) -> dict[str, dict[str, np.ndarray]]:
        """Margins of all images."""
        runner = next(iter(self.runners.values()))
        parts = [runner.trace(image[None])[1] for image in self.images]
        return {
            name: {kind: np.concatenate([part[name][kind] for part in parts]) for kind in parts[0][name]}
            for name in parts[0]
        }

    def keep(self, rate: float) -> dict[str, np.ndarray]:
        """Sets all masks to keep `rate`, over all images, and returns them."""
        random = np.random.default_rng(self.variant.seed)
        runs = random.permutation(len(self.records)) < round(rate * len(self.records))
        whole = self.variant.mode == "layer" and not self._by_image
        spatial = tuple(runs.astype(float)) if whole else (rate,) * len(runs)
        cuts = cuts_for(self._margins, self.variant.blueprint, Drawn(spatial, (rate,) * len(runs)))
        for name, record in self.records:
            channel = -cuts[name].channel
            if not self._by_image:
                channel = np.where(random.permutation(len(channel)) < round(rate * len(channel)), 1.0, -1.0)
            self._write(name, record, -cuts[name].spatial, channel)
        return {
            f"{name}.mask_{kind.removesuffix('_margin')}": (values >= 0)
            for name, kinds in self._trace().items()
            for kind, values in kinds.items()
        }

    def _write(self, name: str, record: BlockRecord, spatial: np.ndarray, channel: np.ndarray) -> None:
        packed = self._packed[f"{name}.packed"]
        end = len(packed) - TAIL
        if record.channel_groups:
            at = end - round_up(record.channel_groups, ALIGN)
            packed[at : at + record.channel_groups] = channel
            hidden = record.masker_hidden
            floats = (hidden * record.cin, hidden, record.channel_groups * hidden, record.channel_groups)
            end -= sum(round_up(count, ALIGN) for count in floats)
        if record.mask_groups:
            at = end - round_up(record.mask_groups, ALIGN)
            packed[at : at + record.mask_groups] = spatial


def with_algorithm(record: BlockRecord, algorithm: int | None = None) -> BlockRecord:
    """The record with conv2 as fixed rules choose it, or by one algorithm wherever that is possible."""
    if algorithm is None:
        return by_rule(record)
    return replace(record, conv2_algorithm=algorithm if record.stride == 1 else Conv2Algorithm.DIRECT)

"""Predicting one uniform configuration: small enough to be sent to another process or another machine."""

from __future__ import annotations

from dataclasses import dataclass

from laudc.devices import load_profile
from laudc.errors import UserError
from laudc.predict.activation import activation_at_rate
from laudc.predict.blueprint import STAGES, Blueprint
from laudc.predict.frame import Frame
from laudc.predict.models import latency_model
from laudc.schedule.choose import CostChooser
from laudc.schedule.plan import BlockPlan, Plan
from laudc.search.space import Uniform

_IMAGES = 24


@dataclass(frozen=True)
class Target:
    """What is predicted for. `profile`: name or path; a path must exist on every machine that helps."""

    profile: str
    precision: str | None
    batch: int
    threads: int


@dataclass(frozen=True)
class StageTimes:
    """Predicted means of a uniform configuration in µs: every stage, and what is outside the blocks. `decisions`: mask
    cells and channel groups of every stage, a measure of how fine the masks are."""

    stages_us: tuple[float, ...]
    outside_us: float
    decisions: tuple[int, ...]
    status: str


def evaluate(option: Uniform, base: Blueprint, target: Target) -> StageTimes:
    """Predicts `option`. Raises UserError when the device has no latency model."""
    profile = load_profile(target.profile)
    precision = target.precision or profile.precision
    found = latency_model(profile, threads=target.threads, precision=precision)
    if found is None:
        raise UserError(
            f"the device '{profile.id}' cannot be predicted yet",
            "its profile holds no latency model",
            "laudc calibrate",
        )
    blueprint = option.blueprint(base)
    blocks = blueprint.blocks()
    plan = Plan("sparse", 64, tuple(BlockPlan(name, "sparse", "", record) for name, record in blocks))
    activation = activation_at_rate(blocks, option.rate, images=max(_IMAGES, target.batch))
    chooser = CostChooser(found.model, Frame.of_blueprint(blueprint), activation, target.batch, found.status)
    chosen = chooser.choose(plan, dict(blocks))
    stages, decisions = [0.0] * STAGES, [0] * STAGES
    for (name, record), block in zip(blocks, chosen.blocks, strict=True):
        stage = int(name[len("layer")]) - 1
        assert block.predicted is not None
        stages[stage] += float(block.predicted["mean_us"])
        decisions[stage] += record.margins
    assert chosen.predicted is not None
    return StageTimes(tuple(stages), float(chosen.predicted["outside_us"]), tuple(decisions), found.status)

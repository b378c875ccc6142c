"""Predicting one uniform configuration: small enough to be sent to another process or another machine."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from laudc.calibrate.frames import frame_of_blueprint
from laudc.devices import load_profile
from laudc.errors import UserError
from laudc.predict.activation import activation_at_rate
from laudc.predict.architectures import AnyBlueprint
from laudc.predict.families import TITLES, Record, family_of
from laudc.predict.models import TrustedModel, latency_model
from laudc.schedule.choose import CostChooser
from laudc.schedule.plan import BlockPlan, Plan
from laudc.search.space import Uniform, stages_of

_IMAGES = 24


@dataclass(frozen=True)
class Target:
    """What is predicted for. `profile`: name or path; a path must exist on every machine that helps. `sha256`: of its
    file where the search began, so that a process that has seen the profile before reads it again if it changed."""

    profile: str
    sha256: str
    precision: str | None
    batch: int
    threads: int


@dataclass(frozen=True)
class StageTimes:
    """Predicted means of a uniform configuration in µs: every stage, and what is outside the blocks. `decisions`: mask
    cells, channel groups, tokens, heads and sublayers that each stage decides on, a measure of how fine it is."""

    stages_us: tuple[float, ...]
    outside_us: float
    decisions: tuple[int, ...]
    status: str


def evaluate(option: Uniform, base: AnyBlueprint, target: Target) -> StageTimes:
    """Predicts `option`. Raises UserError when the device has no latency model for the family."""
    blueprint = option.blueprint(base)
    blocks: list[tuple[str, Record]] = list(blueprint.blocks())
    found = _model(target, family_of(blocks[0][1]))
    plan = Plan("sparse", 64, tuple(BlockPlan(name, "sparse", "", record) for name, record in blocks))
    activation = activation_at_rate(blocks, option.rate, images=max(_IMAGES, target.batch))
    chooser = CostChooser(found.model, frame_of_blueprint(blueprint), activation, target.batch, found.status)
    chosen = chooser.choose(plan, dict(blocks))
    stage_of = stages_of(base)
    stages, decisions = [0.0] * (stage_of[-1] + 1), [0] * (stage_of[-1] + 1)
    for stage, (_, record), block in zip(stage_of, blocks, chosen.blocks, strict=True):
        assert block.predicted is not None
        stages[stage] += float(block.predicted["mean_us"])
        decisions[stage] += record.margins
    assert chosen.predicted is not None
    return StageTimes(tuple(stages), float(chosen.predicted["outside_us"]), tuple(decisions), found.status)


@functools.lru_cache(maxsize=8)
def _model(target: Target, family: str) -> TrustedModel:
    """The latency model, which a process makes once for all configurations. Raises UserError as `evaluate` does."""
    profile = load_profile(target.profile)
    precision = target.precision or profile.precision
    found = latency_model(profile, threads=target.threads, precision=precision, family=family)
    if found is None:
        raise UserError(
            f"the device '{profile.id}' cannot be predicted yet",
            f"its profile holds no latency model for {TITLES[family]}",
            f"laudc calibrate --device {target.profile} --family {family}",
        )
    return found

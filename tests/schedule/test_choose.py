"""Scheduling by predicted cost."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from laudc.devices import load_profile
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.activation import activation_at_rate
from laudc.predict.blueprint import Blueprint
from laudc.predict.families import FAMILIES, REGNET, RESNET, VIT
from laudc.predict.frame import Frame
from laudc.predict.gpu.model import gpu_model
from laudc.predict.regnet_blueprint import RegNetBlueprint
from laudc.predict.vit_blueprint import VitBlueprint
from laudc.schedule import BlockPlan, Plan
from laudc.schedule.choose import CostChooser
from tests.predict.models import SMALL, VIT_FRAME, cpu_model

RECORDS = SMALL.blocks()
# As in real networks: the last ones of a ResNet and a RegNetY, on 7 by 7 pixels, and a transformer's.
GPU_BLOCKS = {
    RESNET: Blueprint(modes=("channel",) * 4, channel=(2,) * 4).blocks()[-1],
    REGNET: RegNetBlueprint((1, 1, 1, 1), (64, 128, 320, 768), 16, ("channel",) * 4, (1,) * 4, (2,) * 4).blocks()[-1],
    VIT: VitBlueprint(448, 7, (1344, 1344), (True,) * 2, (True,) * 2, (True,) * 2).blocks()[0],
}


def _plan(choice: str = "auto", execution: str = "sparse") -> Plan:
    blocks = [
        BlockPlan(name, execution, "by rule", record if execution == "sparse" else None) for name, record in RECORDS
    ]
    return Plan(choice, 64, tuple(blocks))


def _choose(model, plan: Plan, rate: float = 0.5) -> Plan:
    chooser = CostChooser(model, Frame.of_blueprint(SMALL), activation_at_rate(RECORDS, rate, images=8), 1, "test")
    return chooser.choose(plan, dict(RECORDS))


def test_the_cheaper_algorithm_is_taken_with_its_reason_and_prediction() -> None:
    direct = _choose(cpu_model(winograd_macs=1.0), _plan())
    winograd = _choose(cpu_model(winograd_macs=0.001), _plan())
    strided = {name for name, record in RECORDS if record.stride == 2}
    for one, other in zip(direct.blocks, winograd.blocks, strict=True):
        assert one.record.conv2_algorithm == Conv2Algorithm.DIRECT
        wanted = Conv2Algorithm.DIRECT if other.name in strided else Conv2Algorithm.WINOGRAD_2X2
        assert other.record.conv2_algorithm == wanted
        assert "predicted" in one.reason
        assert one.predicted["mean_us"] > 0
    assert "direct" in winograd.blocks[0].reason
    assert direct.predicted["status"] == "test"
    assert "blocks" not in direct.predicted


def test_dense_where_it_is_cheaper() -> None:
    cheap = {"pointwise": 1e-6, "spatial": 1e-6, "strided": 1e-6, "nodes": 0.0}
    assert {b.execution for b in _choose(cpu_model(**cheap), _plan()).blocks} == {"dense"}
    assert {b.execution for b in _choose(cpu_model(), _plan(), rate=0.1).blocks} == {"sparse"}


def test_a_single_dense_block_must_pay_for_the_run_it_breaks() -> None:
    """Blocks that lose a little stay in the run; without the borders' cost they would leave it."""
    tempting = {"pointwise": 1e-6, "spatial": 1.0, "strided": 1e-6, "nodes": 0.0}
    free = _choose(cpu_model(**tempting, transposed=0.0, copied=0.0), _plan())
    dear = _choose(cpu_model(**tempting, transposed=1e3, copied=0.0), _plan())

    def borders(plan: Plan) -> int:
        kinds = [block.execution for block in plan.blocks]
        return sum(a != b for a, b in itertools.pairwise(kinds))

    assert borders(free) > 0
    assert borders(dear) == 0


def test_the_chain_is_the_cheapest_of_all_chains() -> None:
    model = cpu_model(pointwise=0.012, spatial=0.006, strided=0.006, transposed=0.2)
    chosen = _choose(model, _plan())
    best = min(
        _choose(model, replace(_plan("sparse"), blocks=_forced(kinds))).predicted["latency"]["mean_us"]
        for kinds in itertools.product(("sparse", "dense"), repeat=len(RECORDS))
    )
    assert chosen.predicted["latency"]["mean_us"] == pytest.approx(best, rel=1e-6)


def test_what_a_run_costs_behind_the_runtime_counts() -> None:
    """A run that begins behind a dense block finds its caches empty; a chain that pays for that too often loses."""
    tempting = {"pointwise": 1e-6, "spatial": 1.0, "strided": 1e-6, "nodes": 0.0, "transposed": 0.0, "copied": 0.0}

    def begins(behind: float) -> int:
        kinds = [block.execution for block in _choose(cpu_model(**tempting, behind=behind), _plan()).blocks]
        return sum(pair == ("dense", "sparse") for pair in itertools.pairwise(kinds))

    assert begins(0.0) > 0
    assert begins(1e9) == 0


def test_only_blocks_that_may_follow_the_runtimes_are_predicted_behind_them(monkeypatch) -> None:
    """Not the first one, none where all are ours, and none on a GPU, whose kernels leave nothing in a core's caches."""

    def behind(model, plan: Plan) -> int:
        batch_ns, places = model.batch_ns, []
        monkeypatch.setattr(model, "batch_ns", lambda *args: places.append(args[2]) or batch_ns(*args))
        chooser = CostChooser(model, Frame.of_blueprint(SMALL), activation_at_rate(RECORDS, 0.5, images=8))
        chooser._options(plan, dict(RECORDS))
        assert places
        return sum(place.behind for place in places)

    variants = [len(cpu_model().variants(record)) for _, record in RECORDS]
    after_one = _forced(["dense", *["sparse"] * (len(RECORDS) - 1)])
    assert behind(cpu_model(), _plan()) == sum(variants[1:])
    assert behind(cpu_model(), _plan("sparse")) == 0
    assert behind(cpu_model(), replace(_plan("sparse"), blocks=after_one)) == variants[1]
    assert behind(gpu_model(load_profile("h200"), "fp32"), _plan()) == 0


def test_a_border_must_save_more_than_predictions_err() -> None:
    """Where it saves less, all blocks are of one kind."""
    found = set()
    for spatial in (0.0, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3):
        model = cpu_model(pointwise=0.006, spatial=spatial, strided=0.006, transposed=0.0)
        chosen = _choose(model, _plan())
        uniform = [
            _choose(model, replace(_plan("sparse"), blocks=_forced([kind] * len(RECORDS))))
            for kind in ("sparse", "dense")
        ]
        best = min(plan.predicted["latency"]["mean_us"] for plan in uniform)
        borders = len({block.execution for block in chosen.blocks}) > 1
        found.add(borders)
        if borders:
            assert chosen.predicted["latency"]["mean_us"] < 0.97 * best
        else:
            assert chosen.predicted["latency"]["mean_us"] == pytest.approx(best, rel=1e-6)
    assert found == {True, False}


def _forced(kinds) -> tuple[BlockPlan, ...]:
    return tuple(
        BlockPlan(name, kind, "forced", record if kind == "sparse" else None)
        for (name, record), kind in zip(RECORDS, kinds, strict=True)
    )


def test_what_the_user_forces_stays() -> None:
    cheap = {"pointwise": 1e-6, "spatial": 1e-6, "strided": 1e-6, "nodes": 0.0}
    assert {b.execution for b in _choose(cpu_model(**cheap), _plan("sparse")).blocks} == {"sparse"}
    dense = _choose(cpu_model(), _plan("dense", "dense"), rate=0.0)
    assert {b.execution for b in dense.blocks} == {"dense"}
    assert {b.reason for b in dense.blocks} == {"by rule"}
    assert dense.blocks[0].record is None


@pytest.mark.parametrize("device", ["nano", "tx2", "v100", "h200"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gpus_leave_blocks_to_the_runtime_where_nothing_is_skipped(family, device) -> None:
    """Small maps, everything kept: deciding costs, and saves nothing."""
    name, record = GPU_BLOCKS[family]
    model = gpu_model(load_profile(device), "fp32", family=family)
    frame = VIT_FRAME if family == VIT else Frame.of_blueprint(SMALL)
    plan = Plan("auto", 64, (BlockPlan(name, "sparse", "by rule", record),))

    def choose(rate: float, choice: str = "auto") -> BlockPlan:
        activation = activation_at_rate([(name, record)], rate, images=8)
        chooser = CostChooser(model, frame, activation, 1, "modelled, not measured")
        chosen = chooser.choose(replace(plan, choice=choice), {name: record})
        assert chosen.predicted["status"] == "modelled, not measured"
        return chosen.blocks[0]

    assert choose(1.0).execution == "dense"
    forced = choose(0.5, "sparse")
    assert forced.execution == "sparse" and "predicted" in forced.reason
    # The one algorithm that the kernels have.
    assert not isinstance(record, BlockRecord) or forced.record.conv2_algorithm == Conv2Algorithm.DIRECT
    assert "Winograd" not in forced.reason
    if device in ("nano", "tx2"):
        assert choose(0.1).execution == "sparse"

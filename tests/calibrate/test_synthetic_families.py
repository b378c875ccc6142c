"""Made-up RegNetYs and transformers keep exactly what they shall keep, and are what the exporter makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from laudc.calibrate.synthetic import Drawn, cuts_for, synthetic_image, synthetic_network
from laudc.calibrate.synthetic_vit import VitDrawn, synthetic_vit, vit_masks
from laudc.ops.transformer import DroppedHead, MlpWidth
from laudc.predict.frame import Frame, frame_of_model
from laudc.predict.work import count_work
from laudc.schedule import lower, make_plan
from laudc.schedule.blocks import Graph
from laudc.schedule.plan import block_records
from tests.predict.models import REGNET_SMALL, VIT_SMALL


def _runner(model):
    from laudc import backends

    plan = make_plan(model)
    return backends.get("onnxruntime").load(lower(model, plan).SerializeToString(), threads=1), plan


@pytest.mark.parametrize("se_pool", [0, 1])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_regnets_keep_shares_and_count_as_the_engine(native, share, se_pool) -> None:
    blueprint = replace(REGNET_SMALL, se_pool=se_pool)
    count = len(blueprint.blocks())
    drawn = Drawn((share,) * count, (share,) * count)
    image = synthetic_image(blueprint.input_size, 3)
    margins = _runner(synthetic_network(blueprint, drawn, 1))[0].trace(image)[1]
    runner, plan = _runner(synthetic_network(blueprint, drawn, 1, cuts_for(margins, blueprint, drawn)))
    kept = runner.trace(image)[1]
    runner.run(image)
    for index, block in enumerate(plan.blocks):
        masks = {kind.removesuffix("_margin"): values >= 0 for kind, values in kept[block.name].items()}
        for mask in masks.values():
            assert mask.mean() == pytest.approx(share, abs=0.5 / mask.size)
        counts = count_work(block.record, masks, 1)
        rows, wanted, _, groups = runner.last_counts[0, index]
        assert counts.a[0] == rows
        assert counts.read[0] == wanted
        if block.record.channel_groups:
            assert counts.channels[0] == groups * block.record.width / block.record.channel_groups


VARIANTS = [
    (DroppedHead.NOTHING, MlpWidth.INPUTS, True),
    (DroppedHead.NOTHING, MlpWidth.OUTPUTS, False),
    (DroppedHead.VALUES, MlpWidth.FULL, True),
]


@pytest.mark.parametrize("t2t", [True, False])
@pytest.mark.parametrize(("dropped", "width", "in_mlp"), VARIANTS)
def test_transformers_decide_as_told_whatever_the_image(native, dropped, width, in_mlp, t2t) -> None:
    blueprint = replace(
        VIT_SMALL, dropped_heads=int(dropped), head_width=int(width), tokens_in_mlp=in_mlp, t2t=t2t
    )  # fmt: skip
    drawn = VitDrawn((0.3, 0.8, 0.5), (0.5, 0.5, 0.75), (True, False, True), (True, True, False))
    masks = vit_masks(blueprint, drawn, 5)
    model = synthetic_vit(blueprint, masks, 5)
    runner, plan = _runner(model)
    assert {block.execution for block in plan.blocks} == {"sparse"}
    for seed in (1, 2):
        kept = runner.trace(synthetic_image(blueprint.input_size, seed))[1]
        for name, kinds in masks.items():
            assert {f"{kind}_margin" for kind in kinds} == set(kept[name])
            for kind, mask in kinds.items():
                assert ((kept[name][f"{kind}_margin"] > 0).reshape(mask.shape) == mask).all()
    runner.run(synthetic_image(blueprint.input_size, 1))
    for index, block in enumerate(plan.blocks):
        counts = count_work(block.record, masks[block.name], 1)
        *_, tokens, heads = runner.last_counts[0, index]
        assert (counts.tokens[0], counts.heads[0]) == (tokens, heads)


def test_transformers_are_what_the_exporter_makes() -> None:
    from laudnet.vit import build_vit
    from laudnet.vit_config import VitConfig

    import laudc

    config = VitConfig(
        arch="laud_vit", embed_dim=64, depth=3, num_heads=4, mlp_ratio=2.0, input_size=64, num_classes=10, keep_layers=1
    )
    exported = laudc.export(build_vit(config).eval())
    blueprint = replace(
        VIT_SMALL, hidden=(128,) * 3, token=(True,) * 3, head=(False, True, True), layer=(False, True, True)
    )  # fmt: skip
    masks = vit_masks(blueprint, VitDrawn((0.5,) * 3, (0.5,) * 3, (True,) * 3, (True,) * 3), 0)
    made_up = synthetic_vit(blueprint, masks, 0)
    described = blueprint.blocks()
    assert block_records(Graph(exported), 64) == block_records(Graph(made_up), 64) == described
    assert [node.op_type for node in exported.graph.node] == [node.op_type for node in made_up.graph.node]
    assert frame_of_model(exported) == frame_of_model(made_up)


def test_regnets_are_what_the_exporter_makes() -> None:
    import laudnet

    import laudc
    from laudc.predict.regnet_blueprint import RegNetBlueprint

    modes = ("channel", "spatial", "both", "channel")
    config = laudnet.config_from_dict(
        {
            "arch": "lad_regnet_y_400mf",
            "dyn_mode": modes,
            "mask_spatial_granularity": (1, 2, 2, 1),
            "channel_dyn_granularity": (2, 1, 4, 1),
            "channel_masker_layers": (2,) * 4,
            "input_size": 64,
        }
    )
    exported = laudc.export(laudnet.build_model(config).eval())
    blueprint = RegNetBlueprint(
        layers=(1, 3, 6, 6),
        widths=(48, 104, 208, 440),
        group_width=8,
        modes=modes,
        spatial=(1, 2, 2, 1),
        channel=(2, 1, 4, 1),
        input_size=64,
    )
    found, described = dict(block_records(Graph(exported), 64)), dict(blueprint.blocks())
    assert list(found) == list(described)
    for name, record in described.items():
        assert {**found[name].__dict__, "masker_hidden": 0} == {**record.__dict__, "masker_hidden": 0}
    assert frame_of_model(exported) == Frame.of_blueprint(blueprint)
    assert np.isclose(
        sum(record.masker_hidden for record in found.values()), sum(r.masker_hidden for r in described.values())
    )

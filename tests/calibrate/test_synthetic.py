"""Made-up networks keep exactly what they shall keep, in our engine and in the reference."""

from __future__ import annotations

import numpy as np
import pytest

from laudc.calibrate.synthetic import Drawn, cuts_for, synthetic_image, synthetic_network
from laudc.predict.blueprint import Blueprint
from laudc.predict.counts import count_block
from laudc.schedule import lower, make_plan

PRINT = Blueprint(
    layers=(2, 1, 1, 1),
    modes=("spatial", "channel", "layer", "both"),
    spatial=(4, 1, 1, 1),
    channel=(1, 4, 1, 2),
    input_size=64,
    width_mult=0.25,
    num_classes=10,
)
BLOCKS = PRINT.blocks()


def _runner(model):
    from laudc import backends

    plan = make_plan(model)
    return backends.get("onnxruntime").load(lower(model, plan).SerializeToString(), threads=1), plan


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_shares_are_exact_and_counts_are_the_engines(native, share) -> None:
    drawn = Drawn((share,) * len(BLOCKS), (share,) * len(BLOCKS))
    image = synthetic_image(64, 3)
    margins = _runner(synthetic_network(PRINT, drawn, 1))[0].trace(image)[1]
    runner, plan = _runner(synthetic_network(PRINT, drawn, 1, cuts_for(margins, PRINT, drawn)))
    kept = {name: {k: v >= 0 for k, v in kinds.items()} for name, kinds in runner.trace(image)[1].items()}
    runner.run(image)
    for index, block in enumerate(plan.blocks):
        masks = kept[block.name]
        for mask in masks.values():
            assert mask.mean() == pytest.approx(share, abs=0.5 / mask.size)
        counts = count_block(block.record, masks.get("spatial_margin"), masks.get("channel_margin"), 1)
        conv1, conv2, *_ = runner.last_counts[0, index]
        assert (counts.conv1[0], counts.conv2[0]) == (conv1, conv2)


def test_masks_by_image_differ_and_keep_the_share_over_all(native) -> None:
    drawn = Drawn((0.5,) * len(BLOCKS), (0.5,) * len(BLOCKS))
    images = synthetic_image(64, 3, 8)
    margins = _runner(synthetic_network(PRINT, drawn, 1, by_image=True))[0].trace(images)[1]
    model = synthetic_network(PRINT, drawn, 1, cuts_for(margins, PRINT, drawn), by_image=True)
    for kinds in _runner(model)[0].trace(images)[1].values():
        for margin in kinds.values():
            mask = margin >= 0
            assert mask.mean() == pytest.approx(0.5, abs=0.1)
            assert np.ptp(mask.reshape(8, -1).mean(axis=1)) > 0


def test_the_blueprint_is_laudnets_own_geometry() -> None:
    """Every record is what the exported model of the same configuration gives."""
    import laudnet

    import laudc
    from laudc.schedule.blocks import Graph
    from laudc.schedule.plan import block_records

    config = laudnet.LaudConfig.for_arch(
        "laud_resnet",
        layers=PRINT.layers,
        dyn_mode=PRINT.modes,
        mask_spatial_granularity=PRINT.spatial,
        channel_dyn_granularity=PRINT.channel,
        channel_masker_layers=(2,) * 4,
        input_size=PRINT.input_size,
        width_mult=PRINT.width_mult,
        num_classes=10,
    )
    exported = block_records(Graph(laudc.export(laudnet.LaudResNet(config).eval())), 64)
    described = [(name, record) for name, record in BLOCKS]
    assert [name for name, _ in exported] == [name for name, _ in described]
    for (_, one), (_, other) in zip(exported, described, strict=True):
        assert {**one.__dict__, "conv2_algorithm": 0} == {**other.__dict__, "conv2_algorithm": 0}

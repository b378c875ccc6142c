"""Recorded outputs of the authors' program: operators, random ones with their seed, and totals of networks."""

import csv
import json
from pathlib import Path

import pytest

from laudc.predict import compat
from laudc.predict.compat.golden import read_golden
from laudc.predict.compat.score import score

GOLDEN = Path(__file__).parents[2] / "data" / "predictor" / "golden_public.csv"
RECORDS = list(csv.DictReader(GOLDEN.open(newline="")))


def answer(record, density=None):
    device = compat.compat_device(record["device"], batch=int(record["batch"]))
    model = compat.Model(device) if density is None else compat.Model(device, density)
    return compat.predict(model, compat.Call.of(record["op"], **json.loads(record["args"])))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["id"])
def test_expected_values_to_rounding(record):
    found = answer(record)
    assert found.latency_s == pytest.approx(float(record["latency_closed_form_s"]), rel=1e-14)
    assert found.latency_s == pytest.approx(found.compute_s + found.memory_s + found.launch_s)
    if record["compute_s"] and record["stochastic"] == "0":
        assert found.compute_s == pytest.approx(float(record["compute_s"]), rel=1e-12, abs=1e-20)
        assert found.memory_s == pytest.approx(float(record["memory_s"]), rel=1e-12)


@pytest.mark.parametrize(
    "record", [record for record in RECORDS if record["stochastic"] == "1"], ids=lambda record: record["id"]
)
def test_random_rows_with_their_seed(record):
    found = answer(record, compat.SeededDraws(int(record["seed"])))
    assert found.latency_s == pytest.approx(float(record["latency_s"]), rel=1e-14)


@pytest.mark.parametrize(
    "record",
    [record for record in RECORDS if record["op"] in ("conv", "dynamic_conv", "scatter_add") and record["tile"]],
    ids=lambda record: record["id"],
)
def test_the_same_tiles_are_chosen(record):
    assert answer(record).tile == json.loads(record["tile"])


def test_all_recorded_rows_are_within_tolerance():
    result = score(read_golden(GOLDEN))
    assert len(result.rows) == 84 and result.within_share == 1.0


# Totals of ResNet-50's blocks in ms, all rates 0.5: static, layer, channel, and spatial with three granularities.
TOTALS = {
    "v100": (116.2111, 68.1435, 68.7646, 153.9019, 99.7397, 87.3349),
    "3090": (99.2123, 60.3793, 71.3036, 184.3663, 107.9312, 83.8007),
    "3060": (146.1678, 88.6064, 101.3762, 173.2541, 126.5183, 118.8177),
    "tx2": (17.2257, 9.9067, 9.3125, 12.1879, 12.0054, 13.4101),
    "nano": (44.9756, 25.5301, 22.0710, 30.0190, 30.0378, 34.3844),
}


@pytest.mark.parametrize("device", TOTALS)
def test_totals_of_resnet50(device):
    model, half = compat.Model(compat.compat_device(device)), compat.BlockRates(0.5, 0.5, 0.5)

    def milliseconds(mode, granules=(1, 1, 1, 1), rates=half):
        blocks = compat.blocks_of(compat.RESNET50, granules=granules)
        return 1e3 * sum(block.latency_s for block in compat.predict_network(model, blocks, mode, rates))

    spatial = compat.BlockRates(spatial=0.5)
    static, layer, channel, *by_granule = TOTALS[device]
    assert milliseconds("static") == pytest.approx(static, rel=1e-5)
    assert milliseconds("layer") == pytest.approx(layer, rel=1e-5)
    assert milliseconds("channel") == pytest.approx(channel, rel=1e-3)  # recorded from random draws
    for granules, wanted in zip(((1, 1, 1, 1), (4, 4, 2, 1), (8, 8, 7, 4)), by_granule, strict=True):
        assert milliseconds("spatial", granules, spatial) == pytest.approx(wanted, rel=1e-5)


# AdaViT in seconds: dense block, dynamic block, stem, head.
ADAVIT = {
    "v100": (2.798671e-4, 2.142856e-4, 5.293142e-4, 2.579707e-5),
    "tx2": (2.177455e-3, 1.201482e-3, 2.867528e-3, 1.196988e-4),
    "nano": (5.526790e-3, 2.928928e-3, 6.714358e-3, 2.595023e-4),
}


@pytest.mark.parametrize("device", ADAVIT)
def test_adavit(device):
    model = compat.Model(compat.compat_device(device, batch=1))
    dynamic = compat.AdaVitMode(tokens=0.7, heads=5 / 7, attention=0.8, mlp=0.9)
    found = (
        compat.adavit_block(model),
        compat.adavit_block(model, dynamic),
        compat.adavit_stem(model),
        compat.adavit_head(model),
    )
    assert [cost.latency_s for cost in found] == pytest.approx(ADAVIT[device], rel=1e-6)

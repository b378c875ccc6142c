"""Prediction on the command line: predict, calibrate, search, and what build-engine and profile do with a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from laudc.cli import main
from laudc.devices import load_profile
from laudc.errors import UserError
from laudc.predict.cpu.load import VERSION
from laudc.predict.families import REGNET, RESNET, VIT
from tests.predict.models import save_calibrated


@pytest.fixture
def calibrated(tmp_path):
    """A profile whose calibration claims to be of this machine, with plausible coefficients."""
    path = tmp_path / "here.yaml"
    save_calibrated(path)
    return str(path)


@pytest.fixture(scope="module", params=[REGNET, VIT])
def other_family(request, tmp_path_factory):
    """A made-up RegNetY or transformer as portable ONNX."""
    import onnx

    from laudc.calibrate.synthetic import Drawn, synthetic_network
    from laudc.calibrate.synthetic_vit import VitDrawn, synthetic_vit, vit_masks
    from tests.predict.models import REGNET_SMALL, VIT_SMALL

    if request.param == VIT:
        drawn = VitDrawn((0.5,) * 3, (0.5,) * 3, (True,) * 3, (True,) * 3)
        model = synthetic_vit(VIT_SMALL, vit_masks(VIT_SMALL, drawn, 0), 0)
    else:
        model = synthetic_network(REGNET_SMALL, Drawn((1.0,) * 5, (1.0,) * 5), 0)
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    onnx.save(model, path)
    return path


def _json(capsys, *arguments) -> dict:
    assert main([*map(str, arguments), "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_any_device_without_building(tiny_onnx, capsys):
    data = _json(capsys, "predict", tiny_onnx, "--device", "nano", "--activation", 0.3, "--sweep")
    assert data["kind"] == "prediction"
    assert data["status"] == "modelled, not measured"
    latency = data["schedule"]["predicted"]["latency"]
    assert latency["mean_us"] <= latency["worst_us"]
    assert len(data["sweep"]["blocks"]) == len(data["schedule"]["blocks"]) == 4
    assert main(["predict", str(tiny_onnx), "--device", "v100", "--batch", "8", "--sweep"]) == 0
    text = capsys.readouterr().out
    assert "modelled, not measured" in text
    assert "break-even" in text


def test_more_is_kept_more_is_paid(tiny_onnx, capsys):
    low, high = (_json(capsys, "predict", tiny_onnx, "--device", "nano", "--activation", rate) for rate in (0.1, 1.0))
    means = [data["schedule"]["predicted"]["latency"]["mean_us"] for data in (low, high)]
    assert means[0] < means[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "nanoo"], "nano"),
        (["--device", "nano", "--activation", "2"], "impossible"),
        (["--device", "nano", "--activation", "nothing.json"], "Cannot read the activation"),
        (["--device", "nano", "--batch", "0"], "at least one image"),
        (["--device", "nano", "--precision", "int8"], "does not compute in int8"),
        (["--device", "nano", "--schedule", "best"], "nknown schedule"),
        (["--device", "nano", "--batch", "100000000000"], "at most 65536 images"),
        (["--device", "cpu", "--precision", "fp16"], "does not compute in fp16"),
        (["--device", "cpu", "--precision", "float"], "does not compute in float"),
        (["--device", "cpu", "--threads", "0"], "at least one"),
        (["--device", "nano", "--threads", "2"], "hreads are no matter of the device 'nano'"),
    ],
)
def test_wrong_predictions_are_one_paragraph(tiny_onnx, capsys, arguments, words):
    assert main(["predict", str(tiny_onnx), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_threads_that_were_not_measured_are_named(tiny_onnx, calibrated, capsys):
    data = _json(capsys, "predict", tiny_onnx, "--device", calibrated, "--threads", 7)
    assert data["status"] == "calibrated by measurement (of 2 threads, not 7)"
    assert data["schedule"]["predicted"]["threads"] == 2
    assert main(["predict", str(tiny_onnx), "--device", calibrated, "--threads", "1"]) == 0
    assert "not 1" not in capsys.readouterr().out


def test_build_profile_and_build_again(tiny_onnx, calibrated, photos, tmp_path, capsys, native):
    engine, stats = tmp_path / "a.laudc", tmp_path / "stats.json"
    built = _json(capsys, "build-engine", tiny_onnx, "--device", calibrated, "-o", engine)
    schedule = built["manifest"]["schedule"]
    assert schedule["predicted"]["activation"] == "masks made up to keep 50%"
    assert all("predicted" in block["reason"] for block in schedule["blocks"])

    profile = _json(
        capsys, "profile", engine, "--images", photos, "--runs", 4, "--warmup", 1, "--device", calibrated,
        "--save-activation", stats, "--html", tmp_path / "r.html",
    )  # fmt: skip
    comparison = profile["comparison"]
    assert comparison["status"] == "calibrated by measurement"
    assert comparison["median"]["predicted_us"] > 0
    sparse = [block for block in profile["blocks"] if block["execution"] == "sparse"]
    assert all(block["predicted"]["measured_us"] > 0 for block in sparse)
    assert "predicted" in (tmp_path / "r.html").read_text()

    again = _json(
        capsys, "build-engine", tiny_onnx, "--device", calibrated, "--activation", stats, "-o", tmp_path / "b.laudc"
    )
    predicted = again["manifest"]["schedule"]["predicted"]
    assert (predicted["images"], predicted["activation"]) == (3, "3 images")


def test_every_family_is_predicted_built_and_compared(other_family, calibrated, photos, tmp_path, capsys, native):
    sizes = [
        _json(capsys, "predict", other_family, "--device", calibrated, "--activation", rate, "--schedule", "sparse")
        for rate in (0.2, 1.0)
    ]
    means = [data["schedule"]["predicted"]["latency"]["mean_us"] for data in sizes]
    assert means[0] < means[1]
    swept = _json(capsys, "predict", other_family, "--device", calibrated, "--sweep")["sweep"]
    assert all(0 <= block["break_even"] <= 1 for block in swept["blocks"])

    engine, stats = tmp_path / "a.laudc", tmp_path / "stats.json"
    built = _json(capsys, "build-engine", other_family, "--device", calibrated, "-o", engine)
    assert all("predicted" in block["reason"] for block in built["manifest"]["schedule"]["blocks"])
    profile = _json(
        capsys, "profile", engine, "--images", photos, "--runs", 2, "--warmup", 1, "--device", calibrated,
        "--save-activation", stats,
    )  # fmt: skip
    assert profile["comparison"]["median"]["predicted_us"] > 0
    sparse = [block for block in profile["blocks"] if block["execution"] == "sparse"]
    assert sparse and all(block["predicted"]["measured_us"] > 0 for block in sparse)
    again = _json(capsys, "predict", other_family, "--device", calibrated, "--activation", stats)
    assert again["schedule"]["predicted"]["images"] == 3


@pytest.mark.parametrize("device", ["nano", "tx2", "v100", "rtx3060", "rtx3090", "h200", "orin"])
def test_every_family_is_predicted_on_gpus(other_family, device, tmp_path, capsys):
    found = _json(capsys, "predict", other_family, "--device", device, "--activation", 0.3, "--sweep")
    assert found["status"] == "modelled, not measured"
    reasons = [block["reason"] for block in found["schedule"]["blocks"]]
    assert all("predicted" in reason and ("(dense " in reason or "(sparse " in reason) for reason in reasons)
    latency = found["schedule"]["predicted"]["latency"]
    assert 0 < latency["mean_us"] <= latency["worst_us"] and latency["low_us"] is None
    assert all(0 <= block["break_even"] <= 1 for block in found["sweep"]["blocks"])

    engine = tmp_path / "a.laudc"
    built = _json(capsys, "build-engine", other_family, "--device", device, "--activation", 0.3, "-o", engine)
    schedule = built["manifest"]["schedule"]
    assert schedule["predicted"]["status"] == "modelled, not measured"
    assert [block["reason"] for block in schedule["blocks"]] == reasons
    assert main(["predict", str(other_family), "--device", device, "--batch", "2"]) == 0
    text = capsys.readouterr().out
    assert "modelled, not measured" in text
    assert not [word for word in ("accura", "within", "error", "calibrated by") if word in text]


def test_blocks_that_gpus_do_not_cover_stay_dense(capsys, tmp_path):
    import onnx

    from laudc.calibrate.synthetic_vit import VitDrawn, synthetic_vit, vit_masks
    from tests.predict.models import VIT_SMALL

    wide = replace(VIT_SMALL, dim=160, heads=1)
    drawn = VitDrawn((0.5,) * 3, (1.0,) * 3, (True,) * 3, (True,) * 3)
    path = tmp_path / "wide.onnx"
    onnx.save(synthetic_vit(wide, vit_masks(wide, drawn, 0), 0), path)
    found = _json(capsys, "predict", path, "--device", "nano")
    assert {block["execution"] for block in found["schedule"]["blocks"]} == {"dense"}
    assert "do not cover" in found["schedule"]["blocks"][0]["reason"]
    assert main(["predict", str(path), "--device", "nano", "--sweep"]) == 2
    assert "nothing to sweep" in capsys.readouterr().err


def test_what_has_no_model_says_so(other_family, tmp_path, capsys):
    data = yaml.safe_load(Path(load_profile("cpu").path).read_text())
    data["calibration"] = {**data["calibration"], "version": VERSION, "families": {}}
    path = tmp_path / "none.yaml"
    path.write_text(yaml.safe_dump(data))
    assert main(["predict", str(other_family), "--device", str(path)]) == 2
    assert "no latency model of LAUD-" in capsys.readouterr().err


def test_networks_without_dynamic_blocks_are_not_predicted(tmp_path, capsys):
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "plain", [x], [y])
    path = tmp_path / "plain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    assert main(["predict", str(path), "--device", "nano"]) == 2
    assert "no dynamic blocks" in capsys.readouterr().err


def test_calibration_images_decide(tiny_onnx, calibrated, photos, tmp_path, capsys, native):
    options = ["--device", calibrated, "--calibrate-images", photos, "-o", tmp_path / "a.laudc"]
    data = _json(capsys, "build-engine", tiny_onnx, *options)
    assert data["manifest"]["schedule"]["predicted"]["activation"] == "3 calibration images"
    assert main(
        ["build-engine", str(tiny_onnx), "--calibrate-images", str(photos), "--activation", "0.5", "-o", "x.laudc"]
    ) == 2  # fmt: skip
    assert "given twice" in capsys.readouterr().err


def test_traces_of_the_portable_model_are_the_engines(tiny_onnx, tiny_engine, photos, tmp_path, capsys):
    import onnx

    from laudc.engine.trace import trace_images
    from laudc.files import sha256_file
    from laudc.predict.activation import load_activation
    from laudc.schedule.blocks import Graph
    from laudc.schedule.plan import block_records

    stats = tmp_path / "stats.json"
    assert main(["profile", str(tiny_engine), "--images", str(photos), "--runs", "1",
                 "--save-activation", str(stats)]) == 0  # fmt: skip
    model = onnx.load(tiny_onnx)
    digest = sha256_file(tiny_onnx)
    traced = trace_images(model, digest, [photos])
    measured = load_activation(stats, block_records(Graph(model), 64), digest)
    assert traced.images == measured.images == 3
    assert all((traced.masks[name] == mask).all() for name, mask in measured.masks.items())


def test_schedules_can_be_forced(tiny_onnx, calibrated, tmp_path, capsys, native):
    for choice in ("dense", "sparse"):
        data = _json(
            capsys, "build-engine", tiny_onnx, "--device", calibrated, "--schedule", choice, "-o", tmp_path / "a.laudc"
        )
        assert {block["execution"] for block in data["manifest"]["schedule"]["blocks"]} == {choice}
        assert data["manifest"]["schedule"]["predicted"]["latency"]["mean_us"] > 0


def test_fail_over(tiny_onnx, calibrated, tmp_path, capsys, native):
    data = yaml.safe_load(Path(calibrated).read_text())
    for fit in data["calibration"]["families"][RESNET]["fits"]:
        fit["outside_ns"]["call"] = 1e12
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(data))
    engine = tmp_path / "a.laudc"
    assert main(["build-engine", str(tiny_onnx), "--device", calibrated, "-o", str(engine)]) == 0
    run = ["profile", str(engine), "--runs", "2", "--device"]
    assert main([*run, str(path), "--fail-over", "10"]) == 3
    assert "is off by" in capsys.readouterr().err
    assert main([*run, str(path), "--fail-over", "1e12"]) == 0


def test_statistics_of_another_model(tiny_onnx, calibrated, tmp_path, capsys, native):
    from laudc.predict.activation import activation_from_masks

    stats = tmp_path / "stats.json"
    stats.write_bytes(activation_from_masks({"a.mask_spatial": np.ones((1, 1, 1, 1))}, "x", "0" * 64).to_json())
    for verb in (["predict"], ["build-engine", "-o", str(tmp_path / "a.laudc")]):
        assert main([verb[0], str(tiny_onnx), "--activation", str(stats), "--device", calibrated, *verb[1:]]) == 2
        assert "another model" in capsys.readouterr().err
    assert not (tmp_path / "a.laudc").exists()


@pytest.mark.parametrize("batch", ["0", "-3"])
def test_impossible_batches(tiny_onnx, tmp_path, capsys, native, batch):
    assert main(["build-engine", str(tiny_onnx), "--batch", batch, "-o", str(tmp_path / "a.laudc")]) == 2
    assert "cannot run a batch" in capsys.readouterr().err


def test_search(capsys):
    data = _json(
        capsys, "search", "uni_resnet50", "--device", "nano", "--mode", "layer", "--rate", 0.5, "--input-size", 64
    )
    assert data["candidates"][0]["mode"] == "layer"
    assert main(["search", "resnet18"]) == 2
    assert "covers uni_resnet50, uni_resnet101, lad_regnet_y_400mf" in capsys.readouterr().err
    regnet = _json(
        capsys, "search", "lad_regnet_y_400mf", "--device", "nano", "--mode=spatial", "--rate=0.5", "--input-size=64"
    )
    assert len(regnet["candidates"][0]["spatial"]) == 4


def test_a_budget_that_nothing_keeps_is_a_failed_check(tmp_path, capsys):
    words = ["search", "--device", "nano", "--mode", "layer", "--rate", "0.5"]
    assert main([*words, "--budget-ms", "0.001", "--json", str(tmp_path / "found.json")]) == 3
    shown = capsys.readouterr()
    assert "1 configurations predicted, none within the budget." in shown.out
    assert "stays within 0.001 ms on nano" in shown.err and "(modelled, not measured)" in shown.err
    result = json.loads((tmp_path / "found.json").read_text())
    assert result["kind"] == "search" and not result["candidates"] and result["fastest_us"] > 1
    assert main([*words, "--budget-ms", "1e9"]) == 0
    assert main([*words, "--threads", "2"]) == 2
    assert "hreads are no matter of the device 'nano'" in capsys.readouterr().err


@pytest.mark.parametrize("base", ["cpu", "h200"])
def test_a_calibration_that_is_none_is_no_measurement(base, tmp_path, capsys):
    data = {**load_profile(base).data, "calibration": {"anything": 1}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(data, default=dict))))
    assert main(["devices", "show", str(path)]) == 2
    shown = capsys.readouterr()
    assert "calibration in the device profile" in shown.err and "cannot be used" in shown.err
    assert not shown.out


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"version": VERSION - 2}, "calibration cannot be used"),
        (None, "profile cannot be used"),
    ],
)
def test_an_unusable_profile_of_ones_own_is_listed_with_the_reason(
    calibrated, tmp_path, monkeypatch, capsys, change, status
):
    """As everybody has who calibrated with an earlier version: the others are listed all the same."""
    own = tmp_path / "own"
    own.mkdir()
    data = yaml.safe_load(Path(calibrated).read_text())
    data["calibration"] |= change or {}
    (own / "cpu.yaml").write_text("kind: [" if change is None else yaml.safe_dump(data))
    monkeypatch.setenv("LAUDC_DEVICES", str(own))
    listed = {device["id"]: device for device in _json(capsys, "devices")["devices"]}
    assert listed["cpu"]["status"] == status and listed["cpu"]["problem"]
    assert len(listed) == 8 and listed["nano"]["status"] == "modelled, not measured" and "problem" not in listed["nano"]
    assert main(["devices"]) == 0
    text = capsys.readouterr().out
    assert status in text and str(own / "cpu.yaml") in text and "v100" in text
    assert listed["cpu"]["problem"][1:] in text
    assert main(["devices", "show", "cpu"]) == 2


def test_the_shipped_calibration_is_shown(capsys):
    assert _json(capsys, "devices", "show", "cpu")["device"]["calibration"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fail-over", "-5"], "nothing can be checked with --fail-over -5"),
        (["--fail-over", "nan"], "nothing can be checked with --fail-over nan"),
        (["--min-speedup", "inf"], "nothing can be checked with --min-speedup inf"),
        (["--html", "nowhere/a.html"], "folder does not exist"),
        (["--html", "."], "it is a folder"),
        (["--json", "nowhere/a.json"], "folder does not exist"),
        (["--save-activation", "nowhere/a.json"], "folder does not exist"),
        (["--device", "nano"], "cannot be compared with a prediction for 'nano'"),
        (["--threads", "99999"], "1024 are the most"),
    ],
)
def test_bad_options_of_a_profile_are_told_before_it_measures(
    tiny_engine, tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    assert main(["profile", str(tiny_engine), *arguments]) == 2
    shown = capsys.readouterr()
    assert words.lower() in shown.err.lower()
    assert not shown.out and not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--html", "--json", "--save-activation"])
@pytest.mark.parametrize("source", ["engine", "image", "device"])
def test_a_profile_does_not_overwrite_what_it_is_made_from(
    tiny_engine, calibrated, photos, tmp_path, capsys, option, source
):
    copy = tmp_path / "copy.laudc"
    copy.write_bytes(tiny_engine.read_bytes())
    paths = {"engine": copy, "image": photos / "a.png", "device": Path(calibrated)}
    before = paths[source].read_bytes()
    words = ["profile", str(copy), "--images", str(paths["image"]), "--device", calibrated]
    assert main([*words, option, str(paths[source])]) == 2
    assert "would be lost" in capsys.readouterr().err
    assert paths[source].read_bytes() == before


def test_a_device_of_another_machine_is_looked_up_there(tiny_engine, tmp_path, monkeypatch):
    asked = {}

    def there(target, engine, images, **settings):
        asked.update(settings)
        raise UserError("nobody is there", "it is a test", "end it")

    monkeypatch.setattr("laudc.remote.profile_on_target", there)
    words = ["profile", str(tiny_engine), "--target", "ssh://nobody@127.0.0.1:1", "--device", "theirs.yaml"]
    assert main(words) == 2
    assert asked["device"] == "theirs.yaml"


def test_calibrate_says_what_is_wrong(tmp_path, capsys, native):
    assert main(["calibrate", "--networks", "2", "-o", str(tmp_path / "a.yaml")]) == 2
    assert "fewer than 18" in capsys.readouterr().err
    assert main(["calibrate", "--family", "vgg", "-o", str(tmp_path / "a.yaml")]) == 2
    assert "families vgg" in capsys.readouterr().err
    assert main(["calibrate", "--device", "v100", "-o", str(tmp_path / "a.yaml")]) == 2
    assert "cannot be calibrated here" in capsys.readouterr().err
    assert main(["calibrate", "--networks", "0", "-o", str(tmp_path / "a.yaml")]) == 2
    assert "with 0 networks" in capsys.readouterr().err


def test_calibrate_knows_at_once_that_it_could_not_write(tmp_path, capsys):
    (tmp_path / "file").touch()
    for path, why in ((tmp_path, "It is a folder"), (tmp_path / "file" / "a.yaml", "is a file, not a folder")):
        assert main(["calibrate", "-o", str(path)]) == 2
        assert why in capsys.readouterr().err


def test_an_interrupted_calibration_says_that_it_goes_on(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        (tmp_path / "a.yaml.part").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("laudc.calibrate.run.calibrate", interrupted)
    monkeypatch.setattr("laudc.calibrate.calibrate", interrupted)
    assert main(["calibrate", "-o", str(tmp_path / "a.yaml")]) == 130
    assert "the same command goes on from there" in capsys.readouterr().out

"""LAUD-T2T-ViT on the command line, from AdaViT's file to the report."""

import json

import pytest
import torch

from laudc.cli import main
from tests.laudnet.test_adavit import authors_file
from tests.laudnet.vit_models import vit_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small network in AdaViT's layout."""
    torch.set_num_threads(1)
    return authors_file(vit_model(), tmp_path_factory.mktemp("vit") / "vit.pth.tar")


@pytest.fixture(scope="module")
def engine(checkpoint, native):
    """The same as an engine for this machine."""
    portable, engine = checkpoint.with_suffix(".onnx"), checkpoint.with_suffix(".laudc")
    assert main(["export", str(checkpoint), "-o", str(portable), "-q"]) == 0
    # What a model fitted to some other CPU chooses for a network of three blocks is no matter of these tests.
    options = ["--device", "cpu", "--schedule", "sparse", "-o", str(engine), "-q"]
    assert main(["build-engine", str(portable), *options]) == 0
    return engine


def test_verify(engine, checkpoint, capsys):
    for target in (engine, engine.with_suffix(".onnx")):
        assert main(["verify", str(target), "--reference", str(checkpoint), "--json", "-"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["passed"]
        for run in report["runs"]:
            assert run["masks"]["decisions"] == 8 * (9 + 14 + 14) and run["masks"]["failures"] == 0
            assert run["logits"]["relative"] < 1e-5


def test_verify_finds_another_network(engine, tmp_path, capsys):
    other = authors_file(vit_model(seed=5), tmp_path / "other.pth.tar")
    assert main(["verify", str(engine), "--reference", str(other)]) == 3
    assert "does not compute what" in capsys.readouterr().err


def test_profile(engine, tmp_path, capsys):
    report = tmp_path / "report.html"
    arguments = ["profile", str(engine), "--runs", "3", "--threads", "1", "--against-dense", "--html", str(report)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "tokens" in text and "sublayers" in text and "patches" not in text
    assert main([*arguments, "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    first, second, _ = result["blocks"]
    assert 0 < first["token_rate"] < 1 and first["head_rate"] is None and first["spatial_rate"] is None
    assert 0 <= second["head_rate"] <= 1 and second["layer_rate"] is not None
    assert result["ideal_speedup"] > 1 and result["dense"]["speedup"] > 0
    assert all(block["dense"] is not None for block in result["blocks"])
    assert "sublayers" in report.read_text()


def test_inspect(engine, capsys):
    assert main(["inspect", str(engine)]) == 0
    assert "10 tokens" in capsys.readouterr().out
    assert main(["inspect", str(engine.with_suffix(".onnx"))]) == 0
    assert "3 dynamic blocks" in capsys.readouterr().out


def test_run(engine, photos, capsys):
    assert main(["run", str(engine), str(photos), "--top", "2", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_switches_of_another_family(checkpoint, tmp_path, capsys):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"arch": "laud_vit", "dyn_mode": ["spatial"] * 4}))
    arguments = ["export", str(checkpoint), "-o", str(tmp_path / "m.onnx"), "--config", str(config)]
    assert main(arguments) == 2
    assert "unknown field dyn_mode; known are arch, embed_dim" in capsys.readouterr().err

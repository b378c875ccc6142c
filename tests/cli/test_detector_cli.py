"""A detector from its checkpoint to pictures with what it found, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from laudc.cli import main
from tests.export.detector_files import CONFIGS, mmdetection_file, two_stage_detector

Capture = pytest.CaptureFixture[str]


def run_json(capsys: Capture, *arguments: str | Path) -> dict[str, Any]:
    """Runs a command that has to succeed; its JSON."""
    assert main([*map(str, arguments), "--json", "-"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize(("head", "mode"), [("faster_rcnn", "layer"), ("mask_rcnn", "channel")])
def test_from_checkpoint_to_pictures(
    head: str, mode: str, tmp_path: Path, photos: Path, native: None, capsys: Capture
) -> None:
    file = mmdetection_file(tmp_path / "detector.pth", two_stage_detector(mode, head))
    model, engine, drawn = tmp_path / "detector.onnx", tmp_path / "detector.laudc", tmp_path / "found"
    exported = run_json(capsys, "export", file, "-o", model, "--input-size", "96x128")
    assert [output["name"] for output in exported["model"]["outputs"]][:3] == ["boxes", "scores", "labels"]
    run_json(capsys, "build-engine", model, "-o", engine, "--device", "cpu")
    checked = run_json(capsys, "verify", engine, "--reference", file)
    assert checked["runs"][0]["detections"]["share"] <= 0.01
    found = run_json(capsys, "run", engine, photos, "--draw", drawn, "--score", "0.1")
    assert sorted(path.name for path in drawn.iterdir()) == ["0000-a.png", "0001-b.png", "0002-c.png"]
    for entry in found["results"]:
        assert entry["objects"]
        for thing in entry["objects"]:
            x1, y1, x2, y2 = thing["box"]
            assert 0 <= x1 < x2 <= 90 and 0 <= y1 < y2 <= 80 and thing["score"] >= 0.1
            assert ("mask" in thing) == (head == "mask_rcnn")
            if head == "mask_rcnn":
                assert thing["mask"]["size"] == [80, 90] and sum(thing["mask"]["counts"]) == 80 * 90
    measured = run_json(
        capsys, "profile", engine, "--images", photos, "--runs", "3", "--warmup", "1", "--against-dense"
    )
    assert len(measured["blocks"]) == 6
    run_json(capsys, "inspect", engine)
    predicted = run_json(capsys, "predict", model, "--device", "h200")
    assert predicted["schedule"]["predicted"]["batch"] == 1  # all that two stages take
    for verb in (["predict", str(model)], ["build-engine", str(model), "-o", str(tmp_path / "two.laudc")]):
        assert main([*verb, "--batch", "2"]) == 2
        assert "It takes exactly 1. Use --batch 1." in capsys.readouterr().err


def test_a_configuration_beside_the_checkpoint(tmp_path: Path, capsys: Capture) -> None:
    file, config = tmp_path / "bare.pth", tmp_path / "mask_rcnn_laud.py"
    torch.save(two_stage_detector("layer", "mask_rcnn").state_dict(), file)
    arguments = ["export", str(file), "-o", str(tmp_path / "model.onnx"), "--input-size", "64x96"]
    assert main(arguments) == 2
    assert "--config" in capsys.readouterr().err and not (tmp_path / "model.onnx").exists()
    assert main([*arguments, "--config", str(config)]) == 2
    assert "cannot read" in capsys.readouterr().err.lower()
    config.write_text(CONFIGS["mask_rcnn"])
    assert main([*arguments, "--config", str(config)]) == 0

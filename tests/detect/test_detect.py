"""Boxes from RetinaNet's outputs, and pictures of them."""

from __future__ import annotations

import json
from pathlib import Path

import laudnet
import numpy as np
import pytest
import torch
from PIL import Image

import laudc
from laudc.cli import main
from laudc.detect.boxes import Detection, overlaps, suppress
from laudc.detect.drawing import draw
from laudc.detect.retinanet import anchors_of, decode, detect
from laudc.errors import UserError
from tests.export.models import small_detector

SIZE = (96, 128)


def test_anchors_are_those_of_mmdetection() -> None:
    """Its published base anchors of stride 8: ratio 0.5, 1, 2 (height over width), octaves 1, 2^1/3, 2^2/3."""
    first = anchors_of(SIZE)[0][:9]
    np.testing.assert_allclose(first[0], [-22.6274, -11.3137, 22.6274, 11.3137], atol=1e-3)
    np.testing.assert_allclose(first[3], [-16, -16, 16, 16], atol=1e-4)
    np.testing.assert_allclose(first[5], [-25.3984, -25.3984, 25.3984, 25.3984], atol=1e-3)
    assert [len(level) for level in anchors_of(SIZE)] == [9 * n for n in (192, 48, 12, 4, 1)]
    # The second position is a stride to the right, the first of the next row a stride below.
    np.testing.assert_allclose(anchors_of(SIZE)[0][9] - first[0], [8, 0, 8, 0], atol=1e-4)
    np.testing.assert_allclose(anchors_of(SIZE)[0][9 * 16] - first[0], [0, 8, 0, 8], atol=1e-4)


def test_decoding() -> None:
    anchors = np.array([[10, 10, 30, 50]], np.float32)
    same = decode(anchors, np.zeros((1, 4), np.float32), SIZE)
    np.testing.assert_allclose(same, anchors)
    moved = decode(anchors, np.array([[0.5, 0, np.log(2), 0]], np.float32), SIZE)
    np.testing.assert_allclose(moved, [[10, 10, 50, 50]], atol=1e-4)
    huge = decode(anchors, np.array([[0, 0, 100, 100]], np.float32), SIZE)
    np.testing.assert_allclose(huge, [[0, 0, 128, 96]])


def test_suppression() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30], [0, 0, 10, 4]], np.float32)
    np.testing.assert_allclose(overlaps(boxes[0], boxes), [1, 0.8, 0, 0.4])
    assert suppress(boxes, np.array([0.5, 0.9, 0.1, 0.2], np.float32), 0.5) == [1, 3, 2]
    assert suppress(boxes[:0], np.zeros(0, np.float32), 0.5) == []


def test_the_anchor_that_fires_is_found() -> None:
    levels = anchors_of(SIZE)
    total = sum(map(len, levels))
    logits, deltas = np.full((total, 3), -9, np.float32), np.zeros((total, 4), np.float32)
    at = 9 * (16 * 5 + 7) + 3
    logits[at, 2] = 2
    logits[at + 9, 2] = 1  # its neighbour overlaps and goes; another class at the same place stays
    logits[at, 1] = 1
    found = detect(logits, deltas, SIZE, 0.3)
    assert [(d.label, round(d.score, 3)) for d in found] == [(2, 0.881), (1, 0.731)]
    np.testing.assert_allclose(found[0].box, levels[0][at].clip(0))
    assert detect(logits, deltas, SIZE, 0.95) == []
    with pytest.raises(UserError, match="anchors"):
        detect(logits[:-1], deltas[:-1], SIZE, 0.3)


def test_drawing_leaves_the_picture_alone() -> None:
    image = Image.new("RGB", (60, 40), "white")
    drawn = draw(image, [Detection((5.0, 5.0, 30.0, 20.0), 1, 0.5)], ["a", "b"])
    assert drawn.size == image.size and np.asarray(image).min() == 255
    assert np.asarray(drawn)[5, 20].tolist() != [255, 255, 255]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, native: None) -> Path:
    path = tmp_path_factory.mktemp("detector") / "retina.laudc"
    model = small_detector("channel", "fpn", "retinanet")
    laudc.build_engine(laudc.export(model, input_size=SIZE), path)
    return path


def test_run_draws(engine: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found"
    arguments = ["run", str(engine), str(photos), "--score", "0", "--draw", str(out), "--json", "-"]
    assert main(arguments) == 0
    data = json.loads(capsys.readouterr().out)
    assert [Path(entry["drawn"]).name for entry in data["results"]] == [f"{i:04d}-{n}.png" for i, n in enumerate("abc")]
    for entry in data["results"]:
        assert 0 < len(entry["objects"]) <= 100
        for found in entry["objects"]:
            x1, y1, x2, y2 = found["box"]
            assert 0 <= x1 < x2 <= 90 and 0 <= y1 < y2 <= 80


def test_feature_maps_cannot_be_shown(
    tmp_path: Path, photos: Path, native: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "neck.laudc"
    laudc.build_engine(laudc.export(small_detector("layer", "fpn", "none"), input_size=SIZE), path)
    assert main(["run", str(path), str(photos)]) == 2
    assert "feature maps (p3, p4, p5, p6, p7)" in capsys.readouterr().err


def test_detections_are_those_of_torch(engine: Path) -> None:
    """The engine's outputs lead to the objects that the network's own outputs lead to."""
    model = small_detector("channel", "fpn", "retinanet")
    x = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = detect(*(y[0].numpy() for y in model.outputs(x)), SIZE, 0.02)
    with laudc.load_engine(engine) as loaded:
        found = detect(*(y[0] for y in loaded(x.numpy())), SIZE, 0.02)
    assert len(found) == len(wanted) > 0
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.label == theirs.label
        np.testing.assert_allclose(ours.box, theirs.box, atol=1e-2)
    assert isinstance(model, laudnet.LaudDetector)

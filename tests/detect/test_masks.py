"""Masks in the pixels of a picture, and as run lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from laudc.detect import decoder_of
from laudc.detect.boxes import Detection
from laudc.detect.drawing import draw
from laudc.detect.masks import paste, run_lengths
from laudc.errors import UserError


def paste_by_definition(mask: np.ndarray, box: tuple[float, ...], size: tuple[int, int]) -> np.ndarray:
    """MMDetection's: sample the mask at every pixel's middle with grid_sample."""
    x1, y1, x2, y2 = box
    rows = (torch.arange(size[0]) + 0.5 - y1) / (y2 - y1) * 2 - 1
    columns = (torch.arange(size[1]) + 0.5 - x1) / (x2 - x1) * 2 - 1
    grid = torch.stack([columns.expand(size[0], -1), rows[:, None].expand(-1, size[1])], -1)
    found = F.grid_sample(torch.from_numpy(mask)[None, None], grid[None], align_corners=False)
    return found[0, 0].numpy()


@pytest.mark.parametrize("box", [(3.2, 4.1, 40.7, 31.5), (-8.0, -3.5, 20.0, 60.0), (10.0, 10.0, 10.6, 11.2)])
def test_pasting(box: tuple[float, float, float, float]) -> None:
    mask = np.random.default_rng(1).random((28, 28), np.float32)
    size = (37, 45)
    probability, ours = paste_by_definition(mask, box, size), paste(mask, box, size)
    clear = np.abs(probability - 0.5) > 1e-4
    np.testing.assert_array_equal(ours[clear], (probability >= 0.5)[clear])


def test_pasting_nothing() -> None:
    mask = np.ones((2, 2), np.float32)
    for box in ((50.0, 50.0, 60.0, 60.0), (5.0, 5.0, 5.0, 9.0), (-9.0, -9.0, -1.0, -1.0)):
        assert not paste(mask, box, (20, 20)).any()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_run_lengths_tell_every_pixel(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).random((height, width)) < 0.5
    found = run_lengths(pixels)
    assert found["size"] == [height, width] and sum(found["counts"]) == height * width
    inside = np.arange(len(found["counts"])) % 2 == 1
    np.testing.assert_array_equal(np.repeat(inside, found["counts"]).reshape(width, height).T, pixels)
    assert all(count > 0 for count in found["counts"][1:])


def test_masks_are_drawn() -> None:
    pixels = np.zeros((40, 60), bool)
    pixels[10:20, 10:30] = True
    image = Image.new("RGB", (60, 40), "white")
    drawn = np.asarray(draw(image, [Detection((8.0, 8.0, 32.0, 22.0), 0, 0.9, pixels)], ["a"]))
    assert (drawn[pixels] != 255).any(axis=1).mean() > 0.9 and (drawn[30:] == 255).all()


def test_outputs_to_objects() -> None:
    decoder = decoder_of(["boxes", "scores", "labels", "masks"], {})
    assert decoder is not None
    boxes, masks = np.arange(12, dtype=np.float32).reshape(3, 4), np.zeros((3, 2, 2), np.float32)
    found = decoder([boxes, np.array([0.9, 0.4, 0], np.float32), np.array([2, 0, 0]), masks], (9, 9), 0.0)
    assert [(d.label, round(d.score, 3), d.box) for d in found] == [(2, 0.9, (0, 1, 2, 3)), (0, 0.4, (4, 5, 6, 7))]
    assert found[0].mask is not None and found[0].mask.shape == (2, 2)
    assert decoder_of(["logits"], {}) is None
    with pytest.raises(UserError, match="makes no sense"):
        decoder_of(["cls_logits", "box_deltas"], {"rules": {"anchors": {"sizes": 3}}})

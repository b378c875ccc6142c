"""Box arithmetic against definitions written as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laudnet.boxes import anchors_of, decode, longer_than, roi_align, suppress
from laudnet.detector_rules import AnchorRule, usual_rules

from laudc.detect.boxes import suppress as suppress_numpy
from laudc.detect.retinanet import anchors_of as anchors_numpy


def bilinear(x: np.ndarray, row: float, column: float) -> np.ndarray:
    """x (C, H, W) at one place; zero beyond a pixel outside, border values up to there."""
    height, width = x.shape[1:]
    if not (-1 <= row <= height and -1 <= column <= width):
        return np.zeros(len(x))
    row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    top, left = int(row), int(column)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = row - top, column - left
    above = x[:, top, left] * (1 - across) + x[:, top, right] * across
    below = x[:, bottom, left] * (1 - across) + x[:, bottom, right] * across
    return above * (1 - down) + below * down


def roi_align_by_definition(
    x: np.ndarray, box: np.ndarray, cells: int, scale: float, sampling: int, aligned: bool
) -> np.ndarray:
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (np.float32(side) * np.float32(scale) - np.float32(shift) for side in box)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, np.float32(1)), max(height, np.float32(1))
    down, across = (sampling or max(1, math.ceil(np.float32(side) / cells)) for side in (height, width))
    result = np.zeros((len(x), cells, cells))
    for i in range(cells):
        for j in range(cells):
            for a in range(down):
                for b in range(across):
                    row = y1 + height / cells * (i + (a + 0.5) / down)
                    column = x1 + width / cells * (j + (b + 0.5) / across)
                    result[:, i, j] += bilinear(x, float(row), float(column)) / (down * across)
    return result


@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align(sampling: int, aligned: bool) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((3, 13, 21)).astype(np.float32)
    corners = random.uniform(-10, 90, (12, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)
    boxes = np.concatenate([boxes, [[0, 0, 84, 52], [10, 10, 10.5, 10.5], [200, 200, 240, 260]]]).astype(np.float32)
    found = roi_align(torch.from_numpy(x), torch.from_numpy(boxes), 3, 0.25, sampling, aligned)
    wanted = [roi_align_by_definition(x, box, 3, 0.25, sampling, aligned) for box in boxes]
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-5)
    assert roi_align(torch.from_numpy(x), torch.zeros(0, 4), 3, 0.25, sampling, aligned).shape == (0, 3, 3, 3)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.sampled_from([0.3, 0.5, 0.7]), st.integers(0, 1000))
def test_suppression_is_that_of_the_engine_side(count: int, overlap: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.integers(0, 12, (count, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1).reshape(count, 4)
    scores = random.permutation(count).astype(np.float32)
    kept = suppress(torch.from_numpy(boxes), torch.from_numpy(scores), overlap).tolist()
    assert kept == suppress_numpy(boxes, scores, overlap)


def test_anchors_are_those_of_the_engine_side() -> None:
    size = (101, 163)
    maps = [tuple(-(-side // (8 << level)) for side in size) for level in range(5)]
    found = anchors_of(usual_rules("retinanet").anchors, maps, [8, 16, 32, 64, 128], size)
    for ours, theirs in zip(found, anchors_numpy(size), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4)


def test_measured_strides_and_rounded_sides() -> None:
    rule = AnchorRule(((30.0,),), (0.5, 1.0), rounded=True, strides="measured")
    (found,) = anchors_of(rule, [(3, 2)], [64], (101, 163))
    assert found[0].tolist() == [-21, -11, 21, 11] and found[1].tolist() == [-15, -15, 15, 15]
    assert (found[2] - found[0]).tolist() == [81, 0, 81, 0] and (found[4] - found[0]).tolist() == [0, 33, 0, 33]


def test_decoding_and_lengths() -> None:
    boxes = torch.tensor([[10.0, 10, 30, 50]])
    moved = decode(boxes, torch.tensor([[0.5, 0, math.log(2), 0]]), (96, 128))
    assert torch.allclose(moved, torch.tensor([[10.0, 10, 50, 50]]))
    assert decode(boxes, torch.tensor([[0.0, 0, 100, 100]]), (96, 128)).tolist() == [[0, 0, 128, 96]]
    assert longer_than(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 0], [3, 3, 3, 3]]), 0).tolist() == [True, False, False]

"""Answers to queries as objects."""

from __future__ import annotations

import numpy as np
import pytest

from laudc.detect import class_count, decoder_of
from laudc.detect.masks import paste
from laudc.detect.queries import detect_boxes, detect_masks
from laudc.engine.manifest import TensorRecord

SIZE = (40, 80)


def test_masks_become_instances() -> None:
    logits = np.full((3, 4), -5, np.float32)
    logits[0, 1], logits[1, 2], logits[2, 3] = 5, 3, 9  # the last class is "nothing"
    masks = np.full((3, 10, 20), -4, np.float32)
    masks[0, 2:5, 3:9] = 4
    masks[1, 6:8, 10:12] = 1
    found = detect_masks(logits, masks, SIZE, 0.1)
    assert [(d.label, d.box) for d in found] == [(1, (12.0, 8.0, 36.0, 20.0)), (2, (40.0, 24.0, 48.0, 32.0))]
    inside = 1 / (1 + np.exp(-4))
    assert found[0].score == pytest.approx(inside / (1 + 3 * np.exp(-10)), rel=1e-4)
    assert found[0].mask is not None
    # The part that is kept shows what the whole map shows; stretching rounds the corners of both.
    whole = paste(1 / (1 + np.exp(-masks[0])), (0.0, 0.0, 80.0, 40.0), SIZE)
    np.testing.assert_array_equal(paste(found[0].mask, found[0].box, SIZE), whole)
    assert whole[9:19, 13:35].all() and np.count_nonzero(whole) > 0.9 * 12 * 24
    assert detect_masks(logits, masks, SIZE, 0.999) == []


def test_boxes_are_scaled_and_clipped() -> None:
    logits = np.array([[-9, 2], [1, -9]], np.float32)
    boxes = np.array([[0.5, 0.5, 0.5, 0.5], [0.1, 0.9, 0.4, 0.4]], np.float32)
    found = detect_boxes(logits, boxes, SIZE, 0.3)
    assert [d.label for d in found] == [1, 0]
    np.testing.assert_allclose([d.box for d in found], [[20, 10, 60, 30], [0, 28, 24, 40]], atol=1e-4)
    assert [d.score for d in found] == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))])


def test_outputs_say_how_many_classes_there_are() -> None:
    def records(*outputs: tuple[str, tuple[int, ...]]) -> list[TensorRecord]:
        return [TensorRecord(name, "float32", shape) for name, shape in outputs]

    config = {"num_classes": 7}
    assert class_count(records(("class_logits", (1, 9, 6)), ("mask_logits", (1, 9, 4, 4))), config) == 5
    assert class_count(records(("query_logits", (1, 9, 6)), ("query_boxes", (1, 9, 4))), config) == 6
    found = records(("boxes", (1, 9, 4)), ("scores", (1, 9)), ("labels", (1, 9)))
    assert class_count(found, config) == 7
    assert all(decoder_of(names, {}) for names in (["class_logits", "mask_logits"], ["query_logits", "query_boxes"]))

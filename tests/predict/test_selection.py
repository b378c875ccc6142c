"""Work that depends on what is found, counted and bounded."""

from __future__ import annotations

import numpy as np
import pytest

from laudc.predict.selection import (
    Level,
    RegionReading,
    Suppression,
    amounts_of,
    count_found,
    most_amounts,
    most_found,
    regions_and_objects,
)

NMS = Suppression("nms", lists=2, boxes=4, most=3, above=0.5, scores="scores", chosen="chosen")


def _reading(**changes: object) -> RegionReading:
    fields: dict[str, object] = {
        "name": "roi", "regions": 10, "channels": 8, "cells": (7, 7), "sampling": 0, "at_least_one": False,
        "levels": (Level(100, 150, 0.25, "fine"), Level(50, 75, 0.125, "coarse")),
    }  # fmt: skip
    return RegionReading(**{**fields, **changes})  # type: ignore[arg-type]


def test_suppression_counts_candidates_and_what_stays() -> None:
    scores = np.array([[[0.9, 0.8, 0.7, 0.1]], [[0.6, 0.4, 0.3, 0.2]]])
    chosen = np.array([[0, 0, 0], [0, 0, 2], [1, 0, 0]])
    counts = NMS.count({"scores": scores, "chosen": chosen})
    assert counts == {"nms.candidates": 4, "nms.kept": 3, "nms.compared": 3 * 2 // 2 + 1 * 1 // 2}
    everything = Suppression("nms", 2, 4, 3, None, "scores", "chosen")
    assert everything.count({"scores": scores, "chosen": chosen})["nms.candidates"] == 8


def test_classes_are_lists_too() -> None:
    per_class = Suppression("nms", lists=4, boxes=2, most=2, above=0.0, scores="scores", chosen="chosen")
    scores, chosen = np.ones((2, 2, 2)), np.array([[0, 1, 0], [0, 1, 1], [1, 0, 0]])
    counts = per_class.count({"scores": scores, "chosen": chosen})
    assert (counts["nms.kept"], counts["nms.compared"]) == (3, 2 * 2 // 2 + 2 * 1 // 2)


def test_samples_follow_the_size_of_regions() -> None:
    # 56 x 84 pixels are 14 x 21 positions of the fine level, two by three in each cell.
    boxes = {"fine": np.array([[0.0, 0.0, 84.0, 56.0]] * 3), "coarse": np.zeros((0, 4))}
    counts = _reading().count(boxes)
    assert counts["roi.sampled"] == 3 * 2 * 3 * 49 * 8
    assert _reading(sampling=2).count(boxes)["roi.sampled"] == 3 * 4 * 49 * 8
    nothing = {"fine": np.zeros((1, 4)), "coarse": np.zeros((1, 4))}
    assert _reading().count(nothing)["roi.sampled"] == 0
    assert _reading(at_least_one=True).count(nothing)["roi.sampled"] == 2 * 49 * 8


def test_what_was_read_before_is_not_brought_from_memory_again() -> None:
    large = _reading(channels=1024, levels=(Level(100, 150, 0.25, "fine"),))
    one, many = (
        large.count({"fine": np.array([[0.0, 0.0, 84.0, 56.0]] * n)})["roi.touched"] for n in (1, 1000)
    )
    assert one == pytest.approx(15 * 22 * 1024, rel=0.02)
    assert many == pytest.approx(100 * 150 * 1024, rel=0.01)
    # Of small maps little comes from memory.
    small = _reading(channels=8, levels=(Level(100, 150, 0.25, "fine"),))
    assert small.count({"fine": np.array([[0.0, 0.0, 84.0, 56.0]])})["roi.touched"] < 0.02 * 15 * 22 * 8


def test_no_image_asks_for_more_than_the_most() -> None:
    random = np.random.default_rng(0)
    reading = _reading()
    for _ in range(20):
        side = random.uniform(5, 112, (10, 1))
        corner = random.uniform(0, 200, (10, 2))
        boxes = np.concatenate([corner, corner + side], axis=1)
        counts = reading.count({"fine": boxes, "coarse": np.zeros((0, 4))})
        most = reading.most_amounts(1)
        assert counts["roi.sampled"] <= most.sampled[0] and counts["roi.touched"] <= most.touched[0]
    most = NMS.most_amounts(2)
    assert most.candidates.tolist() == [8, 8] and most.compared.tolist() == [2 * 4 * 3 // 2] * 2


def test_what_is_not_counted_is_taken_at_its_most() -> None:
    found = {"roi.sampled": np.array([5, 7]), "roi.touched": np.array([1, 2])}
    amounts = amounts_of([NMS, _reading()], found, 2)
    assert amounts.sampled.tolist() == [5, 7]
    assert amounts.candidates.tolist() == [8, 8]
    assert most_amounts([]).compared.tolist() == [0]
    values = {"scores": np.zeros((2, 1, 4)), "chosen": np.zeros((0, 3), int)}
    assert set(count_found([NMS], values)) == set(NMS.counts)


def test_proposals_and_detections_for_people() -> None:
    proposals = Suppression("rpn", 1, 500, 500, None, "a", "b")
    objects = Suppression("box", 80, 100, 20, 0.05, "c", "d", of_regions=True)
    boxes, masks = _reading(regions=100), _reading(name="masks", regions=20)
    graph = [proposals, objects, boxes, masks]
    assert most_found(graph) == {"proposals": 100, "detections": 20}
    assert most_found([proposals, objects, boxes]) == {"proposals": 100, "detections": 20}
    assert most_found([proposals]) == {}
    found = {"rpn.kept": np.array([50, 300]), "box.kept": np.array([3, 90])}
    shown = regions_and_objects(graph, found)
    assert {name: counts.tolist() for name, counts in shown.items()} == {"proposals": [50, 100], "detections": [3, 20]}
    assert regions_and_objects(graph, {}) == {}

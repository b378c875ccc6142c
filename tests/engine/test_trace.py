"""What a detector finds, counted while it runs."""

from __future__ import annotations

import numpy as np
import pytest

from laudc.engine.trace import trace_found, trace_images
from laudc.export import export
from laudc.predict.frame import frame_of_model, selecting_of
from laudc.predict.selection import regions_and_objects
from tests.export.detector_files import two_stage_detector
from tests.export.models import noise, small_detector
from tests.ops.runtimes import run_onnxruntime

SIZE = (101, 163)


@pytest.fixture(scope="module")
def model():
    return export(two_stage_detector("layer", "mask_rcnn"), input_size=SIZE)


def test_detections_are_those_of_the_outputs(model) -> None:
    images = [noise(1, 3, *SIZE, seed=seed).numpy() for seed in (0, 1)]
    found = trace_found(model, images)
    shown = regions_and_objects(selecting_of(frame_of_model(model)), found)
    outputs = [run_onnxruntime(model, {"input": image}) for image in images]
    assert shown["detections"].tolist() == [int((scores > 0).sum()) for _, scores, *_ in outputs]
    assert (shown["proposals"] > 0).all() and (shown["proposals"] <= 1000).all()
    assert all(len(counts) == 2 for counts in found.values())


def test_samples_are_those_of_the_regions(model) -> None:
    """Against the rule written out: every region is read from one level, cells as many positions as they have."""
    image = noise(1, 3, *SIZE).numpy()
    boxes = run_onnxruntime(model, {"input": image})[0][0]
    sides = boxes[:, 2:] - boxes[:, :2]
    level = np.clip(np.floor(np.log2(np.sqrt(sides.prod(axis=1)) / 56.0 + 1e-6)), 0, 3)
    per_side = np.ceil(sides / (4 * 2**level)[:, None] / 14)
    expected = int(per_side.prod(axis=1).sum()) * 14 * 14 * 32
    assert trace_found(model, [image])["roi_head.mask_head.roi.features.sampled"].tolist() == [expected]


def test_one_stage_selects_nothing() -> None:
    retinanet = export(small_detector("channel", "fpn", "retinanet"), input_size=(64, 64))
    assert trace_found(retinanet, [noise(1, 3, 64, 64).numpy()]) == {}


def test_calibration_images_say_what_is_found(model, photos) -> None:
    activation = trace_images(model, "a" * 64, [photos])
    assert activation.found and all(len(counts) == activation.images for counts in activation.found.values())
    # Outputs of the detector are no masks.
    assert all(".mask_" in name for name in activation.masks)

"""Made-up detectors: what their graphs say of themselves is what they compute."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from laudc.calibrate.design import draw_detectors
from laudc.calibrate.frames import found_of, frame_of
from laudc.calibrate.synthetic import synthetic_image, synthetic_network
from laudc.engine.trace import trace_found
from laudc.predict.frame import Frame, selecting_of
from laudc.predict.selection import amounts_of


@pytest.fixture(scope="module", params=range(4))
def design(request):
    """One that is large in each of its parts."""
    return draw_detectors(4)[request.param]


@pytest.fixture(scope="module")
def model(design) -> onnx.ModelProto:
    return synthetic_network(design.blueprint, design.drawn, design.index, tail=design.tail)


def test_the_graph_is_portable_and_counted_whole(design, model) -> None:
    onnx.checker.check_model(model, full_check=True)
    frame = frame_of(design)
    assert isinstance(frame, Frame)
    behind, tail = frame.behind, design.tail
    assert behind.left_out == ()
    features = tail.channels * 49
    layers = tail.width * (features + tail.width + 5 * tail.classes + 1)
    assert behind.products == tail.regions * layers
    assert behind.spread == tail.mask_regions * 14**2 * tail.channels**2 * 4
    assert behind.ranked == tail.side**2 * tail.scores


def test_what_is_found_is_what_was_drawn(design, model) -> None:
    images = [synthetic_image(design.blueprint.input_size, seed) for seed in (1, 2)]
    found = trace_found(model, images)
    tail = design.tail
    assert found["nms.candidates"].tolist() == [tail.lists * tail.boxes] * 2
    assert found["nms.kept"].tolist() == [tail.lists * tail.kept] * 2
    assert found["box.roi.sampled"].tolist() == [tail.regions * tail.samples**2 * 49 * tail.channels] * 2
    frame, assumed = frame_of(design), found_of(design)
    traced = amounts_of(selecting_of(frame), found, 2)
    assert assumed is not None
    np.testing.assert_allclose(assumed.sampled, traced.sampled[:1])
    np.testing.assert_allclose(assumed.touched, traced.touched[:1])
    np.testing.assert_allclose(assumed.compared, traced.compared[:1], rtol=0.5, atol=tail.lists * tail.boxes)

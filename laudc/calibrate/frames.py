"""Stem and head of a made-up network, as the latency models need them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from laudc.calibrate.design import Design
from laudc.calibrate.synthetic import Drawn, synthetic_network
from laudc.calibrate.synthetic_detector import GIVEN
from laudc.calibrate.synthetic_vit import synthetic_vit
from laudc.predict.frame import AnyFrame, Frame, VitFrame, frame_of_model, selecting_of
from laudc.predict.selection import Amounts, RegionReading, amounts_of, count_found
from laudc.predict.vit_blueprint import VitBlueprint

if TYPE_CHECKING:
    import onnx


def frame_of(design: Design) -> AnyFrame:
    """The frame of a design; that of a detector is read from its graph, that of a transformer too, made with one small
    block."""
    blueprint = design.blueprint
    if design.tail is not None:
        return frame_of_model(_detector(design))
    if not isinstance(blueprint, VitBlueprint):
        return Frame.of_blueprint(blueprint)
    one = replace(blueprint, hidden=(blueprint.heads,), token=(False,), head=(False,), layer=(False,))
    return VitFrame.of_model(synthetic_vit(one, {}, 0))


def found_of(design: Design) -> Amounts | None:
    """What a made-up detector finds in every image, None of other designs. Its regions are given; of its boxes as many
    stay as its graph allows."""
    from onnx import numpy_helper

    if design.tail is None:
        return None
    model = _detector(design)
    given = {
        tensor.name.replace(GIVEN, ".output"): numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.endswith(GIVEN)
    }
    selecting = selecting_of(frame_of_model(model))
    counted = count_found([one for one in selecting if isinstance(one, RegionReading)], given)
    return amounts_of(selecting, {name: np.asarray([number]) for name, number in counted.items()}, 1)


def _detector(design: Design) -> onnx.ModelProto:
    assert not isinstance(design.blueprint, VitBlueprint) and isinstance(design.drawn, Drawn)
    return synthetic_network(design.blueprint, design.drawn, design.index, tail=design.tail)

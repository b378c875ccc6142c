"""Stem and head of a made-up network, as the latency models need them."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from laudc.calibrate.design import Design
from laudc.calibrate.synthetic import Drawn, synthetic_network
from laudc.calibrate.synthetic_detector import GIVEN
from laudc.calibrate.synthetic_vit import synthetic_vit
from laudc.predict.architectures import AnyBlueprint
from laudc.predict.frame import AnyFrame, Frame, VitFrame, frame_of_model, selecting_of
from laudc.predict.selection import Amounts, RegionReading, Suppression, amounts_of, count_found
from laudc.predict.vit_blueprint import VitBlueprint


def frame_of(design: Design) -> AnyFrame:
    """The frame of a design; that of a detector is read from its graph, that of a transformer too, made with one small
    block."""
    return frame_of_blueprint(design.blueprint) if design.tail is None else _detector(design)[0]


def frame_of_blueprint(blueprint: AnyBlueprint) -> AnyFrame:
    """The frame of a described network without a detector's parts."""
    if not isinstance(blueprint, VitBlueprint):
        return Frame.of_blueprint(blueprint)
    return _vit_frame(replace(blueprint, hidden=(blueprint.heads,), token=(False,), head=(False,), layer=(False,)))


@functools.cache
def _vit_frame(one_block: VitBlueprint) -> VitFrame:
    """Read from a graph, which is made once for all policies."""
    return VitFrame.of_model(synthetic_vit(one_block, {}, 0))


def found_of(design: Design) -> Amounts | None:
    """What a made-up detector finds in every image, None of other designs: its regions are given, and which of its
    boxes overlap."""
    return None if design.tail is None else _detector(design)[1]


@functools.cache
def _detector(design: Design) -> tuple[AnyFrame, Amounts]:
    """The frame of a detector and what it finds: its graph is made once for all numbers of threads."""
    from onnx import numpy_helper

    assert not isinstance(design.blueprint, VitBlueprint) and isinstance(design.drawn, Drawn)
    assert design.tail is not None
    model = synthetic_network(design.blueprint, design.drawn, design.index, tail=design.tail)
    frame = frame_of_model(model)
    given = {
        tensor.name.replace(GIVEN, ".output"): numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.endswith(GIVEN)
    }
    selecting = selecting_of(frame)
    counted = count_found([one for one in selecting if isinstance(one, RegionReading)], given)
    for one in selecting:
        if isinstance(one, Suppression):
            counted |= dict(zip(one.counts, one.kept_of_each(design.tail.kept), strict=True))
    return frame, amounts_of(selecting, {name: np.asarray([number]) for name, number in counted.items()}, 1)

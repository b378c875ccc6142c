"""Stem and head of a made-up network, as the latency models need them."""

from __future__ import annotations

from dataclasses import replace

from laudc.calibrate.design import Design
from laudc.calibrate.synthetic_vit import synthetic_vit
from laudc.predict.frame import AnyFrame, Frame, VitFrame
from laudc.predict.vit_blueprint import VitBlueprint


def frame_of(design: Design) -> AnyFrame:
    """The frame of a design; that of a transformer is read from its graph, made with one small block."""
    blueprint = design.blueprint
    if not isinstance(blueprint, VitBlueprint):
        return Frame.of_blueprint(blueprint)
    one = replace(blueprint, hidden=(blueprint.heads,), token=(False,), head=(False,), layer=(False,))
    return VitFrame.of_model(synthetic_vit(one, {}, 0))

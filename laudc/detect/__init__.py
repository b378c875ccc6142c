"""From a detector's outputs to boxes and masks, and both on a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from laudc.detect import retinanet, second_stage
from laudc.detect.boxes import Detection
from laudc.detect.rules import OneStageRules

if TYPE_CHECKING:
    from numpy.typing import NDArray

    #: (outputs for one image, (height, width) of the network's input, least score) → objects, best first.
    Decoder = Callable[[Sequence[NDArray[Any]], tuple[int, int], float], list[Detection]]

__all__ = ["Detection", "decoder_of"]


def decoder_of(outputs: Sequence[str], config: Mapping[str, Any]) -> Decoder | None:
    """How the outputs of an engine become detections; None for an engine that is no detector.

    Args:
        outputs: names of the engine's outputs; config: its configuration, from the manifest.
    """
    if retinanet.is_retinanet(outputs):
        rules = OneStageRules.from_config(config)
        return lambda values, size, score: retinanet.detect(values[0], values[1], size, score, rules)
    if second_stage.has_found(outputs):
        return lambda values, size, score: second_stage.detect(values, score)
    return None

"""From a detector's outputs to boxes and masks, and both on a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from laudc.detect import queries, retinanet, second_stage
from laudc.detect.boxes import Detection
from laudc.detect.rules import OneStageRules

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from laudc.engine.manifest import TensorRecord

    #: (outputs for one image, (height, width) of the network's input, least score) → objects, best first.
    Decoder = Callable[[Sequence[NDArray[Any]], tuple[int, int], float], list[Detection]]

__all__ = ["Detection", "class_count", "decoder_of"]


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
    if queries.answers_with_masks(outputs):
        return lambda values, size, score: queries.detect_masks(values[0], values[1], size, score)
    if queries.answers_with_boxes(outputs):
        return lambda values, size, score: queries.detect_boxes(values[0], values[1], size, score)
    return None


def class_count(outputs: Sequence[TensorRecord], config: Mapping[str, Any]) -> int:
    """Classes of a detector with these outputs and this configuration."""
    names, last = [output.name for output in outputs], int(outputs[0].shape[-1])
    if queries.answers_with_masks(names):
        return last - 1
    known = config.get("num_classes")
    return known if second_stage.has_found(names) and isinstance(known, int) else last

"""From a detector's outputs to boxes, and boxes on a picture."""

from __future__ import annotations

from laudc.detect.boxes import Detection
from laudc.detect.retinanet import detect, is_retinanet

__all__ = ["Detection", "detect", "is_retinanet"]

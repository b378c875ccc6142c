"""Torch definitions of LAUDNet's dynamic networks (LAUDNet, TPAMI 2024), their checkpoints and training."""

from .config import LaudConfig
from .maskers import nearest_index
from .resnet import BlockTrace, Bottleneck, LaudResNet, Trace, build_model, trace

__all__ = [
    "BlockTrace",
    "Bottleneck",
    "LaudConfig",
    "LaudResNet",
    "Trace",
    "build_model",
    "nearest_index",
    "trace",
]

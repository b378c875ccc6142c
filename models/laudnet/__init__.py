"""Torch definitions of LAUDNet dynamic networks (LAUDNet, TPAMI 2024): models, checkpoints, traces, training."""

from .config import LaudConfig
from .maskers import nearest_index
from .resnet import BlockTrace, Bottleneck, LaudResNet, Trace, build_model, trace

__all__ = ["BlockTrace", "Bottleneck", "LaudConfig", "LaudResNet", "Trace", "build_model", "nearest_index", "trace"]

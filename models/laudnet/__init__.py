"""Torch definitions of LAUDNet's dynamic networks (LAUDNet, TPAMI 2024), their checkpoints and training."""

from .checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from .config import LaudConfig
from .errors import CheckpointError
from .hyper_set import read_config_from_hyper_set
from .maskers import nearest_index
from .resnet import BlockTrace, Bottleneck, LaudResNet, Trace, build_model, trace

__all__ = [
    "BlockTrace",
    "Bottleneck",
    "CheckpointError",
    "LaudConfig",
    "LaudResNet",
    "LoadedCheckpoint",
    "Trace",
    "build_model",
    "load_checkpoint",
    "nearest_index",
    "read_config_from_hyper_set",
    "save_checkpoint",
    "trace",
]

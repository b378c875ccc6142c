"""Torch definitions of LAUDNet's dynamic networks (LAUDNet, TPAMI 2024), their checkpoints and training."""

from .checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from .config import DynamicConfig, LaudConfig
from .errors import CheckpointError
from .families import build_model, config_from_dict
from .hyper_set import read_config_from_hyper_set
from .maskers import nearest_index
from .network import BlockTrace, DynamicBlock, DynamicNetwork, Trace, trace
from .regnet import LaudRegNet, RegNetBlock
from .regnet_config import RegNetConfig
from .resnet import Bottleneck, LaudResNet

__all__ = [
    "BlockTrace",
    "Bottleneck",
    "CheckpointError",
    "DynamicBlock",
    "DynamicConfig",
    "DynamicNetwork",
    "LaudConfig",
    "LaudRegNet",
    "LaudResNet",
    "LoadedCheckpoint",
    "RegNetBlock",
    "RegNetConfig",
    "Trace",
    "build_model",
    "config_from_dict",
    "load_checkpoint",
    "nearest_index",
    "read_config_from_hyper_set",
    "save_checkpoint",
    "trace",
]

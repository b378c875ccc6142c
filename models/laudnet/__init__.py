"""Torch definitions of LAUDNet's dynamic networks (LAUDNet, TPAMI 2024), their checkpoints and training."""

from .checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from .config import DynamicConfig, LaudConfig
from .detector import LaudDetector
from .detector_config import DetectorConfig
from .errors import CheckpointError
from .families import AnyConfig, AnyNetwork, build_model, config_from_dict
from .hyper_set import read_config_from_hyper_set
from .maskers import nearest_index
from .network import BlockTrace, DynamicBlock, DynamicNetwork, Trace, trace
from .regnet import LaudRegNet, RegNetBlock
from .regnet_config import RegNetConfig
from .resnet import Bottleneck, LaudResNet
from .vit import LaudVit, VitBlockTrace
from .vit_config import VitConfig

__all__ = [
    "AnyConfig",
    "AnyNetwork",
    "BlockTrace",
    "Bottleneck",
    "CheckpointError",
    "DetectorConfig",
    "DynamicBlock",
    "DynamicConfig",
    "DynamicNetwork",
    "LaudConfig",
    "LaudDetector",
    "LaudRegNet",
    "LaudResNet",
    "LaudVit",
    "LoadedCheckpoint",
    "RegNetBlock",
    "RegNetConfig",
    "Trace",
    "VitBlockTrace",
    "VitConfig",
    "build_model",
    "config_from_dict",
    "load_checkpoint",
    "nearest_index",
    "read_config_from_hyper_set",
    "save_checkpoint",
    "trace",
]

"""Small laudnet models whose masks are neither empty nor full, for the tests of export and verify."""

from __future__ import annotations

import laudnet
import torch
from torch import nn

MODES: dict[str, dict[str, object]] = {
    "channel": {"dyn_mode": ("channel",) * 4, "channel_masker_layers": (1, 2, 1, 2)},
    "channel_conv": {"dyn_mode": ("channel",) * 4, "channel_masker": ("conv_linear",) * 4},
    "layer": {"dyn_mode": ("layer",) * 4, "spatial_mask_channel_group": (1, 2, 1, 4)},
    "spatial": {"dyn_mode": ("spatial",) * 4, "mask_spatial_granularity": (4, 2, 1, 1)},
    "uneven": {
        "dyn_mode": ("spatial",) * 4,
        "mask_spatial_granularity": (3, 3, 2, 1),
        "spatial_mask_channel_group": (2, 4, 1, 1),
    },
    "both": {
        "dyn_mode": ("both",) * 4,
        "mask_spatial_granularity": (4, 4, 2, 1),
        "channel_dyn_granularity": (2, 4, 8, 1),
        "channel_masker_layers": (2, 1, 2, 1),
    },
    "mixed": {"dyn_mode": ("both", "channel", "spatial", "layer"), "mask_spatial_granularity": (2, 1, 2, 1)},
    "grouped": {"dyn_mode": ("both",) * 4, "groups": 2, "mask_spatial_granularity": (4, 4, 2, 1)},
    "dilated": {
        "dyn_mode": ("both",) * 4,
        "mask_spatial_granularity": (4, 4, 4, 2),
        "replace_stride_with_dilation": (False, True, True),
    },
}


#: RegNetY has no small form: the smallest published one, for small images.
REGNET_MODES: dict[str, dict[str, object]] = {
    "regnet_channel": {"dyn_mode": ("channel",) * 4, "channel_masker_layers": (1, 2, 1, 2)},
    "regnet_spatial": {
        "dyn_mode": ("spatial",) * 4,
        "mask_spatial_granularity": (4, 2, 2, 1),
        "spatial_mask_channel_group": (1, 2, 1, 4),
    },
    "regnet_both": {
        "dyn_mode": ("both",) * 4,
        "mask_spatial_granularity": (3, 2, 1, 1),
        "channel_dyn_granularity": (2, 4, 8, 1),
        "channel_masker": ("MLP", "conv_linear", "MLP", "MLP"),
    },
    "regnet_active": {"dyn_mode": ("both", "spatial", "both", "channel"), "se_pool": "active"},
}


def small_regnet(mode: str, seed: int = 0) -> laudnet.LaudRegNet:
    """A seeded RegNetY-400MF for 64-pixel images, in eval mode."""
    torch.manual_seed(seed)
    config = laudnet.RegNetConfig.for_arch(
        "lad_regnet_y_400mf", input_size=64, num_classes=10, reduction_ratio=(4,) * 4, **REGNET_MODES[mode]
    )
    model = laudnet.LaudRegNet(config)
    randomise(model, seed)
    return model


def small_detector(mode: str, neck: str, head: str, seed: int = 0, **options: object) -> laudnet.LaudDetector:
    """A seeded detector on a small backbone, in eval mode."""
    torch.manual_seed(seed)
    small: dict[str, object] = {
        "layers": (1, 2, 2, 1),
        "width_mult": 0.125,
        "dyn_mode": (mode,) * 4,
        "channel_dyn_granularity": (2,) * 4,
        "neck": neck,
        "head": head,
        "stages": (1, 2, 3),
        "neck_channels": 32,
        "num_classes": 7,
        "head_depth": 2,
    }
    model = laudnet.LaudDetector(laudnet.DetectorConfig.for_arch("laud_detector", **{**small, **options}))
    randomise(model, seed)
    return model


def small_config(mode: str, **options: object) -> laudnet.LaudConfig:
    """A network of six blocks for 64-pixel images."""
    small: dict[str, object] = {
        "layers": (1, 2, 2, 1),
        "width_mult": 0.25,
        "input_size": 64,
        "num_classes": 10,
        "reduction_ratio": (4,) * 4,
    }
    return laudnet.LaudConfig.for_arch("laud_resnet", **{**small, **MODES[mode], **options})


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms statistics as after training, and maskers biases that make them choose."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                for values, low, high in (
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.5, 0.5),
                    (module.running_mean, -0.3, 0.3),
                    (module.running_var, 0.5, 2.0),
                ):
                    values.copy_(torch.rand(values.shape, generator=generator) * (high - low) + low)
            elif ".masker_" in name and getattr(module, "bias", None) is not None:
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator))
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.3)
    return model.eval()


def small_model(mode: str, seed: int = 0, **options: object) -> laudnet.LaudResNet:
    """A seeded model of `small_config` in eval mode."""
    torch.manual_seed(seed)
    model = laudnet.build_model(small_config(mode, **options))
    randomise(model, seed)
    return model


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Seeded normal noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

"""Small LAUD-T2T-ViTs whose policies neither keep nor drop everything, for the tests of all stages."""

from __future__ import annotations

import laudnet
import torch

VARIANTS: dict[str, dict[str, object]] = {
    "all": {},
    "token": {"ada_head": False, "ada_layer": False},
    "token_attention_only": {"ada_head": False, "ada_layer": False, "ada_token_with_mlp": False},
    "head": {"ada_token": False, "ada_token_with_mlp": False, "ada_layer": False},
    "layer": {"ada_token": False, "ada_token_with_mlp": False, "ada_head": False},
    "head_outputs": {"ada_head_v2": True},
    "head_values": {"ada_head_attn": True, "ada_token_with_mlp": False},
    "late": {"norm_policy": True, "keep_layers": 2, "ada_token_start_layer": 1},
    "patches": {
        "tokens_to_token": False,
        "token_dim": 64,
        "patch_size": 8,
        "qkv_bias": True,
        "layer_norm_eps": 1e-6,
    },
    "uneven": {"embed_dim": 60, "num_heads": 3, "mlp_ratio": 2.0, "qk_scale": 0.3},
    "wide": {"embed_dim": 160, "num_heads": 2, "mlp_ratio": 1.5, "depth": 2},
}


def vit_config(variant: str = "all", **options: object) -> laudnet.VitConfig:
    """A network of three blocks and ten tokens."""
    small: dict[str, object] = {
        "embed_dim": 48,
        "depth": 3,
        "num_heads": 3,
        "token_dim": 12,
        "input_size": 48,
        "num_classes": 7,
    }
    return laudnet.VitConfig.for_arch("laud_vit", **{**small, **VARIANTS[variant], **options})


def vit_model(variant: str = "all", seed: int = 0, **options: object) -> laudnet.LaudVit:
    """A seeded model of `vit_config` in eval mode."""
    torch.manual_seed(seed)
    model = laudnet.LaudVit(vit_config(variant, **options)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "pos_embed" or name.endswith(".w"):
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise * 0.7 / parameter.shape[-1] ** 0.5)
            else:
                parameter.add_(noise * (0.2 if "norm" in name else 0.1))
            if "token_select" in name and name.endswith("bias"):
                parameter.add_(0.3)  # the threshold lies above zero
    return model


def images(model: laudnet.LaudVit, batch: int, seed: int = 0) -> torch.Tensor:
    """Seeded normal noise of the size that the model takes."""
    size = model.config.input_size
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))

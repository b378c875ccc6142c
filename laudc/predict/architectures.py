"""The published architectures of LAUDNet's families, as descriptions whose masks are still open."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from laudc.predict.blueprint import ARCHITECTURES, Blueprint
from laudc.predict.regnet_blueprint import RegNetBlueprint
from laudc.predict.vit_blueprint import VitBlueprint

AnyBlueprint = Blueprint | RegNetBlueprint | VitBlueprint

_REGNETS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...], int]] = MappingProxyType(
    {  # blocks and channels of every stage, channels per group of conv b
        "lad_regnet_y_400mf": ((1, 3, 6, 6), (48, 104, 208, 440), 8),
        "lad_regnet_y_800mf": ((1, 3, 8, 2), (64, 144, 320, 784), 16),
        "lad_regnet_y_1_6gf": ((2, 6, 17, 2), (48, 120, 336, 888), 24),
    }
)
_VITS: Mapping[str, tuple[int, int, int, int, bool]] = MappingProxyType(
    {  # features of a token, heads, blocks, hidden units of the MLP per feature, Tokens-to-Token stem
        "ada_step_t2t_vit_14_lnorm": (384, 6, 14, 3, True),
        "ada_step_t2t_vit_19_lnorm": (448, 7, 19, 3, True),
        "ada_step_deit_tiny_patch16_224": (192, 3, 12, 4, False),
        "ada_step_deit_small_patch16_224": (384, 6, 12, 4, False),
        "ada_step_deit_base_patch16_224": (768, 12, 12, 4, False),
    }
)
PUBLISHED = (*ARCHITECTURES, *_REGNETS, *_VITS)


def published(arch: str, input_size: int = 224, width_mult: float = 1.0) -> AnyBlueprint:
    """The architecture of that name, one of PUBLISHED, every mask as its description has it by default.

    Args:
        arch: its name.
        input_size: side of the square image in pixels. width_mult: scales all channels of a ResNet.
    """
    if arch in ARCHITECTURES:
        return Blueprint(layers=ARCHITECTURES[arch], input_size=input_size, width_mult=width_mult)
    if arch in _REGNETS:
        layers, widths, group_width = _REGNETS[arch]
        one = (1,) * len(layers)
        modes = ("channel",) * len(layers)
        return RegNetBlueprint(layers, widths, group_width, modes, one, one, input_size=input_size)
    dim, heads, depth, ratio, t2t = _VITS[arch]
    never = (False,) * depth
    hidden = (ratio * dim,) * depth
    return VitBlueprint(dim, heads, hidden, never, never, never, t2t=t2t, input_size=input_size)

"""What a LAUD-T2T-ViT is: AdaViT's switches and the sizes of the transformer they act on.

Option names and meanings follow AdaViT (CVPR 2022), authors' code semantics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

_MOST_BLOCKS = 512  # far above any real network; keeps a hostile file from asking for an endless one
_MOST_FEATURES = 1 << 16

_T2T_14 = {"embed_dim": 384, "depth": 14, "num_heads": 6}
_T2T_19 = {"embed_dim": 448, "depth": 19, "num_heads": 7}
_DEIT = {
    "depth": 12,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "layer_norm_eps": 1e-6,
    "tokens_to_token": False,
}

#: Sizes of the published architectures.
VIT_ARCHS: dict[str, dict[str, Any]] = {
    "ada_step_t2t_vit_14_lnorm": _T2T_14,
    "ada_step_t2t_vit_19_lnorm": _T2T_19,
    "ada_step_deit_tiny_patch16_224": {**_DEIT, "embed_dim": 192, "num_heads": 3},
    "ada_step_deit_small_patch16_224": {**_DEIT, "embed_dim": 384, "num_heads": 6},
    "ada_step_deit_base_patch16_224": {**_DEIT, "embed_dim": 768, "num_heads": 12},
}
#: The one architecture name whose sizes are free (small networks for tests and experiments).
CUSTOM_VIT = "laud_vit"
#: Pixels per token side of the Tokens-to-Token stem: its soft splits have strides 4, 2 and 2.
T2T_PATCH = 16


@dataclass(frozen=True)
class VitConfig:
    """Constructor arguments of a LAUD-T2T-ViT, or of a plain ViT (DeiT) with the same policies.

    arch: a key of VIT_ARCHS, whose sizes are then fixed, or 'laud_vit'.
    embed_dim, depth, num_heads, mlp_ratio, qkv_bias, layer_norm_eps: of the transformer.
    qk_scale: factor on the scores; None is head_dim ** -0.5.
    tokens_to_token: the T2T stem (performer); else patches of patch_size pixels. token_dim: inside the T2T stem.
    ada_head: heads are chosen. What becomes of a dropped one: nothing is left of it and fc1 ignores its
        features; with ada_head_v2, fc1 instead leaves out its share of the hidden units; with ada_head_attn it
        passes its values through and the MLP is full.
    ada_layer: attention and MLP are chosen. keep_layers: first blocks that choose neither heads nor sublayers.
    ada_token: tokens are chosen in attention, from block ada_token_start_layer on; with ada_token_with_mlp the
        MLP follows the same choice. The class token always stays.
    norm_policy: the choice of heads and sublayers reads a normalised class token.
    input_size: side of the square input in pixels.

    Defaults of the switches are those of the published runs (all three policies). Raises ValueError, naming
    the field, for anything the network could not be built with; a value of the wrong type too.
    """

    has_spatial_masks: ClassVar[bool] = True  # token masks, and embedded positions: the input size is fixed
    #: Policies, which combine freely.
    MODES: ClassVar[tuple[str, ...]] = ("token", "head", "layer")
    #: Blocks of each published architecture, and names of those whose sizes are free.
    DEPTHS: ClassVar[Mapping[str, tuple[int, ...]]] = {name: (sizes["depth"],) for name, sizes in VIT_ARCHS.items()}
    FREE_DEPTH: ClassVar[tuple[str, ...]] = (CUSTOM_VIT,)

    arch: str = "ada_step_t2t_vit_19_lnorm"
    embed_dim: int = 448
    depth: int = 19
    num_heads: int = 7
    mlp_ratio: float = 3.0
    qkv_bias: bool = False
    qk_scale: float | None = None
    layer_norm_eps: float = 1e-5
    tokens_to_token: bool = True
    token_dim: int = 64
    patch_size: int = T2T_PATCH
    ada_head: bool = True
    ada_head_v2: bool = False
    ada_head_attn: bool = False
    ada_layer: bool = True
    keep_layers: int = 1
    ada_token: bool = True
    ada_token_with_mlp: bool = True
    ada_token_start_layer: int = 0
    norm_policy: bool = False
    input_size: int = 224
    num_classes: int = 1000

    def __post_init__(self) -> None:
        self._check_types()
        self._check_sizes()
        self._check_switches()
        self._check_arch()

    @classmethod
    def for_arch(cls, arch: str, **options: Any) -> VitConfig:
        """Configuration of a named architecture; its sizes follow from the name."""
        return cls(arch=arch, **{**VIT_ARCHS.get(arch, {}), **options})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VitConfig:
        """Inverse of `to_dict`; ValueError for unknown names. A named arch may leave its sizes out."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(str(key) for key in data if key not in known)
        if unknown:
            raise ValueError(f"configuration: unknown field {', '.join(unknown)}; known are {', '.join(known)}")
        options = dict(data)
        return cls.for_arch(options.pop("arch", cls.arch), **options)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types only."""
        return asdict(self)

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks; a transformer is one stage."""
        return (self.depth,)

    @property
    def head_dim(self) -> int:
        """Features per head."""
        return self.embed_dim // self.num_heads

    @property
    def hidden(self) -> int:
        """Hidden units of an MLP."""
        # A ratio that was computed from both sizes must give back the one it came from.
        return int(self.embed_dim * self.mlp_ratio + 1e-6)

    @property
    def scale(self) -> float:
        """Factor on the attention scores."""
        return self.head_dim**-0.5 if self.qk_scale is None else self.qk_scale

    @property
    def grid(self) -> int:
        """Tokens along one side of the image."""
        return self.input_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Tokens of an image, class token included."""
        return self.grid**2 + 1

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return (self.input_size, self.input_size)

    @property
    def preprocess(self) -> dict[str, Any]:
        """How AdaViT prepares images for evaluation, as far as it differs from LAUDNet: crop ratio 0.9, bicubic."""
        return {"resize": int(self.input_size / 0.9), "interpolation": "bicubic"}

    @property
    def is_dynamic(self) -> bool:
        """Whether anything is chosen per image."""
        return self.ada_head or self.ada_layer or self.ada_token

    def chooses_tokens(self, block: int) -> bool:
        """Whether block `block` chooses tokens."""
        return self.ada_token and block >= self.ada_token_start_layer

    def chooses_heads(self, block: int) -> bool:
        """Whether block `block` chooses heads."""
        return self.ada_head and block >= self.keep_layers

    def chooses_layers(self, block: int) -> bool:
        """Whether block `block` chooses among its two sublayers."""
        return self.ada_layer and block >= self.keep_layers

    def _check_types(self) -> None:
        for name in ("embed_dim", "num_heads", "token_dim", "patch_size", "input_size", "num_classes"):
            _integer(name, getattr(self, name), 1, _MOST_FEATURES)
        _integer("depth", self.depth, 1, _MOST_BLOCKS)
        _integer("keep_layers", self.keep_layers, 1, _MOST_BLOCKS)
        _integer("ada_token_start_layer", self.ada_token_start_layer, 0, _MOST_BLOCKS)
        for name in ("mlp_ratio", "layer_norm_eps", "qk_scale"):
            value = getattr(self, name)
            if name == "qk_scale" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e3:
                raise ValueError(f"{name}: expected a positive number, got {value!r}")
        for field in fields(self):
            if field.type == "bool" and not isinstance(getattr(self, field.name), bool):
                raise ValueError(f"{field.name}: expected true or false, got {getattr(self, field.name)!r}")

    def _check_sizes(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads: {self.num_heads} does not divide the {self.embed_dim} features of a token")
        if self.hidden < 1 or self.hidden % self.num_heads:
            raise ValueError(
                f"mlp_ratio: {self.mlp_ratio} gives {self.hidden} hidden units, which the {self.num_heads} heads "
                "cannot share"
            )
        if self.tokens_to_token and self.patch_size != T2T_PATCH:
            raise ValueError(f"patch_size: the T2T stem makes tokens of {T2T_PATCH} pixels, got {self.patch_size}")
        if self.tokens_to_token and self.token_dim < 2:
            raise ValueError("token_dim: the T2T stem needs at least 2 features per token")
        if self.input_size % self.patch_size:
            raise ValueError(f"input_size: {self.input_size} is not a multiple of {self.patch_size} pixels")

    def _check_switches(self) -> None:
        if self.ada_head_v2 and self.ada_head_attn:
            raise ValueError("ada_head_v2: it excludes ada_head_attn, which leaves the MLP full")
        for name in ("ada_head_v2", "ada_head_attn"):
            if getattr(self, name) and not self.ada_head:
                raise ValueError(f"{name}: it needs ada_head")
        if self.ada_token_with_mlp and not self.ada_token:
            raise ValueError("ada_token_with_mlp: it needs ada_token; say ada_token_with_mlp false as well")

    def _check_arch(self) -> None:
        if self.arch == CUSTOM_VIT:
            return
        if self.arch not in VIT_ARCHS:
            raise ValueError(f"arch: {self.arch!r} is not known; known are {', '.join([*VIT_ARCHS, CUSTOM_VIT])}")
        for name, wanted in VIT_ARCHS[self.arch].items():
            if getattr(self, name) != wanted:
                raise ValueError(
                    f"{name}: {self.arch} has {wanted}, got {getattr(self, name)}; use arch {CUSTOM_VIT!r} for other "
                    "sizes"
                )


def _integer(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: expected an integer from {low} to {high}, got {value!r}")

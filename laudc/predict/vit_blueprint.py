"""LAUD-T2T-ViTs by description, as `laudc.predict.blueprint` has LAUD-ResNets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from laudc.ops.packing import round_up
from laudc.ops.scheduled_vit import VitRecord

_PANEL_STEP = 16
PATCH = 16


@dataclass(frozen=True)
class VitBlueprint:
    """A transformer by description; per-block options have one entry for each block.

    dim, heads: features of a token and heads that share them. hidden: units of each block's MLP. token, head, layer:
    whether a block chooses tokens, heads, sublayers. tokens_in_mlp: whether the MLP follows the choice of tokens.
    dropped_heads, head_width: as the attributes of the semantic ops. t2t: the Tokens-to-Token stem with `token_dim`
    features, else one convolution. input_size: side of the square image, a multiple of 16 pixels.
    """

    dim: int
    heads: int
    hidden: tuple[int, ...]
    token: tuple[bool, ...]
    head: tuple[bool, ...]
    layer: tuple[bool, ...]
    tokens_in_mlp: bool = True
    dropped_heads: int = 0
    head_width: int = 1
    t2t: bool = True
    token_dim: int = 64
    input_size: int = 224
    num_classes: int = 1000

    @property
    def tokens(self) -> int:
        """Tokens of an image, the class token included."""
        return (self.input_size // PATCH) ** 2 + 1

    def with_policies(self, *, token: bool, head: bool, layer: bool) -> VitBlueprint:
        """The transformer with these policies in all blocks, except that the first one chooses neither heads nor
        sublayers, as in AdaViT."""
        later = len(self.hidden) - 1
        return replace(
            self,
            token=(token,) * len(self.hidden),
            head=(False, *(head,) * later),
            layer=(False, *(layer,) * later),
        )

    def blocks(self, panel: int = 64) -> list[tuple[str, VitRecord]]:
        """(module path, record) of every block."""
        return [(f"blocks.{index}", self._record(index, panel)) for index in range(len(self.hidden))]

    def _record(self, index: int, panel: int) -> VitRecord:
        chooses_heads = self.head[index]
        return VitRecord(
            tokens=self.tokens,
            dim=self.dim,
            heads=self.heads,
            hidden=self.hidden[index],
            token_policy=int(self.token[index]),
            tokens_in_mlp=int(self.token[index] and self.tokens_in_mlp),
            head_policy=int(chooses_heads),
            layer_policy=int(self.layer[index]),
            dropped_heads=self.dropped_heads if chooses_heads else 0,
            head_width=self.head_width if chooses_heads else 0,
            # The head reads the class token only.
            first_only=int(index == len(self.hidden) - 1),
            panel=min(panel, round_up(self.dim // self.heads, _PANEL_STEP)),
        )

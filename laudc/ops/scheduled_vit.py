"""The record that describes a transformer block of a scheduled run (`VitRun`).

The library reads the same records (`plugins/core/vit_desc.h`): the order of the fields is part of the file format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import ClassVar

VIT_RUN_OP = "VitRun"
# Features of the widest attention head that the GPU kernels take (plugins/cuda/attention.cuh).
WIDEST_GPU_HEAD = 128


@dataclass(frozen=True)
class VitRecord:
    """One transformer block of a run; see `plugins/core/vit_desc.h` for each field.

    `tokens` includes the class token. `dropped_heads` is a DroppedHead, `head_width` an MlpWidth
    (`laudc.ops.transformer`). `first_only`: nobody reads the block's output but for the first token. `panel`: columns
    of a weight panel.
    """

    tokens: int
    dim: int
    heads: int
    hidden: int
    token_policy: int = 0
    tokens_in_mlp: int = 0
    head_policy: int = 0
    layer_policy: int = 0
    norm_policy: int = 0
    dropped_heads: int = 0
    head_width: int = 0
    first_only: int = 0
    panel: int = 64
    reserved: int = 0

    #: The op that runs blocks with such records.
    RUN_OP: ClassVar[str] = VIT_RUN_OP

    @property
    def head_dim(self) -> int:
        """Features of a head."""
        return self.dim // self.heads

    @property
    def decisions(self) -> dict[str, int]:
        """Decisions per image by kind, in the order in which a run reports their margins."""
        numbers = {
            "token": (self.tokens - 1) * self.token_policy,
            "head": self.heads * self.head_policy,
            "layer": 2 * self.layer_policy,
        }
        return {kind: number for kind, number in numbers.items() if number}

    @property
    def margins(self) -> int:
        """Decisions per image."""
        return sum(self.decisions.values())


VIT_FIELDS = tuple(field.name for field in fields(VitRecord))


def encode_vit_blocks(records: Sequence[VitRecord]) -> list[int]:
    """The `blocks` attribute: all records, one after another."""
    return [int(value) for record in records for value in astuple(record)]

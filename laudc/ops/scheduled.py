"""Scheduled ops: the records that describe the blocks of a run, and the names of what a run reports.

The library reads the same records (`plugins/core/block_desc.h`): the order of the fields is part of the file format.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import ClassVar, TypeVar

from laudc.ops.spec import DOMAIN as DOMAIN

ABI_VERSION = 2
# Model metadata: which graph outputs describe which blocks. Lowering writes it, the backend reads it.
RUNS_KEY = "laudc.runs"

RUN_OP = "BottleneckRun"
REGNET_RUN_OP = "RegNetRun"
STEM_OP = "StemConvPool"
STEM_CONV_OP = "StemConv"
COUNTS_PER_BLOCK = 4


class ChannelMasker(enum.IntEnum):
    """How the channel mask of a block is decided."""

    NONE = 0
    LINEAR = 1
    MLP = 2
    CONV = 3


class Conv2Algorithm(enum.IntEnum):
    """How the 3×3 convolution of a block is computed."""

    DIRECT = 0
    WINOGRAD_2X2 = 1


@dataclass(frozen=True)
class BlockRecord:
    """One bottleneck block of a run; see `plugins/core/block_desc.h` for each field.

    `cin`, `width` and `cout` are channels, `hin` and `win` pixels of the block input. `mask_groups` 0: no spatial
    mask. `channel_groups` 0: no channel mask. `panel`: columns of a weight panel.
    """

    cin: int
    width: int
    cout: int
    stride: int
    hin: int
    win: int
    projection: int
    mask_groups: int = 0
    mask_h: int = 0
    mask_w: int = 0
    channel_groups: int = 0
    channel_masker: int = ChannelMasker.NONE
    masker_hidden: int = 0
    conv2_algorithm: int = Conv2Algorithm.DIRECT
    panel: int = 64
    reserved: int = 0

    #: The op that runs blocks with such records.
    RUN_OP: ClassVar[str] = RUN_OP

    @property
    def hout(self) -> int:
        """Rows of the block output."""
        return (self.hin - 1) // self.stride + 1

    @property
    def wout(self) -> int:
        """Columns of the block output."""
        return (self.win - 1) // self.stride + 1

    @property
    def conv3_parts(self) -> int:
        """Groups that conv3's weights are packed in: one per spatial mask group."""
        return max(1, self.mask_groups)

    @property
    def spatial_cells(self) -> int:
        """Spatial decisions per image."""
        return self.mask_groups * self.mask_h * self.mask_w

    @property
    def margins(self) -> int:
        """Decisions per image: spatial cells, then channel groups."""
        return self.spatial_cells + self.channel_groups


@dataclass(frozen=True)
class RegNetRecord(BlockRecord):
    """One RegNetY block of a run; see `plugins/core/regnet_desc.h`.

    `group`: convolution groups of conv b; `squeeze`: hidden channels of squeeze-excitation; `se_pool`: as the attribute
    of the semantic op.
    """

    group: int = 1
    squeeze: int = 1
    se_pool: int = 0

    RUN_OP: ClassVar[str] = REGNET_RUN_OP


_Record = TypeVar("_Record", bound=BlockRecord)
RECORDS: dict[str, type[BlockRecord]] = {kind.RUN_OP: kind for kind in (BlockRecord, RegNetRecord)}
BLOCK_FIELDS = tuple(field.name for field in fields(BlockRecord))


def encode_blocks(records: Sequence[BlockRecord]) -> list[int]:
    """The `blocks` attribute: all records, one after another."""
    return [int(value) for record in records for value in astuple(record)]


def decode_blocks(values: Sequence[int], kind: type[_Record] = BlockRecord) -> list[_Record]:  # type: ignore[assignment]
    """The records of one kind in a `blocks` attribute.

    Raises:
        ValueError: the number of values is not a multiple of the fields of a record.
    """
    size = len(fields(kind))
    if not values or len(values) % size:
        raise ValueError(f"{len(values)} values are not records of {size} fields")
    return [kind(*values[at : at + size]) for at in range(0, len(values), size)]

"""What is checked and measured: blocks of ResNet-101 in every mode, and the whole network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from laudc.ops.scheduled import BlockRecord, ChannelMasker

MODES = ("spatial", "layer", "channel", "both")
# (blocks, channels inside, channels out, pixels of a side of the output) of ResNet-101 at 224 x 224.
STAGES = ((3, 64, 256, 56), (4, 128, 512, 28), (23, 256, 1024, 14), (3, 512, 2048, 7))
# Side of a patch in output pixels; every stage has those that divide its map.
GRANULARITIES = (1, 2, 4, 7, 8)
CHANNEL_GROUP = 2
RATES = (0.5, 0.25, 0.75, 1.0)  # in the order in which they are wanted most
BATCHES = (1, 128)


@dataclass(frozen=True)
class Case:
    """One block in one mode. `granularity` is the patch side (spatial, both), else 0; `rate` what its masks keep.

    `first`: the block that begins the stage, with a projection and, but for the first stage, a stride.
    """

    stage: int
    mode: str
    granularity: int
    rate: float
    batch: int
    first: bool = False

    @property
    def name(self) -> str:
        """Short and unique."""
        grain = f" S{self.granularity}" if self.granularity else ""
        first = " first" if self.first else ""
        return f"stage{self.stage + 1}{first} {self.mode}{grain} {self.rate:.0%} batch {self.batch}"

    @property
    def record(self) -> BlockRecord:
        """The block's record."""
        return block_record(self.stage, self.mode, self.granularity, first=self.first)


def block_record(stage: int, mode: str, granularity: int, *, first: bool) -> BlockRecord:
    """A block of a stage; most are not `first`, and have an identity residual."""
    _, width, cout, side = STAGES[stage]
    stride = 2 if first and stage > 0 else 1
    cin = cout if not first else 64 if stage == 0 else STAGES[stage - 1][2]
    cells = {"spatial": side // max(1, granularity), "both": side // max(1, granularity), "layer": 1}.get(mode, 0)
    groups = CHANNEL_GROUPS[stage] if mode in ("channel", "both") else 0
    return BlockRecord(
        cin=cin,
        width=width,
        cout=cout,
        stride=stride,
        hin=side * stride,
        win=side * stride,
        projection=int(first),
        mask_groups=int(cells > 0),
        mask_h=cells,
        mask_w=cells,
        channel_groups=groups,
        channel_masker=ChannelMasker.LINEAR if groups else ChannelMasker.NONE,
    )


CHANNEL_GROUPS = tuple(width // CHANNEL_GROUP for _, width, _, _ in STAGES)


def granularities(stage: int, mode: str) -> tuple[int, ...]:
    """Patch sides that a mode has in a stage; 0 where it has no patches."""
    if mode not in ("spatial", "both"):
        return (0,)
    side = STAGES[stage][3]
    return tuple(grain for grain in GRANULARITIES if side % grain == 0 and grain < side)


def block_cases(*, quick: bool) -> Iterator[Case]:
    """Every stage, mode, granularity, rate and batch; with `quick` the middle of each."""
    for batch in BATCHES:
        for stage in (2,) if quick else range(len(STAGES)):
            for mode in MODES:
                grains = granularities(stage, mode)
                for grain in grains[-1:] if quick else grains:
                    for rate in (0.5,) if quick else RATES:
                        yield Case(stage, mode, grain, rate, batch)


def network_records(mode: str) -> list[BlockRecord]:
    """All blocks of ResNet-101 in forward order; patches of 4, 4, 2 and 1 pixels as in the authors' networks."""
    grains = (4, 4, 2, 1)
    return [
        block_record(stage, mode, grains[stage], first=index == 0)
        for stage, (blocks, *_) in enumerate(STAGES)
        for index in range(blocks)
    ]


def block_macs(record: BlockRecord) -> int:
    """Multiply-accumulates of the dense block for one image."""
    out = record.hout * record.wout
    conv1 = record.hin * record.win * record.cin * record.width
    projection = out * record.cin * record.cout * record.projection
    return conv1 + out * (9 * record.width**2 + record.width * record.cout) + projection

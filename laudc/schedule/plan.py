"""The plan: per block, who computes it and how, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from laudc.errors import UserError
from laudc.ops.scheduled import BlockRecord, ChannelMasker, Conv2Algorithm, RegNetRecord
from laudc.ops.scheduled_vit import VitRecord
from laudc.schedule.blocks import BlockNodes, Graph
from laudc.schedule.vit_blocks import VitBlock, vit_blocks, vit_record

if TYPE_CHECKING:
    import onnx

Record = BlockRecord | VitRecord

CHOICES = ("auto", "dense", "sparse")

_MASKER_KINDS = {
    "ChannelMaskerLinear": ChannelMasker.LINEAR,
    "ChannelMaskerMlp": ChannelMasker.MLP,
    "ChannelMaskerConv": ChannelMasker.CONV,
}

# Below this many output pixels the 16 transformed weight matrices cost more to read than the multiplications save
# (measured: 7x7 maps lose, 14x14 maps win, with channel masks too).
_WINOGRAD_MIN_PIXELS = 128


@dataclass(frozen=True)
class BlockPlan:
    """How one block runs.

    `execution` is "sparse" (our kernels, computing what the masks keep) or "dense" (the runtime's own operators compute
    everything, then mask). `record` is set for sparse blocks. `predicted` holds the predicted latency distribution in
    microseconds, where a latency model chose.
    """

    name: str
    execution: str
    reason: str
    record: Record | None = None
    predicted: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for manifests and reports."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """The schedule of a network; `blocks` in graph order. `panel`: columns of a weight panel.

    `predicted`: what the latency model expects of the whole network, and for which activation; None without a model.
    """

    choice: str
    panel: int
    blocks: tuple[BlockPlan, ...]
    predicted: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for manifests and reports."""
        return {
            "choice": self.choice,
            "panel": self.panel,
            "blocks": [block.to_dict() for block in self.blocks],
            "predicted": self.predicted,
        }


class Chooser(Protocol):
    """Decides by predicted cost. See `laudc.schedule.choose`."""

    def choose(self, plan: Plan, records: Mapping[str, Record]) -> Plan:
        """A plan at least as good as `plan`, which the rules made; `records` holds every block of the network, also
        those that the plan leaves to the runtime."""


def make_plan(model: onnx.ModelProto, *, choice: str = "auto", panel: int = 64, chooser: Chooser | None = None) -> Plan:
    """Decides for every block of a portable model.

    Args:
        choice: "sparse" gives every block our kernels cover to them, "dense" none; "auto" leaves it to `chooser`, and
            without one is the same as "sparse" where the kernels cover a block.
        panel: columns of a weight panel; the native library says which width its kernels prefer.
        chooser: decides by predicted cost what `choice` leaves open, and says what it expects.

    Raises:
        UserError: `choice` is unknown, or "sparse" is asked for a block that the kernels do not cover.
    """
    if choice not in CHOICES:
        raise UserError(f"unknown schedule '{choice}'", f"known are {', '.join(CHOICES)}", "use one of these")
    graph = Graph(model)
    blocks = [_plan_block(graph, block, choice, panel) for block in graph.blocks()]
    blocks += [_plan_vit_block(graph, block, choice, panel) for block in vit_blocks(graph)]
    plan = Plan(choice, panel, tuple(blocks))
    return plan if chooser is None else chooser.choose(plan, dict(block_records(graph, panel)))


def _plan_block(graph: Graph, block: BlockNodes, choice: str, panel: int) -> BlockPlan:
    dense = _why_dense(block.name, graph.why_not_native(block), choice)
    if dense is not None:
        return dense
    record = _record(graph, block, panel)
    return BlockPlan(block.name, "sparse", describe(record), record)


def block_records(graph: Graph, panel: int) -> list[tuple[str, Record]]:
    """(name, record) of all blocks as a plan has them, conv2 as the rules choose it."""
    records: list[tuple[str, Record]] = [(block.name, _record(graph, block, panel)) for block in graph.blocks()]
    return records + [(block.name, vit_record(graph, block, panel)) for block in vit_blocks(graph)]


def _plan_vit_block(graph: Graph, block: VitBlock, choice: str, panel: int) -> BlockPlan:
    dense = _why_dense(block.name, block.obstacle, choice)
    if dense is not None:
        return dense
    record = vit_record(graph, block, panel)
    return BlockPlan(block.name, "sparse", describe(record), record)


def _why_dense(name: str, obstacle: str, choice: str) -> BlockPlan | None:
    """The plan of a block that the runtime computes itself; None where our kernels do."""
    if choice == "dense":
        return BlockPlan(name, "dense", "asked for with --schedule dense")
    if obstacle and choice == "sparse":
        raise UserError(
            f"block {name} cannot be scheduled sparse",
            f"the kernels do not cover it: {obstacle}",
            "use --schedule auto, which leaves such blocks to the runtime",
        )
    return BlockPlan(name, "dense", f"not covered by the kernels: {obstacle}") if obstacle else None


def _record(graph: Graph, block: BlockNodes, panel: int) -> BlockRecord:
    first, last = block.weights[0], block.weights[-2]
    width, cin = graph.initializers[first].dims[:2]
    groups, mask_h, mask_w = block.spatial_mask
    masker = block.channel_masker
    kind = ChannelMasker.NONE if masker is None else _MASKER_KINDS[masker.op_type]
    hidden = 0
    if masker is not None and kind != ChannelMasker.LINEAR:
        hidden = graph.initializers[masker.input[1]].dims[0]
    record = BlockRecord(
        cin=cin,
        width=width,
        cout=graph.initializers[last].dims[0],
        stride=block.geometry.stride,
        hin=block.hin,
        win=block.win,
        projection=int(block.projection is not None),
        mask_groups=groups,
        mask_h=mask_h,
        mask_w=mask_w,
        channel_groups=block.channel_groups,
        channel_masker=kind,
        masker_hidden=hidden,
        panel=panel,
    )
    return _regnet_record(graph, block, record) if block.is_regnet else by_rule(record)


def _regnet_record(graph: Graph, block: BlockNodes, record: BlockRecord) -> RegNetRecord:
    squeeze = graph.initializers[block.weights[4]].dims[0]
    return RegNetRecord(**asdict(record), group=block.geometry.group, squeeze=squeeze, se_pool=block.se_pool)


def by_rule(record: BlockRecord) -> BlockRecord:
    """The record with conv2 as it runs where no latency model chooses."""
    from dataclasses import replace

    large = record.hout * record.wout >= _WINOGRAD_MIN_PIXELS
    winograd = record.stride == 1 and large and _keeps_tiles_whole(record)
    return replace(record, conv2_algorithm=Conv2Algorithm.WINOGRAD_2X2 if winograd else Conv2Algorithm.DIRECT)


def _keeps_tiles_whole(record: BlockRecord) -> bool:
    """Whether spatial masks are coarse enough that a kept pixel's 2×2 tile is mostly kept with it."""
    if record.mask_groups == 0:
        return True
    return record.hout >= 2 * record.mask_h and record.wout >= 2 * record.mask_w


def describe(record: Record) -> str:
    """What our kernels do with a block, in words."""
    if isinstance(record, VitRecord):
        return _vit_reason(record)
    parts = []
    if record.mask_groups:
        whole = record.mask_h == record.mask_w == 1
        parts.append("skips the block per image" if whole else "computes kept patches only")
    if record.channel_groups:
        parts.append("computes kept channels only")
    if isinstance(record, RegNetRecord):
        early = "squeeze-excitation over kept positions" if record.se_pool else "squeeze-excitation over all positions"
        return f"{' and '.join(parts)}; {early}"
    algorithm = "Winograd F(2x2)" if record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2 else "direct"
    return f"{' and '.join(parts)}; conv2 {algorithm}"


def _vit_reason(record: VitRecord) -> str:
    chosen = {"token": "tokens", "head": "heads", "layer": "sublayers"}
    *others, last = [chosen[kind] for kind in record.decisions] or ["everything"]
    kept = f"{', '.join(others)} and {last}" if others else last
    parts = [f"computes kept {kept} only" if record.decisions else "computes everything"]
    if record.first_only:
        parts.append("only the class token is read after it")
    return "; ".join(parts)

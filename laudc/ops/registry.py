"""All semantic ops by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laudc.ops.bottleneck import CHANNEL_BOTTLENECK, DYNAMIC_BOTTLENECK, SPATIAL_BOTTLENECK
from laudc.ops.channel_masker import CHANNEL_MASKER_CONV, CHANNEL_MASKER_LINEAR, CHANNEL_MASKER_MLP
from laudc.ops.policies import POLICY_MASKER, TOKEN_MASKER
from laudc.ops.regnet_block import CHANNEL_REGNET_BLOCK, DYNAMIC_REGNET_BLOCK, SPATIAL_REGNET_BLOCK
from laudc.ops.spatial_masker import SPATIAL_MASKER
from laudc.ops.spec import OpSpec
from laudc.ops.transformer import DYNAMIC_ATTENTION, DYNAMIC_MLP

if TYPE_CHECKING:
    import onnx

SEMANTIC: dict[str, OpSpec] = {
    spec.name: spec
    for spec in (
        SPATIAL_MASKER,
        CHANNEL_MASKER_LINEAR,
        CHANNEL_MASKER_MLP,
        CHANNEL_MASKER_CONV,
        SPATIAL_BOTTLENECK,
        CHANNEL_BOTTLENECK,
        DYNAMIC_BOTTLENECK,
        SPATIAL_REGNET_BLOCK,
        CHANNEL_REGNET_BLOCK,
        DYNAMIC_REGNET_BLOCK,
        TOKEN_MASKER,
        POLICY_MASKER,
        DYNAMIC_ATTENTION,
        DYNAMIC_MLP,
    )
}

MASKERS = frozenset(name for name in SEMANTIC if "Masker" in name)
BOTTLENECKS = frozenset(name for name in SEMANTIC if name.endswith("Bottleneck"))
REGNET_BLOCKS = frozenset(name for name in SEMANTIC if name.endswith("RegNetBlock"))
#: Residual blocks of all families: nodes with X, R, the masks and the weights as inputs, in this order.
BLOCKS = BOTTLENECKS | REGNET_BLOCKS
#: The node that makes a dynamic block's output, of any family. A transformer block is two nodes, attention and MLP.
BLOCK_ENDS = BLOCKS | {DYNAMIC_MLP.name}


@dataclass(frozen=True)
class BlockInputs:
    """The inputs of a block node by what they are; `masks` in the order channel, spatial as far as it has them."""

    x: str
    residual: str
    masks: Sequence[str]
    weights: Sequence[str]


def block_inputs(node: onnx.NodeProto) -> BlockInputs:
    """The inputs of a node whose op is in BLOCKS."""
    x, residual, *rest = node.input
    masks = sum(name in ("C", "M") for name in SEMANTIC[node.op_type].inputs)
    return BlockInputs(x, residual, rest[:masks], rest[masks:])

"""The op contract: semantic ops of the portable graph, packed layout of the scheduled ones, MAC counting."""

from __future__ import annotations

from laudc.ops.attributes import Geometry, node_attributes
from laudc.ops.contract import (
    attach_bodies,
    check_contract,
    known_shapes,
    model_opset,
    semantic_nodes,
    strip_bodies,
)
from laudc.ops.registry import (
    BLOCK_ENDS,
    BLOCKS,
    BOTTLENECKS,
    MASKERS,
    REGNET_BLOCKS,
    SEMANTIC,
    BlockInputs,
    block_inputs,
)
from laudc.ops.spec import DEFAULT_OPSET, DOMAIN, MAX_OPSET, MIN_OPSET, VERSION, OpSpec, ShapeError

__all__ = [
    "BLOCK_ENDS",
    "BLOCKS",
    "BOTTLENECKS",
    "BlockInputs",
    "DEFAULT_OPSET",
    "DOMAIN",
    "MASKERS",
    "MAX_OPSET",
    "MIN_OPSET",
    "SEMANTIC",
    "VERSION",
    "Geometry",
    "OpSpec",
    "REGNET_BLOCKS",
    "ShapeError",
    "attach_bodies",
    "block_inputs",
    "check_contract",
    "known_shapes",
    "model_opset",
    "node_attributes",
    "semantic_nodes",
    "strip_bodies",
]

"""Finds the layers between image and first block that the library runs as one op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from laudc.ops import node_attributes
from laudc.ops.scheduled import STEM_CONV_OP, STEM_OP
from laudc.schedule.blocks import Graph

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Stem:
    """op: the scheduled op that stands for the stem; conv: the node that holds its weights."""

    op: str
    conv: onnx.NodeProto


def find_stem(graph: Graph, value: str) -> Stem | None:
    """The stem that makes `value`: Conv 7×7 s2 → ReLU → max pool 3×3 s2 (ResNet) or Conv 3×3 s2 → ReLU (RegNet)."""
    last = graph.producers.get(value)
    if last is None:
        return None
    if last.op_type == "MaxPool" and _is_stem_pool(last) and _read_once(graph, last.input[0]):
        relu, kernel, op = graph.producers.get(last.input[0]), 7, STEM_OP
    else:
        relu, kernel, op = last, 3, STEM_CONV_OP
    conv = graph.producers.get(relu.input[0]) if relu is not None and relu.op_type == "Relu" else None
    if conv is None or not _is_stem_conv(graph, conv, kernel) or not _read_once(graph, conv.output[0]):
        return None
    return Stem(op, conv)


def _read_once(graph: Graph, value: str) -> bool:
    return len(graph.consumers[value]) == 1


def _is_stem_conv(graph: Graph, conv: onnx.NodeProto, kernel: int) -> bool:
    if conv.op_type != "Conv" or len(conv.input) != 3:
        return False
    if conv.input[1] not in graph.initializers or conv.input[2] not in graph.initializers:
        return False
    attributes = node_attributes(conv)
    return (
        tuple(graph.initializers[conv.input[1]].dims[1:]) == (3, kernel, kernel)
        and attributes.get("strides") == [2, 2]
        and attributes.get("pads") == [kernel // 2] * 4
        and attributes.get("dilations", [1, 1]) == [1, 1]
    )


def _is_stem_pool(pool: onnx.NodeProto) -> bool:
    attributes = node_attributes(pool)
    return (
        attributes.get("kernel_shape") == [3, 3]
        and attributes.get("strides") == [2, 2]
        and attributes.get("pads") == [1] * 4
        and not attributes.get("ceil_mode", 0)
    )

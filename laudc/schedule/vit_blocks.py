"""Reads the transformer blocks of a portable graph: which nodes belong together, their record and their weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laudc.ops import names, node_attributes
from laudc.ops.packing import round_up
from laudc.ops.packing_vit import VitWeights
from laudc.ops.scheduled_vit import VitRecord
from laudc.schedule.blocks import Graph

if TYPE_CHECKING:
    import numpy as np
    import onnx

_PANEL_STEP = 16


@dataclass(frozen=True)
class VitBlock:
    """One transformer block in the graph; a policy is None where the block does not choose.

    `obstacle`: why our kernels do not cover it; empty if they do.
    """

    name: str
    attention: onnx.NodeProto
    mlp: onnx.NodeProto
    norm1: onnx.NodeProto | None
    norm2: onnx.NodeProto | None
    token_policy: onnx.NodeProto | None
    head_policy: onnx.NodeProto | None
    layer_policy: onnx.NodeProto | None
    policy_token: onnx.NodeProto | None
    policy_norm: onnx.NodeProto | None
    obstacle: str = ""

    @property
    def input(self) -> str:
        """Name of the value the block reads."""
        return self.attention.input[0]

    @property
    def output(self) -> str:
        """Name of the value the block makes."""
        return self.mlp.output[0]

    @property
    def policies(self) -> dict[str, onnx.NodeProto]:
        """The policies that the block has, by kind, in the order in which a run reports them."""
        found = {"token": self.token_policy, "head": self.head_policy, "layer": self.layer_policy}
        return {kind: node for kind, node in found.items() if node is not None}

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """Every node that the block consists of."""
        others = (self.norm1, self.norm2, self.policy_token, self.policy_norm)
        parts = (*others, *self.policies.values(), self.attention, self.mlp)
        return [node for node in parts if node is not None]


def vit_blocks(graph: Graph) -> list[VitBlock]:
    """All transformer blocks, in graph order."""
    return list(_Reader(graph).blocks())


class _Reader:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def blocks(self) -> Iterator[VitBlock]:
        for node in self.graph.model.graph.node:
            if node.op_type == "DynamicMlp":
                attention = self.graph.producers.get(node.input[0])
                if attention is not None and attention.op_type == "DynamicAttention":
                    yield self._block(attention, node)

    def _block(self, attention: onnx.NodeProto, mlp: onnx.NodeProto) -> VitBlock:
        heads, layers = (self._producer(mask, "PolicyMasker") for mask in attention.input[3:5])
        policy = self.graph.producers.get(next((n.input[0] for n in (heads, layers) if n is not None), ""))
        norm = policy if policy is not None and policy.op_type == "LayerNormalization" else None
        token = policy if norm is None else self.graph.producers.get(norm.input[0])
        block = VitBlock(
            name=names.block_of_node(attention.name),
            attention=attention,
            mlp=mlp,
            norm1=self._producer(attention.input[1], "LayerNormalization"),
            norm2=self._producer(mlp.input[1], "LayerNormalization"),
            token_policy=self._producer(attention.input[2], "TokenMasker"),
            head_policy=heads,
            layer_policy=layers,
            policy_token=token,
            policy_norm=norm,
        )
        return VitBlock(**{**vars(block), "obstacle": self._obstacle(block)})

    def _producer(self, value: str, op: str) -> onnx.NodeProto | None:
        node = self.graph.producers.get(value)
        return node if node is not None and node.op_type == op else None

    def _obstacle(self, block: VitBlock) -> str:
        attention, mlp = block.attention, block.mlp
        norms = ((block.norm1, block.input), (block.norm2, mlp.input[0]))
        if not all(node is not None and node.input[0] == source and _of_last_axis(node) for node, source in norms):
            return "a sublayer does not read its normalised input"
        if len({_epsilon(node) for node in (block.norm1, block.norm2, block.policy_norm) if node is not None}) != 1:
            return "its normalisations have different epsilons"
        if list(mlp.input[3:5]) != list(attention.input[3:5]):
            return "attention and MLP have different masks of heads or sublayers"
        if mlp.input[2] != attention.input[2] and not self._all_ones(mlp.input[2]):
            return "attention and MLP have different masks of tokens"
        if not all(self._is_choice(block, kind, mask) for kind, mask in self._masks(block)):
            return "its masks come from elsewhere"
        weights = [*attention.input[5:], *mlp.input[5:]]
        for node in (*block.policies.values(), block.norm1, block.norm2, block.policy_norm):
            weights += list(node.input[1:]) if node is not None else []
        if any(name not in self.graph.initializers for name in weights):
            return "its weights are not constants"
        return "a value inside it is read elsewhere" if self._is_read_elsewhere(block) else ""

    def _is_read_elsewhere(self, block: VitBlock) -> bool:
        inside = {id(node) for node in block.nodes}
        shown = {value.name for value in self.graph.model.graph.output}
        inner = [value for node in block.nodes if node is not block.mlp for value in node.output]
        return any(
            value in shown or any(id(reader) not in inside for reader in self.graph.consumers.get(value, []))
            for value in inner
        )

    @staticmethod
    def _masks(block: VitBlock) -> Iterator[tuple[str, str]]:
        yield from zip(("token", "head", "layer"), block.attention.input[2:5], strict=True)

    def _is_choice(self, block: VitBlock, kind: str, mask: str) -> bool:
        """Whether a mask is made of what a run makes it of, or keeps everything."""
        policy = block.policies.get(kind)
        if policy is None:
            return self._all_ones(mask)
        if kind == "token":
            return policy.input[0] == block.attention.input[1]
        source = block.policy_norm if block.policy_norm is not None else block.policy_token
        token = block.policy_token
        return (
            source is not None
            and token is not None
            and policy.input[0] == source.output[0]
            and self.is_first_token(token)
            and token.input[0] == block.input
        )

    def is_first_token(self, node: onnx.NodeProto) -> bool:
        """Whether a node picks the first token of each image."""
        if node.op_type != "Gather" or node.input[1] not in self.graph.initializers:
            return False
        index = self.graph.array(node.input[1])
        return node_attributes(node).get("axis", 0) == 1 and index.shape == () and int(index) == 0

    def _all_ones(self, value: str) -> bool:
        return value in self.graph.initializers and bool((self.graph.array(value) == 1).all())


def _of_last_axis(node: onnx.NodeProto) -> bool:
    return node_attributes(node).get("axis", -1) == -1 and len(node.input) == 3


def _epsilon(node: onnx.NodeProto) -> float:
    return next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)


def only_first_is_read(graph: Graph, block: VitBlock) -> bool:
    """Whether nobody reads the block's output but for each image's first token."""
    readers = graph.consumers.get(block.output, [])
    outputs = {value.name for value in graph.model.graph.output}
    pick = _Reader(graph).is_first_token
    return block.output not in outputs and bool(readers) and all(pick(node) for node in readers)


def vit_record(graph: Graph, block: VitBlock, panel: int) -> VitRecord:
    """The record of a block without obstacle; `panel`: columns of a weight panel that the kernels like best."""
    tokens, dim = graph.shapes[block.input][1:]
    assert tokens is not None and dim is not None
    heads = graph.shapes[block.attention.input[3]][1]
    assert heads is not None
    return VitRecord(
        tokens=tokens,
        dim=dim,
        heads=heads,
        hidden=graph.initializers[block.mlp.input[5]].dims[0],
        token_policy=int(block.token_policy is not None),
        tokens_in_mlp=int(block.token_policy is not None and block.mlp.input[2] == block.attention.input[2]),
        head_policy=int(block.head_policy is not None),
        layer_policy=int(block.layer_policy is not None),
        norm_policy=int(block.policy_norm is not None),
        # Where all heads stay, what a dropped one means is of no consequence.
        dropped_heads=_number(block.attention, "dropped_heads") if block.head_policy is not None else 0,
        head_width=_number(block.mlp, "head_width") if block.head_policy is not None else 0,
        first_only=int(only_first_is_read(graph, block)),
        # A head's columns begin a panel: a wider panel would hold zeros.
        panel=min(panel, round_up(dim // heads, _PANEL_STEP)),
    )


def _number(node: onnx.NodeProto, name: str) -> int:
    value = node_attributes(node)[name]
    assert isinstance(value, int)
    return value


def vit_weights(graph: Graph, block: VitBlock) -> VitWeights:
    """The weights of a block without obstacle."""

    def pair(node: onnx.NodeProto | None, at: int) -> tuple[np.ndarray, np.ndarray] | None:
        return None if node is None else (graph.array(node.input[at]), graph.array(node.input[at + 1]))

    def layer(node: onnx.NodeProto | None, at: int) -> tuple[np.ndarray, np.ndarray]:
        found = pair(node, at)
        assert found is not None
        return found

    assert block.norm1 is not None
    return VitWeights(
        epsilon=_epsilon(block.norm1),
        norm1=layer(block.norm1, 1),
        norm2=layer(block.norm2, 1),
        query=layer(block.attention, 5),
        key=layer(block.attention, 7),
        value=layer(block.attention, 9),
        proj=layer(block.attention, 11),
        fc1=layer(block.mlp, 5),
        fc2=layer(block.mlp, 7),
        token_policy=pair(block.token_policy, 1),
        head_policy=pair(block.head_policy, 1),
        layer_policy=pair(block.layer_policy, 1),
        norm_policy=pair(block.policy_norm, 1),
    )

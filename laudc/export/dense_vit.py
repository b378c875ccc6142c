"""Transformer sublayers as plain ONNX with everything kept: what the dense twin of a LAUD-T2T-ViT consists of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

_ROOT_OF_TWO = 1.4142135381698608


class _Steps:
    """Makes nodes whose names and outputs follow from the node they replace."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self.name = node.name
        self.made: list[onnx.NodeProto] = []

    def __call__(self, op: str, part: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        result = output or f"{self.name}.{part}.output"
        self.made.append(helper.make_node(op, inputs, [result], name=f"{self.name}.{part}", **attributes))
        return result

    def linear(self, part: str, x: str, weight: str, bias: str) -> str:
        """x·Wᵀ + b; runtimes fold the Transpose of the constant."""
        turned = self("Transpose", f"{part}.turned", [weight], perm=[1, 0])
        return self("Add", f"{part}.add", [self("MatMul", part, [x, turned]), bias])

    def constant(self, part: str, **value: Any) -> str:
        return self("Constant", part, [], **value)


def dense_attention(node: onnx.NodeProto, heads: int) -> Iterator[onnx.NodeProto]:
    """DynamicAttention with everything kept, as ordinary multi-head attention."""
    step = _Steps(node)
    x, u = node.input[:2]
    weights = node.input[5:]
    split = step.constant("split", value_ints=[0, 0, heads, -1])
    parts = {}
    for index, part in enumerate(("query", "key", "value")):
        rows = step.linear(part, u, weights[2 * index], weights[2 * index + 1])
        by_head = step("Reshape", f"{part}.heads", [rows, split])
        perm = [0, 2, 3, 1] if part == "key" else [0, 2, 1, 3]
        parts[part] = step("Transpose", f"{part}.by_head", [by_head], perm=perm)
    scores = step("MatMul", "scores", [parts["query"], parts["key"]])
    weighted = step("MatMul", "mix", [step("Softmax", "softmax", [scores], axis=-1), parts["value"]])
    tokens = step("Transpose", "tokens", [weighted], perm=[0, 2, 1, 3])
    joined = step("Reshape", "joined", [tokens, step.constant("whole", value_ints=[0, 0, -1])])
    projected = step.linear("proj", joined, weights[6], weights[7])
    step("Add", "residual", [x, projected], output=node.output[0])
    yield from step.made


def dense_mlp(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """DynamicMlp with everything kept."""
    step = _Steps(node)
    x, v = node.input[:2]
    w1, b1, w2, b2 = node.input[5:]
    hidden = step.linear("fc1", v, w1, b1)
    root = step.constant("root", value_float=_ROOT_OF_TWO)
    erf = step("Erf", "erf", [step("Div", "div", [hidden, root])])
    shifted = step("Add", "shifted", [erf, step.constant("one", value_float=1.0)])
    doubled = step("Mul", "mul", [hidden, shifted])
    active = step("Mul", "gelu", [doubled, step.constant("half", value_float=0.5)])
    branch = step.linear("fc2", active, w2, b2)
    step("Add", "residual", [x, branch], output=node.output[0])
    yield from step.made

"""The transformer ops: bodies and references agree, dropped tokens and heads are no part of the result, bad shapes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laudc.ops import MAX_OPSET, MIN_OPSET, SEMANTIC, ShapeError
from laudc.ops.transformer import attention, gelu, mlp
from tests.ops.runtimes import RUNNERS, feed_of, single_op_model
from tests.ops.transformer_vectors import POLICIES, SUBLAYERS, PolicyCase, SublayerCase

Array = np.ndarray
CASES = (*SUBLAYERS, *POLICIES)
PROPERTY = settings(deadline=None, derandomize=True, database=None, max_examples=60)


def _name(case: SublayerCase | PolicyCase) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_bodies(case: SublayerCase | PolicyCase) -> None:
    model = single_op_model(case.op, case.inputs, case.attributes)
    onnx.checker.check_model(model, full_check=True)
    for run in RUNNERS.values():
        (found,) = run(model, feed_of(case.op, case.inputs))
        assert found.dtype == np.float32
        if isinstance(case, SublayerCase):
            case.check(found)
        else:
            np.testing.assert_array_equal(found, case.expected)


@pytest.mark.parametrize("opset", range(MIN_OPSET, MAX_OPSET + 1))
def test_bodies_in_every_opset(opset: int) -> None:
    for op in ("DynamicAttention", "DynamicMlp", "TokenMasker", "PolicyMasker"):
        case = next(case for case in CASES if case.op == op)
        model = single_op_model(op, case.inputs, case.attributes, opset)
        onnx.checker.check_model(model, full_check=True)
        for run in RUNNERS.values():
            np.testing.assert_allclose(run(model, feed_of(op, case.inputs))[0], case.expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", POLICIES, ids=_name)
def test_reference_of_policies(case: PolicyCase) -> None:
    np.testing.assert_array_equal(SEMANTIC[case.op].reference(*case.inputs), case.expected)


def test_a_tie_drops() -> None:
    tie = next(case for case in POLICIES if case.name == "PolicyMasker-tie")
    assert not tie.expected.any()


@st.composite
def token_lists(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Masks of 9 tokens, 3 heads and both sublayers for 2 images."""
    bits = [draw(st.lists(st.booleans(), min_size=2 * n, max_size=2 * n)) for n in (8, 3, 2)]
    masks = [np.array(b, np.float64).reshape(2, -1) for b in bits]
    return masks[0], masks[1], masks[2]


def _weights(rng: np.random.Generator, *shapes: tuple[int, int]) -> list[Array]:
    return [values for n, k in shapes for values in (rng.standard_normal((n, k)) / 4, rng.standard_normal(n))]


@PROPERTY
@given(token_lists())
def test_dropped_tokens_and_heads_may_hold_anything(masks: tuple[Array, Array, Array]) -> None:
    """Attention on the kept tokens and heads alone gives the same: nothing else is read."""
    rng = np.random.default_rng(1)
    tokens, heads, sublayers = masks
    x, u = rng.standard_normal((2, 9, 12)), rng.standard_normal((2, 9, 12))
    weights = _weights(rng, *[(12, 12)] * 4)
    whole = attention(x, u, *masks, *weights, dropped_heads=0)
    for image in range(2):
        kept = np.flatnonzero(np.concatenate([[1], tokens[image]]))
        columns = np.repeat(heads[image] > 0, 4)
        layers = zip(weights[0:6:2], weights[1:6:2], strict=True)
        q, k, v = (u[image, kept] @ w[columns].T + b[columns] for w, b in layers)
        mixed = np.zeros((len(kept), int(columns.sum())))
        for h in range(int(heads[image].sum())):
            at = slice(4 * h, 4 * h + 4)
            raw = np.exp(q[:, at] @ k[:, at].T)
            mixed[:, at] = raw / raw.sum(axis=1, keepdims=True) @ v[:, at]
        wanted = x[image].copy()
        wanted[kept] += sublayers[image, 0] * (mixed @ weights[6][:, columns].T + weights[7])
        np.testing.assert_allclose(whole[image], wanted, rtol=0, atol=1e-12)


@PROPERTY
@given(token_lists(), st.integers(0, 2))
def test_mlp_of_kept_tokens_alone(masks: tuple[Array, Array, Array], head_width: int) -> None:
    rng = np.random.default_rng(2)
    tokens, heads, sublayers = masks
    x, v = rng.standard_normal((2, 9, 12)), rng.standard_normal((2, 9, 12))
    w1, b1, w2, b2 = _weights(rng, (24, 12), (12, 24))
    whole = mlp(x, v, *masks, w1, b1, w2, b2, head_width=head_width)
    for image in range(2):
        kept = np.flatnonzero(np.concatenate([[1], tokens[image]]))
        inputs = np.repeat(heads[image] > 0, 4) if head_width == 1 else np.ones(12, bool)
        outputs = np.repeat(heads[image] > 0, 8) if head_width == 2 else np.ones(24, bool)
        hidden = gelu(v[image, kept][:, inputs] @ w1[outputs][:, inputs].T + b1[outputs])
        wanted = x[image].copy()
        wanted[kept] += sublayers[image, 1] * (hidden @ w2[:, outputs].T + b2)
        np.testing.assert_allclose(whole[image], wanted, rtol=0, atol=1e-12)


def test_gelu_is_exact() -> None:
    x = np.linspace(-6, 6, 25)
    np.testing.assert_allclose(gelu(x), [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x], rtol=1e-15)


@pytest.mark.parametrize(
    ("op", "change", "message"),
    [
        ("DynamicAttention", {0: (2, 6)}, "X has 2 dimensions"),
        ("DynamicAttention", {1: (2, 7, 12)}, "U has shape"),
        ("DynamicAttention", {2: (2, 6)}, "T has shape"),
        ("DynamicAttention", {2: (3, 5)}, "T has shape"),
        ("DynamicAttention", {3: (2, 5)}, "5 heads, which do not divide the 12 features"),
        ("DynamicAttention", {4: (2, 1)}, "S has shape"),
        ("DynamicAttention", {5: (12, 11)}, "Wq has shape"),
        ("DynamicAttention", {12: (11,)}, "Bp has shape"),
        ("DynamicMlp", {5: (36, 11)}, "W1 has shape"),
        ("DynamicMlp", {5: (35, 12), 6: (35,), 7: (12, 35)}, "35 hidden units, which the 3 heads cannot share"),
        ("DynamicMlp", {8: (13,)}, "B2 has shape"),
        ("TokenMasker", {0: (3, 1, 12)}, "at least one more"),
        ("TokenMasker", {1: (2, 12)}, "W has shape"),
        ("PolicyMasker", {2: (4,)}, "B has shape"),
    ],
)
def test_shapes_that_do_not_fit(op: str, change: dict[int, tuple[int, ...]], message: str) -> None:
    case = next(case for case in CASES if case.op == op)
    shapes = [array.shape for array in case.inputs]
    for position, shape in change.items():
        shapes[position] = shape
    with pytest.raises(ShapeError, match=message):
        SEMANTIC[op].infer(shapes, case.attributes)


@pytest.mark.parametrize(("op", "name"), [("DynamicAttention", "dropped_heads"), ("DynamicMlp", "head_width")])
def test_unknown_variant(op: str, name: str) -> None:
    case = next(case for case in CASES if case.op == op)
    with pytest.raises(ShapeError, match=f"attribute {name} is 7"):
        SEMANTIC[op].infer([array.shape for array in case.inputs], {name: 7})


def test_batch_may_be_unknown() -> None:
    case = SUBLAYERS[0]
    shapes: list[tuple[int | None, ...]] = [array.shape for array in case.inputs]
    for position in range(5):
        shapes[position] = (None, *shapes[position][1:])
    assert SEMANTIC[case.op].infer(shapes, case.attributes) == (None, *case.expected.shape[1:])

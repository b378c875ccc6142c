"""Every function body against the NumPy reference and against torch, in two runtimes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F

from laudc.ops import MAX_OPSET, MIN_OPSET, SEMANTIC
from laudc.ops.numeric import nearest_index, pool_matrix, upsample_mask
from tests.ops.regnet_vectors import REGNET_BLOCKS
from tests.ops.runtimes import RUNNERS, feed_of, single_op_model
from tests.ops.vectors import BLOCKS, MASKERS, BlockCase, MaskerCase


def _name(case: BlockCase | MaskerCase) -> str:
    return case.name


def _torch_block(case: BlockCase) -> np.ndarray:
    """The block written with torch only, in float64."""
    x, residual, *weights = (torch.from_numpy(a).double() for a in (case.x, case.residual, *case.weights))
    w1, b1, w2, b2, w3, b3 = weights
    geometry = case.geometry

    def gate(y: torch.Tensor) -> torch.Tensor:
        if case.channel_mask is None:
            return y
        mask = torch.from_numpy(case.channel_mask).double()
        return y * mask.repeat_interleave(y.shape[1] // mask.shape[1], dim=1)[:, :, None, None]

    d = geometry.dilation
    y = torch.relu(gate(F.conv2d(x, w1)) + b1[:, None, None])
    y = gate(F.conv2d(y, w2, stride=geometry.stride, padding=d, dilation=d, groups=geometry.group))
    y = F.conv2d(torch.relu(y + b2[:, None, None]), w3, b3)
    if case.spatial_mask is not None:
        mask = F.interpolate(torch.from_numpy(case.spatial_mask), size=y.shape[2:], mode="nearest").double()
        y = y * mask.repeat_interleave(y.shape[1] // mask.shape[1], dim=1)
    return torch.relu(y + residual).numpy()


@pytest.mark.parametrize("case", BLOCKS, ids=_name)
def test_reference_of_blocks_agrees_with_torch(case: BlockCase) -> None:
    np.testing.assert_allclose(case.expected, _torch_block(case), rtol=0, atol=1e-6)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("case", BLOCKS, ids=_name)
def test_body_of_blocks(case: BlockCase, runner: str) -> None:
    model = single_op_model(case.op, case.inputs, case.attributes)
    (found,) = RUNNERS[runner](model, feed_of(case.op, case.inputs))
    case.check(found)


@pytest.mark.parametrize("case", BLOCKS, ids=_name)
def test_dropped_positions_and_channels(case: BlockCase) -> None:
    """A dropped position is exactly relu(residual); nothing else is known to be."""
    if case.spatial_mask is None:
        return
    kept = upsample_mask(case.spatial_mask, *case.shape.out).repeat(
        case.shape.cout // case.shape.shares, axis=1
    )
    untouched = np.maximum(case.residual, 0)
    np.testing.assert_array_equal(case.expected[kept == 0], untouched[kept == 0])


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("case", MASKERS, ids=_name)
def test_body_of_maskers(case: MaskerCase, runner: str) -> None:
    (found,) = RUNNERS[runner](single_op_model(case.op, case.inputs, {}), feed_of(case.op, case.inputs))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, case.expected)


@pytest.mark.parametrize("case", MASKERS, ids=_name)
def test_reference_of_maskers(case: MaskerCase) -> None:
    np.testing.assert_array_equal(SEMANTIC[case.op].reference(*case.inputs), case.expected)


@pytest.mark.parametrize("opset", range(MIN_OPSET, MAX_OPSET + 1))
@pytest.mark.parametrize("op", sorted({case.op for case in (*BLOCKS, *MASKERS)}))
def test_bodies_in_every_opset(op: str, opset: int) -> None:
    case = next(case for case in (*BLOCKS[::-1], *REGNET_BLOCKS, *MASKERS) if case.op == op)
    attributes = {} if isinstance(case, MaskerCase) else case.attributes
    model = single_op_model(op, case.inputs, attributes, opset)
    onnx.checker.check_model(model, full_check=True)
    for run in RUNNERS.values():
        (found,) = run(model, feed_of(op, case.inputs))
        np.testing.assert_allclose(found, case.expected, rtol=0, atol=1e-5)


def test_nan_in_the_input_drops() -> None:
    case = next(case for case in MASKERS if case.name == "linear-groups")
    x = case.inputs[0].copy()
    x[1, 0, 0, 0] = np.nan
    feed = feed_of(case.op, (x, *case.inputs[1:]))
    model = single_op_model(case.op, case.inputs, {})
    for run in RUNNERS.values():
        (found,) = run(model, feed)
        assert not found[1].any()
        np.testing.assert_array_equal(found[[0, 2]], case.expected[[0, 2]])


@pytest.mark.parametrize("runner", RUNNERS)
def test_nearest_index_is_torchs_for_all_small_sizes(runner: str) -> None:
    """Every size up to 64 over every number of cells, through the body's own index computation."""
    from laudc.ops import fragments

    text = fragments.nearest_rows("M", "X", 2, "Y")
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> '
        f"g (float[1,1,m,1] M, float[1,1,o,1] X) => (float[1,1,o,1] Y) {{{text}}}"
    )
    run = _session(model, runner)
    for size in range(1, 65):
        for cells in range(1, size + 1):
            labels = np.arange(cells, dtype=np.float32).reshape(1, 1, cells, 1)
            wanted = F.interpolate(torch.from_numpy(labels), size=(size, 1), mode="nearest").numpy()
            np.testing.assert_array_equal(nearest_index(cells, size), wanted.ravel())
            np.testing.assert_array_equal(run(labels, np.zeros((1, 1, size, 1), np.float32)), wanted)


def _session(model: onnx.ModelProto, runner: str):  # type: ignore[no-untyped-def]
    if runner == "reference":
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(model)
        return lambda mask, like: evaluator.run(None, {"M": mask, "X": like})[0]
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda mask, like: session.run(None, {"M": mask, "X": like})[0]


def test_pool_matrix_is_torchs_adaptive_pooling() -> None:
    for size in range(1, 40):
        line = torch.from_numpy(np.random.default_rng(size).standard_normal((1, 1, size)))
        for cells in range(1, size + 1):
            matrix = pool_matrix(size, cells).astype(np.float64)
            wanted = F.adaptive_avg_pool1d(line, cells).numpy().ravel()
            np.testing.assert_allclose(matrix @ line.numpy().ravel(), wanted, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(pool_matrix(7, 7), np.eye(7, dtype=np.float32))

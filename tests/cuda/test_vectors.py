"""The CUDA kernels on the vectors that every implementation shares: every mode, shape and adversarial mask.

On a GPU all vectors run at every precision; on the emulated one all run in fp32 and a share at the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from tests.cuda.support import FP16, FP32, TF32, CudaLibrary
from tests.ops.carriers import COVERED, IN_PLACE, Carrier, RegNetCarrier, masker_block
from tests.ops.regnet_vectors import REGNET_BLOCKS
from tests.ops.vectors import MASKERS, BlockCase, MaskerCase

Array = np.ndarray
# Relative to the largest output. fp16 and TF32 keep 11 bits: of the input, the weights, and both hidden maps.
TOLERANCE = {FP32: 2e-6, TF32: 4e-3, FP16: 6e-3}
EMULATED_SHARE = 9
NAMES = {FP32: "fp32", TF32: "tf32", FP16: "fp16"}


def _name(value: object) -> str | None:
    return value.name if isinstance(value, BlockCase | MaskerCase) else None


def _check(cuda: CudaLibrary, carrier: Carrier | RegNetCarrier, precision: int) -> None:
    case = carrier.case
    found = cuda.run([carrier.record], [carrier.weights], carrier.x, precision)
    if case.spatial_mask is not None:
        np.testing.assert_array_equal(found.counts[:, 0, 2], case.spatial_mask.sum(axis=(1, 2, 3)))
    if case.channel_mask is not None:
        np.testing.assert_array_equal(found.counts[:, 0, 3], case.channel_mask.sum(axis=1))
    bound = TOLERANCE[precision] * max(1.0, float(np.abs(case.expected).max()))
    np.testing.assert_allclose(found.y[:, : case.shape.cout], case.expected, rtol=0, atol=bound, err_msg=case.name)


def _run_all(cuda: CudaLibrary, carriers: Iterable[Carrier | RegNetCarrier], precision: int) -> None:
    """In one test: a parameter per case would report hundreds of skips."""
    share = EMULATED_SHARE if cuda.emulated and precision != FP32 else 1
    for carrier in itertools.islice(carriers, precision % share, None, share):
        _check(cuda, carrier, precision)


@pytest.mark.parametrize("precision", NAMES, ids=NAMES.values())
def test_blocks_with_a_projection(cuda: CudaLibrary, precision: int) -> None:
    _run_all(cuda, (Carrier(case, identity=False) for case in COVERED), precision)


@pytest.mark.parametrize("precision", NAMES, ids=NAMES.values())
def test_blocks_in_place(cuda: CudaLibrary, precision: int) -> None:
    _run_all(cuda, (Carrier(case, identity=True) for case in IN_PLACE), precision)


@pytest.mark.parametrize("precision", NAMES, ids=NAMES.values())
def test_regnet_blocks(cuda: CudaLibrary, precision: int) -> None:
    _run_all(cuda, map(RegNetCarrier, REGNET_BLOCKS), precision)


@pytest.mark.parametrize("case", MASKERS, ids=_name)
@pytest.mark.parametrize("precision", [FP32, FP16], ids=["fp32", "fp16"])
def test_maskers(cuda: CudaLibrary, case: MaskerCase, precision: int) -> None:
    record, weights = masker_block(case)
    found = cuda.run([record], [weights], case.inputs[0], precision)
    # Maskers compute in fp32; their input is what the map holds.
    bound = 2e-5 if precision == FP32 else 1e-2
    np.testing.assert_allclose(found.margins.reshape(case.margin.shape), case.margin, rtol=0, atol=bound)
    if precision == FP32:
        kept = found.counts[:, 0, 2 if case.op == "SpatialMasker" else 3]
        np.testing.assert_array_equal(kept, case.expected.reshape(len(kept), -1).sum(axis=1))


def test_same_results_every_time(cuda: CudaLibrary) -> None:
    """Nothing depends on the order in which thread blocks run."""
    carriers = [Carrier(case, identity=False) for case in COVERED[::41]]
    for carrier in (*carriers, *map(RegNetCarrier, REGNET_BLOCKS[::13])):
        for precision in NAMES:
            one, two = (cuda.run([carrier.record], [carrier.weights], carrier.x, precision) for _ in range(2))
            for field in ("y", "counts", "margins"):
                np.testing.assert_array_equal(getattr(one, field), getattr(two, field))

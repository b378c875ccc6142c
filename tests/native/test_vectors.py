"""The shared op vectors, run by the library.

The vectors give masks, while the operator decides them itself from its input: further input channels, which conv1
ignores, carry each mask to a masker that reads nothing else. Others carry the residual to the projection.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from laudc.ops.scheduled import Conv2Algorithm
from tests.native.support import run_block
from tests.ops.carriers import COVERED, IN_PLACE, Carrier, masker_block
from tests.ops.vectors import MASKERS, BlockCase, MaskerCase

Array = np.ndarray


def _name(case: BlockCase | MaskerCase) -> str:
    return case.name


def _check(case: BlockCase, identity: bool) -> None:
    carrier = Carrier(case, identity)
    algorithms = [Conv2Algorithm.DIRECT]
    if case.geometry.stride == 1:
        algorithms.append(Conv2Algorithm.WINOGRAD_2X2)
    for algorithm in algorithms:
        panel = 16 if algorithm else 64
        found = run_block(replace(carrier.record, conv2_algorithm=algorithm, panel=panel), carrier.weights, carrier.x)
        counts = found["counts"]
        if case.spatial_mask is not None:
            np.testing.assert_array_equal(counts[:, 0, 2], case.spatial_mask.sum(axis=(1, 2, 3)))
        if case.channel_mask is not None:
            np.testing.assert_array_equal(counts[:, 0, 3], case.channel_mask.sum(axis=1))
        case.check(found["Y"][:, : case.shape.cout])


@pytest.mark.parametrize("case", COVERED, ids=_name)
def test_blocks_with_a_projection(case: BlockCase) -> None:
    _check(case, identity=False)


@pytest.mark.parametrize("case", IN_PLACE, ids=_name)
def test_blocks_in_place(case: BlockCase) -> None:
    _check(case, identity=True)


@pytest.mark.parametrize("case", MASKERS, ids=_name)
def test_maskers(case: MaskerCase) -> None:
    record, weights = masker_block(case)
    found = run_block(record, weights, case.inputs[0])
    np.testing.assert_allclose(found["margins"].reshape(case.margin.shape), case.margin, rtol=0, atol=2e-5)
    kept = found["counts"][:, 0, 2 if case.op == "SpatialMasker" else 3]
    np.testing.assert_array_equal(kept, case.expected.reshape(len(kept), -1).sum(axis=1))


@pytest.mark.parametrize("case", COVERED[::23], ids=_name)
def test_threads_change_nothing(case: BlockCase) -> None:
    carrier = Carrier(case, identity=False)
    one, two = (run_block(carrier.record, carrier.weights, carrier.x, threads) for threads in (1, 2))
    np.testing.assert_array_equal(one["Y"], two["Y"])
    np.testing.assert_array_equal(one["counts"], two["counts"])

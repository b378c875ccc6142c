"""fp16 on GPUs before sm_80: multiply-adds, and the tensor cores of sm_70 and sm_75, on the emulated GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from tests.cuda.support import EMULATION, FP16, CudaLibrary
from tests.ops.carriers import COVERED, IN_PLACE, Carrier

SHARE = 11
TOLERANCE = 6e-3  # of the largest output, as for every fp16 run


@pytest.fixture(params=[62, 70, 75])
def older(request: pytest.FixtureRequest) -> Iterator[CudaLibrary]:
    """The emulated GPU as one of that compute capability."""
    if not EMULATION.exists():
        if os.environ.get("LAUDC_REQUIRE_NATIVE") == "1" or os.environ.get("CI"):
            pytest.fail(f"{EMULATION} is not built: make native")
        pytest.skip(f"{EMULATION} is not built: make native")
    library = CudaLibrary(EMULATION)
    library.device.sm = request.param
    yield library


@pytest.mark.parametrize("identity", [False, True], ids=["projection", "in place"])
def test_blocks(older: CudaLibrary, identity: bool) -> None:
    for case in (IN_PLACE if identity else COVERED)[older.device.sm % SHARE :: SHARE]:
        carrier = Carrier(case, identity)
        found = older.run([carrier.record], [carrier.weights], carrier.x, FP16)
        if case.spatial_mask is not None:
            np.testing.assert_array_equal(found.counts[:, 0, 2], case.spatial_mask.sum(axis=(1, 2, 3)))
        if case.channel_mask is not None:
            np.testing.assert_array_equal(found.counts[:, 0, 3], case.channel_mask.sum(axis=1))
        bound = TOLERANCE * max(1.0, float(np.abs(case.expected).max()))
        np.testing.assert_allclose(found.y[:, : case.shape.cout], case.expected, rtol=0, atol=bound, err_msg=case.name)

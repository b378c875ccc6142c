"""Everything here runs the native library: skipped without it, unless LAUDC_REQUIRE_NATIVE=1 says it must be there."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def _native_library() -> None:
    from laudc import backends

    available = backends.get("onnxruntime").is_available()
    if available.ok:
        return
    if os.environ.get("LAUDC_REQUIRE_NATIVE") == "1" or os.environ.get("CI"):
        pytest.fail(f"the native library is required: {available.reason}")
    pytest.skip(f"no native library: {available.reason}")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)

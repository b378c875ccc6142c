"""Fixtures of the CUDA tests. On a GPU (`make test-gpu`) nothing may be skipped."""

from __future__ import annotations

import os

import pytest

from tests.cuda.support import CudaLibrary, library_path


@pytest.fixture(scope="session")
def cuda() -> CudaLibrary:
    """The library under test."""
    path = library_path()
    if path.exists():
        return CudaLibrary(path)
    message = f"{path} is not built: make native (emulated GPU) or make test-gpu"
    if os.environ.get("LAUDC_CUDA_LIBRARY") or os.environ.get("LAUDC_REQUIRE_NATIVE") == "1" or os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)

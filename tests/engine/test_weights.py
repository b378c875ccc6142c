"""Memory of weights: private, so that the system may back it with huge pages."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from laudc.engine.weights import as_engines_hold

onnx = pytest.importorskip("onnx")

_SMAPS = Path("/proc/self/smaps")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def test_copies_hold_the_large_initializers() -> None:
    arrays = {"large": np.arange(4096, dtype=np.float32), "small": np.ones(4, np.float32)}
    copies = as_engines_hold(_model(arrays))
    assert list(copies) == ["large"]
    np.testing.assert_array_equal(copies["large"], arrays["large"])


@pytest.mark.skipif(not _SMAPS.exists(), reason="needs /proc")
def test_weights_lie_in_private_memory_that_may_have_huge_pages() -> None:
    copies = as_engines_hold(_model({"large": np.ones(2 << 20, np.float32)}))
    flags, entries = _mapping_of(copies["large"].ctypes.data)
    assert flags[3] == "p"
    if _HUGE_PAGES.exists() and "[never]" not in _HUGE_PAGES.read_text():
        assert "hg" in entries["VmFlags"].split()


def _model(arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
    from onnx import helper, numpy_helper

    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return helper.make_model(helper.make_graph([], "weights", [], [], initializers))


def _mapping_of(address: int) -> tuple[str, dict[str, str]]:
    """Permissions of the mapping that holds `address`, and what the kernel says of it."""
    heads = list(re.finditer(r"^([0-9a-f]+)-([0-9a-f]+) (\S+).*$", text := _SMAPS.read_text(), re.M))
    for head, end in zip(heads, [*(head.start() for head in heads[1:]), len(text)], strict=True):
        if int(head[1], 16) <= address < int(head[2], 16):
            lines = text[head.end() : end].strip().splitlines()
            return head[3], {key: value for key, _, value in (line.partition(":") for line in lines)}
    raise AssertionError(f"no mapping holds {address:#x}")

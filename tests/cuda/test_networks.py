"""Whole networks lowered for ONNX Runtime's CUDA provider, on emulated kernels."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from laudc.ops.scheduled import RUNS_KEY
from laudc.schedule import make_plan
from laudc.schedule.lower_gpu import lower_onnxruntime_cuda
from tests.cuda.test_onnxruntime_op import require_library, session_of

torch = pytest.importorskip("torch")

import laudnet  # noqa: E402

import laudc  # noqa: E402
from tests.export.models import small_model, small_regnet  # noqa: E402
from tests.laudnet.vit_models import images, vit_model  # noqa: E402

Array = np.ndarray
# Relative to the largest logit.
TOLERANCE = {"fp32": 1e-4, "tf32": 2e-2}


@pytest.fixture(autouse=True, scope="session")
def _library() -> None:
    require_library()


def _check(model: Any, x: Any, precision: str) -> None:
    portable = laudc.export(model)
    lowered = lower_onnxruntime_cuda(portable, make_plan(portable), precision)
    session = session_of(lowered)
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {"input": x.numpy()}), strict=True))
    options = onnxruntime.SessionOptions()
    plain = onnxruntime.InferenceSession(portable.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = plain.run(None, {"input": x.numpy()})[0]
    bound = TOLERANCE[precision] * max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found["logits"], wanted, rtol=0, atol=bound)
    if precision == "fp32":
        _check_counts(lowered, found, laudnet.trace(model, x))


def _check_counts(lowered: onnx.ModelProto, found: dict[str, Array], trace: Any) -> None:
    """Kept groups and heads are those of the torch model."""
    runs = json.loads(next(item.value for item in lowered.metadata_props if item.key == RUNS_KEY))
    counts = {}
    for run in runs:
        for index, block in enumerate(run["blocks"]):
            counts[block["name"]] = found[run["counts"]][:, index]
    assert list(counts) == [block.name for block in trace.blocks]
    for block in trace.blocks:
        for kind, column in (("spatial", 2), ("channel", 3), ("head", 3)):
            keep = getattr(block, f"{kind}_keep", None)
            if keep is not None:
                np.testing.assert_array_equal(counts[block.name][:, column], keep.flatten(1).sum(1).numpy())


def _noise(model: Any, batch: int) -> Any:
    size = model.config.input_size
    return torch.randn((batch, 3, size, size), generator=torch.Generator().manual_seed(3))


NETWORKS: dict[str, tuple[Callable[[], Any], Callable[[Any, int], Any]]] = {
    "resnet both": (lambda: small_model("both"), _noise),
    "regnet channel": (lambda: small_regnet("regnet_channel"), _noise),
    "regnet spatial": (lambda: small_regnet("regnet_spatial"), _noise),
    "regnet both": (lambda: small_regnet("regnet_both"), _noise),
    "vit all": (lambda: vit_model("all"), images),
    "vit head outputs": (lambda: vit_model("head_outputs"), images),
    "vit head values": (lambda: vit_model("head_values"), images),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    make, inputs = NETWORKS[name]
    model = make()
    for precision in TOLERANCE if name in ("regnet both", "vit all") else ("fp32",):
        _check(model, inputs(model, 2), precision)

"""A small network in all its forms, for the tests of engines, measurements and the command line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A random network of four blocks, masked by patches and by channels, for images of 64 x 64 pixels."""
    import laudnet
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    config = laudnet.LaudConfig.for_arch(
        "laud_resnet",
        layers=(1, 1, 1, 1),
        dyn_mode=("both", "spatial", "channel", "layer"),
        mask_spatial_granularity=(2, 2, 1, 1),
        input_size=64,
        num_classes=10,
        width_mult=0.25,
    )
    path = tmp_path_factory.mktemp("tiny") / "tiny.pth"
    laudnet.save_checkpoint(path, laudnet.LaudResNet(config).eval(), {"preprocess": {"resize": 64}})
    return path


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint) -> Path:
    """The network as portable ONNX."""
    import laudc

    path = tiny_checkpoint.with_suffix(".onnx")
    laudc.export(tiny_checkpoint, path)
    return path


@pytest.fixture(scope="session")
def native() -> None:
    """The native library; without it a developer's run skips what needs it, CI fails."""
    from laudc import backends

    available = backends.get("onnxruntime").is_available()
    if available.ok:
        return
    if os.environ.get("CI"):
        pytest.fail(available.reason)
    pytest.skip(available.reason)


@pytest.fixture(scope="session")
def tiny_engine(tiny_onnx, native) -> Path:
    """The network as an engine for this machine."""
    import laudc

    path = tiny_onnx.with_suffix(".laudc")
    laudc.build_engine(tiny_onnx, path)
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder with three pictures."""
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(3)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(random.integers(0, 255, (80, 90, 3), np.uint8)).save(folder / name)
    return folder

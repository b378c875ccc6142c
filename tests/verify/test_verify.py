"""`laudc.verify` on files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import laudnet
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

import laudc
from laudc.errors import UserError
from laudc.export import export
from laudc.verify import verify
from laudc.verify.images import default_images
from tests.export.models import MODES, noise, small_model, small_regnet


@pytest.fixture
def pair(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Checkpoint and exported model of a mode."""

    def make(mode: str, **options: object) -> tuple[Path, Path]:
        checkpoint, model = tmp_path / f"{mode}.pth", tmp_path / f"{mode}.onnx"
        laudnet.save_checkpoint(checkpoint, small_model(mode))
        export(checkpoint, model, **options)  # type: ignore[arg-type]
        return checkpoint, model

    return make


def _change(path: Path, initializer: str, by: float) -> None:
    """Add `by` to the first tenth of an initializer of a model file."""
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == initializer)
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[: max(1, values.size // 10)] += by
    tensor.CopyFrom(numpy_helper.from_array(values, initializer))
    onnx.save(model, path)


@pytest.mark.parametrize("mode", MODES)
def test_export_agrees_with_its_checkpoint(mode: str, pair: Callable[[str], tuple[Path, Path]]) -> None:
    checkpoint, model = pair(mode)
    report = laudc.verify(model, checkpoint, threads=1)
    assert report.passed, report.summary()
    assert [run.batch for run in report.runs] == [1, 4]
    assert all(run.masks.decisions > 0 and run.logits.cosine > 0.9999 for run in report.runs)
    assert all(run.first_deviation is None for run in report.runs)
    report.require_passed()


def test_portable_model_as_reference(pair: Callable[[str], tuple[Path, Path]]) -> None:
    _, model = pair("both")
    report = verify(model, model, threads=1)
    assert report.passed
    assert all(run.logits.max_abs <= 1e-5 for run in report.runs)


@pytest.mark.parametrize("reference", ["checkpoint", "model"])
def test_a_changed_weight_is_found_where_it_is(
    reference: str, pair: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    checkpoint, model = pair("both")
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(model.read_bytes())
    _change(changed, "layer2.1.conv3.bias", 0.3)
    report = verify(changed, checkpoint if reference == "checkpoint" else model, threads=1)
    assert not report.passed
    for run in report.runs:
        assert run.first_deviation is not None
        assert (run.first_deviation.block, run.first_deviation.what) == ("layer2.1", "output mean")


def test_a_changed_masker_is_found(pair: Callable[[str], tuple[Path, Path]]) -> None:
    checkpoint, model = pair("both")
    _change(model, "layer1.0.masker_channel.conv.2.bias", 9.0)
    report = verify(model, checkpoint, threads=1)
    assert report.runs[0].masks.failures > 0
    first = report.runs[0].first_deviation
    assert first is not None
    assert (first.block, first.what) == ("layer1.0", "channel mask")
    assert all(flip.margin is not None for flip in report.runs[0].masks.flips)


def test_a_decision_on_the_edge_is_a_tie(pair: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    """A masker whose scores differ by 1e-7 in the checkpoint, and the other way round in the model."""
    model = small_model("layer")
    masker = model.layer3[1].masker_spatial
    with torch.no_grad():
        masker.conv.weight.zero_()
        masker.conv.bias.copy_(torch.tensor([1e-7, 0.0]))
    checkpoint, exported = tmp_path / "edge.pth", tmp_path / "edge.onnx"
    laudnet.save_checkpoint(checkpoint, model)
    export(checkpoint, exported)
    _change(exported, "layer3.1.masker_spatial.conv.bias", -3e-7)
    images = noise(2, 3, 64, 64).numpy()
    report = verify(exported, checkpoint, images=images, threads=1)
    masks = report.runs[0].masks
    assert masks.ties == 2
    assert masks.failures == 0
    assert masks.flips[0].margin == pytest.approx(1e-7, rel=0.1)


def test_squeeze_excitation_over_kept_positions(tmp_path: Path) -> None:
    """`--se-pool active` is another network than the checkpoint's, and verify says so; told of it, it agrees."""
    network = small_regnet("regnet_both")
    checkpoint, model, engine = tmp_path / "net.pth", tmp_path / "net.onnx", tmp_path / "net.laudc"
    laudnet.save_checkpoint(checkpoint, network)
    export(checkpoint, model, se_pool="active")
    laudc.build_engine(model, engine, portable=False)
    assert verify(engine, model, threads=1).passed
    as_trained = verify(engine, checkpoint, threads=1)
    assert not as_trained.passed
    assert all(run.first_deviation is not None for run in as_trained.runs)
    active = {**network.config.to_dict(), "se_pool": "active"}
    assert verify(engine, checkpoint, config=active, threads=1).passed


def test_image_files(pair: Callable[[str], tuple[Path, Path]], tmp_path: Path) -> None:
    checkpoint, model = pair("mixed")
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(rng.integers(0, 255, (80, 90, 3), dtype=np.uint8)).save(folder / name)
    report = verify(model, checkpoint, images=folder, limit=2, threads=1)
    assert report.passed
    assert (report.image_count, report.images) == (2, "2 image files")
    assert verify(model, checkpoint, images=[folder / "c.png"], threads=1).image_count == 1
    assert verify(model, checkpoint, limit=2, threads=1).image_count == 2  # made ones


def test_fixed_batch(pair: Callable[..., tuple[Path, Path]]) -> None:
    checkpoint, model = pair("layer", dynamic_batch=False)
    report = verify(model, checkpoint, threads=1)
    assert report.passed
    assert [run.batch for run in report.runs] == [1]


def test_channel_model_exported_for_another_size(pair: Callable[..., tuple[Path, Path]]) -> None:
    checkpoint, model = pair("channel", input_size=(33, 50))
    report = verify(model, checkpoint, threads=1)
    assert report.passed
    assert report.input_size == (33, 50)


class _FakeEngine:
    """An engine that runs the torch model and speaks the interface of a loaded bundle."""

    def __init__(self, model: laudnet.LaudResNet) -> None:
        self._model = model
        self.input_shape = ("N", 3, 64, 64)
        self.manifest = SimpleNamespace(config={}, preprocess={}, outputs=())

    def trace(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
        found = laudnet.trace(self._model, torch.from_numpy(images))
        blocks = {}
        for block in found.blocks:
            margins = {"channel_margin": block.channel_margin, "spatial_margin": block.spatial_margin}
            blocks[block.name] = {
                name: margin.numpy() for name, margin in margins.items() if margin is not None
            }
        return found.logits.numpy(), blocks


@pytest.mark.parametrize("as_reference", [False, True])
def test_engines(
    as_reference: bool,
    pair: Callable[[str], tuple[Path, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoint, model = pair("both")
    bundle = tmp_path / "net.laudc"
    bundle.write_bytes(b"PK")
    monkeypatch.setattr("laudc.engine.bundle.looks_like_bundle", lambda path: str(path).endswith(".laudc"))
    monkeypatch.setattr(
        "laudc.engine.load_engine", lambda path, threads: _FakeEngine(small_model("both")), raising=False
    )
    report = verify(model, bundle, threads=1) if as_reference else verify(bundle, checkpoint, threads=1)
    assert report.passed, report.summary()
    assert len(report.runs) == 2


def test_progress_names_the_steps(pair: Callable[[str], tuple[Path, Path]]) -> None:
    checkpoint, model = pair("layer")
    steps: list[str] = []
    verify(model, checkpoint, threads=1, progress=steps.append)
    assert steps[0] == "loading"
    assert len(steps) == 4


def test_default_images() -> None:
    images = default_images((40, 48), seed=1)
    assert (images.dtype, images.shape) == (np.float32, (8, 3, 40, 48))
    np.testing.assert_array_equal(images, default_images((40, 48), seed=1))
    assert not np.array_equal(images[:4], default_images((40, 48), seed=2)[:4])
    assert (images[4].max(), images[5].min()) == (0, 1)
    assert set(np.unique(images[6:])) == {-1, 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"atol": -1}, "atol"),
        ({"rtol": float("nan")}, "rtol"),
        ({"batch": 0}, "batch"),
        ({"limit": 0}, "limit"),
        ({"seed": -1}, "seed"),
        ({"images": np.zeros((1, 3, 32, 32), np.float32)}, "shape"),
        ({"images": np.zeros((1, 3, 64, 64))}, "float64"),
        ({"images": np.zeros((0, 3, 64, 64), np.float32)}, "at least one"),
    ],
)
def test_bad_options(
    options: dict[str, object], words: str, pair: Callable[[str], tuple[Path, Path]]
) -> None:
    checkpoint, model = pair("layer")
    with pytest.raises(UserError, match=words):
        verify(model, checkpoint, threads=1, **options)  # type: ignore[arg-type]


def test_what_a_model_says_itself_cannot_be_said(pair: Callable[[str], tuple[Path, Path]]) -> None:
    _, model = pair("layer")
    for option in ("arch", "config"):
        with pytest.raises(UserError, match=f"takes no {option}"):
            verify(model, model, threads=1, **{option: "uni_resnet50"})  # type: ignore[arg-type]


def test_bad_files(pair: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    checkpoint, model = pair("layer")
    other, _ = pair("both")
    with pytest.raises(UserError, match="cannot read|Cannot read"):
        verify(tmp_path / "nothing.onnx", checkpoint)
    with pytest.raises(UserError, match="is a checkpoint"):
        verify(checkpoint, checkpoint)
    with pytest.raises(UserError, match="different networks"):
        verify(model, other, threads=1)
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    with pytest.raises(UserError, match="not an ONNX model"):
        verify(text, checkpoint)


def test_models_of_different_sizes(pair: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    checkpoint, model = pair("channel")
    larger = tmp_path / "larger.onnx"
    export(checkpoint, larger, input_size=96)
    with pytest.raises(UserError, match="different sizes"):
        verify(model, larger, threads=1)

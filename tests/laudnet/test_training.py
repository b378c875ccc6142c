"""The recipe's schedules and losses, the digits, and one miniature run of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import laudnet
import numpy as np
import pytest
import torch
from laudnet import data, evaluate, flops, train
from torch.nn import functional as F


def test_temperature_falls_exponentially() -> None:
    recipe = train.Recipe(t_first=5.0, t_last=0.1)
    first, middle, last = (train.temperature_at(recipe, progress) for progress in (0.0, 0.5, 1.0))
    assert (first, last) == (5.0, pytest.approx(0.1))
    assert middle == pytest.approx((first * last) ** 0.5)


def counted(total: float, shares: list[float]) -> flops.Flops:
    return flops.Flops(torch.tensor(total), 100, torch.tensor(shares), ())


@pytest.mark.parametrize(
    ("progress", "shares", "expected"),
    [
        (0.0, [0.5, 0.5], 0.0),
        (0.0, [0.9, 0.3], (0.4**2 + 0.2**2) / 2),
        (0.33, [1.0, 0.0], 0.0),
        (0.165, [1.0, 0.0], 0.25**2),
        (1.0, [1.0, 0.0], 0.0),
    ],
)
def test_bounds_open_to_all_at_one_third(progress: float, shares: list[float], expected: float) -> None:
    loss = train.flops_loss(counted(50.0, shares), 100, 0.5, progress)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_total_is_drawn_to_the_target() -> None:
    assert float(train.flops_loss(counted(80.0, [0.5]), 100, 0.5, 1.0)) == pytest.approx(0.09)


def test_distillation_is_zero_for_the_same_answer_only() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    assert float(train.distillation_loss(logits, logits, 4.0)) == pytest.approx(0.0, abs=1e-6)
    other = torch.tensor([[3.0, 2.0, 1.0]])
    expected = 16 * F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(other / 4, 1), reduction="sum")
    assert float(train.distillation_loss(logits, other, 4.0)) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    "options",
    [{"target": 0.0}, {"target": 1.0}, {"settle": 9, "epochs": 5}, {"epochs": 0, "settle": 0}, {"lr": 0.0}],
)
def test_recipe_is_checked(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="target|settle|positive"):
        train.Recipe(**options)  # type: ignore[arg-type]


def test_splits_are_fixed_disjoint_and_complete() -> None:
    (train_digits, train_labels), (held_out, labels) = (
        data.source_digits("train"),
        data.source_digits("held_out"),
    )
    assert len(train_digits) + len(held_out) == 1797
    assert set(labels.tolist()) == set(range(10))
    assert max(np.bincount(labels)) - min(np.bincount(labels)) <= 2
    assert len(train_labels) > 3.9 * len(labels)
    assert 0 <= held_out.min() <= held_out.max() == 1


def test_samples_are_reproducible_and_have_the_asked_shape() -> None:
    images, labels = data.sample_images(5, 64, seed=3)
    again, same = data.sample_images(5, 64, seed=3)
    other, _ = data.sample_images(5, 64, seed=4)
    assert images.shape == (5, 64, 64, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images, again)
    assert np.array_equal(labels, same)
    assert not np.array_equal(images, other)


@pytest.mark.parametrize("n", [0, 1, 400])
def test_any_number_of_samples(n: int) -> None:
    images, labels = data.sample_images(n, 32, seed=0)
    assert (len(images), len(labels)) == (n, n)


def test_tiny_canvases_are_refused() -> None:
    with pytest.raises(ValueError, match="32 pixels"):
        data.sample_images(1, 16, seed=0)


def test_normalisation() -> None:
    x = data.to_tensor(np.full((1, 2, 3, 3), 255, dtype=np.uint8))
    assert x.shape == (1, 3, 2, 3)
    expected = (1 - torch.tensor(data.MEAN)) / torch.tensor(data.STD)
    torch.testing.assert_close(x[0, :, 0, 0], expected)


def test_static_network_keeps_everything_exactly() -> None:
    torch.manual_seed(0)
    model = laudnet.build_model(train.small_config(train.STATIC, 32, 0.0625))
    train._keep_everything(model)
    model.eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), model.forward_dense(x))


def test_masks_settle_at_the_end() -> None:
    torch.manual_seed(0)
    recipe = train.Recipe(epochs=10, settle=4)
    model = laudnet.build_model(train.small_config("both", 32, 0.0625)).train()
    train._set_masks(model, recipe, 0.0)
    assert model.temperature == recipe.t_first
    assert {masker.noise for masker in model.maskers()} == {1.0}
    train._set_masks(model, recipe, 0.6)
    assert model.temperature == recipe.t_settle
    for block in model.run(torch.randn(4, 3, 32, 32)).blocks:
        for decision in (block.channel, block.spatial):
            assert decision is not None
            assert torch.equal(decision.keep.detach().round(), (decision.margin >= 0).float())
            assert decision.keep.requires_grad


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on a handful of digits: what it computes is right or wrong as with all of them."""
    complete = data.source_digits
    monkeypatch.setattr(data, "source_digits", lambda split: tuple(part[:24] for part in complete(split)))


@pytest.mark.usefixtures("few_digits")
def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    static, dynamic = tmp_path / "static.pth", tmp_path / "both.pth"
    common = ["--epochs", "2", "--settle", "1", "--batch", "8", "--size", "32", "--width", "0.0625"]
    assert train.main(["--mode", "static", "-o", str(static), *common]) == 0
    assert train.main(["--mode", "both", "-o", str(dynamic), "--teacher", str(static), *common]) == 0
    loaded = laudnet.load_checkpoint(dynamic)
    assert loaded.config.dyn_mode == ("both",) * 4
    card = json.loads(dynamic.with_suffix(".json").read_text())
    assert card == loaded.metrics
    assert card["held_out"]["images"] == 72
    assert card["mode"] == "both"
    capsys.readouterr()
    assert evaluate.main([str(dynamic), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == card["held_out"]
    assert evaluate.main([str(dynamic)]) == 0
    assert "positions kept" in capsys.readouterr().out


def test_command_line_reports_user_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.pth")
    assert evaluate.main([missing]) == 2
    assert "no such file" in capsys.readouterr().err
    assert train.main(["--mode", "layer", "-o", str(tmp_path / "x.pth"), "--teacher", missing]) == 2
    assert train.main(["--mode", "layer", "-o", str(tmp_path / "x.pth"), "--target", "2"]) == 2
    assert train.main(["--mode", "layer", "-o", str(tmp_path / "x.pth"), "--size", "70"]) == 2

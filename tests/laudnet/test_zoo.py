"""The shipped checkpoints are what their cards say."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import laudnet
import pytest
import torch
from laudnet import data, flops

ZOO = Path(__file__).parents[2] / "models" / "zoo"
MODES = ("channel", "spatial", "layer", "both")

each_mode = pytest.mark.parametrize("mode", MODES)


@cache
def loaded(name: str) -> laudnet.LoadedCheckpoint:
    return laudnet.load_checkpoint(ZOO / f"{name}.pth")


def test_the_zoo_is_small() -> None:
    assert sum(path.stat().st_size for path in ZOO.glob("*.pth")) <= 4_000_000


@pytest.mark.parametrize("name", ["static", *MODES])
def test_cards_match_the_files(name: str) -> None:
    card = json.loads((ZOO / f"{name}.json").read_text(encoding="utf-8"))
    assert card == loaded(name).metrics
    assert card["mode"] == name
    assert f"--mode {name} " in card["command"]


@each_mode
def test_modes(mode: str) -> None:
    assert loaded(mode).config.dyn_mode == (mode,) * 4


@each_mode
def test_accuracy_and_skipping_hold_on_samples(mode: str) -> None:
    model, card = loaded(mode).model, loaded(mode).metrics["held_out"]
    images, labels = data.sample_images(150, model.config.input_size, seed=7)
    with torch.no_grad():
        run = model.run(data.to_tensor(images))
    accuracy = float((run.logits.argmax(1) == torch.from_numpy(labels)).float().mean())
    counted = flops.count(model, run)
    assert card["accuracy"] >= 0.9
    assert accuracy >= card["accuracy"] - 0.07
    assert float(counted.total) / counted.dense == pytest.approx(card["flops_share"], abs=0.05)


@each_mode
def test_masks_depend_on_the_image(mode: str) -> None:
    images, _ = data.sample_images(40, loaded(mode).config.input_size, seed=1)
    blocks = laudnet.trace(loaded(mode).model, data.to_tensor(images)).blocks
    masks = [mask for block in blocks for mask in (block.channel_keep, block.spatial_keep)]
    assert any(bool((mask != mask[:1]).any()) for mask in masks if mask is not None)

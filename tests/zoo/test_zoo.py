"""The zoo's cards: complete, true where they can be checked, and shown."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from laudnet.families import family_of_arch

from laudc.cli import main
from laudc.errors import UserError
from laudc.zoo import Card, cards, find_card

ROOT = Path(__file__).parents[2]
each_card = pytest.mark.parametrize("card", cards(), ids=lambda card: card.name)


@each_card
def test_cards_are_complete(card: Card) -> None:
    family = family_of_arch(card.arch)
    assert family is not None and set(card.mode.split("+")) <= set(family.config.MODES)
    assert card.status in ("published checkpoint", "published recipe", "trained here")
    assert (card.checkpoint is None) == (card.status == "published recipe")
    assert card.source and (card.accuracy is None or card.accuracy["source"])
    assert card.latency is None or card.latency["source"]
    assert card.target_rate is None or 0 < card.target_rate <= 1


@pytest.mark.parametrize("card", [c for c in cards() if c.status == "trained here"], ids=lambda card: card.name)
def test_trained_models_are_what_their_cards_say(card: Card) -> None:
    import laudnet

    assert card.checkpoint is not None and card.accuracy is not None
    file = ROOT / card.checkpoint["where"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == card.checkpoint["sha256"]
    loaded = laudnet.load_checkpoint(file)
    assert (loaded.config.arch, {card.mode}) == (card.arch, set(loaded.config.dyn_mode))
    recorded = json.loads((ROOT / card.accuracy["source"]).read_text())
    assert card.accuracy["top1"] == pytest.approx(recorded["held_out"]["accuracy"], abs=1e-4)


def test_every_family_that_laudnet_speaks_of_has_cards() -> None:
    found = {(card.arch, card.mode) for card in cards()}
    wanted = {("ada_step_t2t_vit_19_lnorm", mode) for mode in ("token", "head", "layer", "token+head+layer")}
    wanted |= {("lad_mmdet_resnet101", mode) for mode in ("channel", "layer")}
    wanted |= {("uni_resnet101", mode) for mode in ("channel", "layer")}
    assert wanted <= found


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo"]) == 0
    listed = capsys.readouterr().out
    assert all(card.name in listed for card in cards())
    assert main(["zoo", "show", "laud-resnet101-layer-t0.5", "--json", "-"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["card"]["checkpoint"]["sha256"] is None
    assert main(["zoo", "show", "laud-resnet101"]) == 2
    assert "laud-resnet101-layer-t0.5" in capsys.readouterr().err


def test_unknown_model() -> None:
    with pytest.raises(UserError, match="laudc zoo"):
        find_card("nothing like it")

"""Cards of known models: those that LAUDNet's authors published or say how to train, and those trained here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laudc.errors import UserError

# In an installed package the cards lie beside this file, in the source tree with the models.
_FOLDERS = (Path(__file__).parent / "cards", Path(__file__).parents[2] / "models" / "zoo" / "cards")


@dataclass(frozen=True)
class Card:
    """One model. What nobody published is None; every number has its source beside it.

    status: 'published checkpoint', 'published recipe' or 'trained here'. checkpoint: {where, sha256}; accuracy and
    latency: whatever was published, with `source`.
    """

    name: str
    status: str
    task: str
    data: str
    arch: str
    mode: str
    granularity: str | None
    target_rate: float | None
    checkpoint: dict[str, Any] | None
    accuracy: dict[str, Any] | None
    latency: dict[str, Any] | None
    source: str
    notes: str | None


def cards() -> list[Card]:
    """All cards, by name."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    files = [] if folder is None else sorted(folder.glob("*.json"))
    return [Card(**json.loads(file.read_text(encoding="utf-8"))) for file in files]


def find_card(name: str) -> Card:
    """The card called `name`. Raises UserError, with the closest names, when there is none."""
    import difflib

    known = {card.name: card for card in cards()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    hint = f"The closest names are: {', '.join(close)}. " if close else ""
    raise UserError(f"there is no model '{name}' in the zoo", "no card has this name", f"{hint}See 'laudc zoo'")

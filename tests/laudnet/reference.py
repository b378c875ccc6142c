"""Outputs of the authors' code: a small set in tests/data/oracle, more where LAUDNET_ORACLE points."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent.parent / "data" / "oracle"


@dataclass(frozen=True)
class Reference:
    """One checkpoint and what the authors' code answered."""

    checkpoint: Path
    outputs: dict[str, NDArray]

    @property
    def blocks(self) -> list[str]:
        return [str(name) for name in self.outputs["blocks"]]

    def mask(self, kind: str, block: str) -> NDArray | None:
        return self.outputs.get(f"mask_{kind}/{block}")


def names() -> list[str]:
    """Stems of every LAUD-ResNet reference at hand."""
    return sorted({path.name.removesuffix(".npz") for folder in _folders() for path in folder.glob("tiny_r50_*.npz")})


def load(name: str) -> Reference:
    folder = next(folder for folder in _folders() if (folder / f"{name}.npz").exists())
    with np.load(folder / f"{name}.npz") as arrays:
        return Reference(folder / f"{name}.pth.tar", {key: arrays[key] for key in arrays.files})


def _folders() -> list[Path]:
    extra = os.environ.get("LAUDNET_ORACLE")
    return [HERE, Path(extra)] if extra else [HERE]

"""Adding up terms by their names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Sum:
    """Collects terms of one call, one number per name."""

    def __init__(self, names: Sequence[str]) -> None:
        self._index = {name: index for index, name in enumerate(names)}
        self.values = np.zeros(len(names))

    def add(self, name: str, amount: float) -> None:
        """More work of one kind."""
        self.values[self._index[name]] += amount

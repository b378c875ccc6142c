"""Neck, heads and second stage of a detector, which ONNX Runtime computes.

They have coefficients of their own: inside blocks, 1×1 and 3×3 convolutions come in nearly fixed shares, so that a fit
to blocks cannot tell what either costs alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laudc.predict.behind import Behind
from laudc.predict.cpu.sums import Sum
from laudc.predict.selection import Amounts

Array = np.ndarray

_PREFIX = "behind_"
# Amounts of `Behind` that grow with the batch.
_PER_IMAGE = ("pointwise", "spatial", "products", "spread", "written", "gathered", "ranked", "sampled")
# Of these each image has its own (`Amounts`).
_FOUND = ("sampled", "touched", "candidates", "compared")
BEHIND_TERMS = tuple(
    _PREFIX + name
    for name in (
        "nodes",  # operators
        "pointwise",  # MACs of 1×1 convolutions
        "spatial",  # MACs of larger ones
        "products",  # MACs of matrix products
        "spread",  # MACs of transposed convolutions
        "weights",  # floats of weights from memory
        "written",  # values of results
        "gathered",  # pieces copied by Gather
        "ranked",  # values that TopK chooses from
        "sampled",  # values that RoIAlign and GridSample interpolate
        "touched",  # values that it brings from memory for this
        "candidates",  # boxes that suppression sorts
        "compared",  # pairs of boxes that it compares
    )
)


def add_behind(total: Sum, behind: Behind, batch: int) -> None:
    """What every image needs. All weights come from memory: those of one second stage are more than a cache holds."""
    total.add(f"{_PREFIX}nodes", behind.nodes)
    total.add(f"{_PREFIX}weights", behind.weights)
    for name in _PER_IMAGE:
        total.add(_PREFIX + name, getattr(behind, name) * batch)


def found_terms(amounts: Amounts, names: Sequence[str]) -> Array:
    """(images, terms): what depends on what is found. `names`: of the family's terms; families without detectors have
    none of these."""
    terms = np.zeros((len(amounts.sampled), len(names)))
    for name in _FOUND:
        if _PREFIX + name in names:
            terms[:, names.index(_PREFIX + name)] = getattr(amounts, name)
    return terms

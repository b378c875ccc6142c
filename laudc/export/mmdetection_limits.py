"""How large the numbers of a training configuration may be, before MMDetection builds what they describe.

The configuration is data from strangers, and constructors take what they are told: a number of layers is a loop, and
the number of queries is in no tensor that a checkpoint could disprove. The limits are far above any published detector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laudc.errors import UserError

# Where a number counts modules or multiplies others: from 1 to this.
_COUNTS: Mapping[str, int] = {
    "num_layers": 64,
    "num_fcs": 16,
    "num_feature_levels": 16,
    "num_transformer_feat_level": 16,
    "num_levels": 16,
    "num_outs": 16,
    "num_heads": 256,
    "num_points": 64,
    "kernel_size": 64,
    # Attention among queries grows with the square.
    "num_queries": 10_000,
    "max_per_img": 10_000,
}
# Channels, classes, temperatures, weights of losses.
_LARGEST = 1 << 16
# Entries of a list: levels, operations of a layer; weights of classes are one more than there are classes.
_LONGEST = 64
_LONGEST_BY_PLACE: Mapping[str, int] = {"class_weight": _LARGEST + 1}


def check_size(name: str, place: str, value: Any) -> None:
    """Refuse a number or a list that no detector has.

    Args:
        name: of the checkpoint, for messages. place: the key of `value` in the configuration.

    Raises:
        UserError: it is too large, or a count below 1.
    """
    if isinstance(value, (list, tuple)):
        longest = _LONGEST_BY_PLACE.get(place, _LONGEST)
        if len(value) > longest:
            raise _refused(name, place, f"{len(value)} entries", f"at most {longest} are allowed")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = (1, _COUNTS[place]) if place in _COUNTS else (-_LARGEST, _LARGEST)
        if not low <= value <= high:  # written so that NaN is refused too
            raise _refused(name, place, _short(value), f"a number from {low} to {high} is allowed")


def _refused(name: str, place: str, found: str, allowed: str) -> UserError:
    return UserError(
        f"the head of {name} cannot be built",
        f"its configuration says {found} as {place[:80]!r}, where {allowed}",
        "Correct the configuration; no published detector is as large",
    )


def _short(value: float) -> str:
    # Python refuses to write out integers of thousands of digits.
    return f"{value:.6g}" if abs(value) < 1e300 else "a number of hundreds of digits"

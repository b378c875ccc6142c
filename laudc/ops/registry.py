"""All semantic ops by name."""

from __future__ import annotations

from laudc.ops.bottleneck import CHANNEL_BOTTLENECK, DYNAMIC_BOTTLENECK, SPATIAL_BOTTLENECK
from laudc.ops.channel_masker import CHANNEL_MASKER_CONV, CHANNEL_MASKER_LINEAR, CHANNEL_MASKER_MLP
from laudc.ops.spatial_masker import SPATIAL_MASKER
from laudc.ops.spec import OpSpec

SEMANTIC: dict[str, OpSpec] = {
    spec.name: spec
    for spec in (
        SPATIAL_MASKER,
        CHANNEL_MASKER_LINEAR,
        CHANNEL_MASKER_MLP,
        CHANNEL_MASKER_CONV,
        SPATIAL_BOTTLENECK,
        CHANNEL_BOTTLENECK,
        DYNAMIC_BOTTLENECK,
    )
}

MASKERS = frozenset(name for name in SEMANTIC if "Masker" in name)
BOTTLENECKS = frozenset(name for name in SEMANTIC if name.endswith("Bottleneck"))

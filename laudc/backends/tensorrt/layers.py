"""What a compiled engine says about its own layers."""

from __future__ import annotations

import json
from dataclasses import dataclass

from laudc.errors import UserError


@dataclass(frozen=True)
class EngineLayer:
    """One layer; `types` of its outputs as the engine words them ("Channel major FP16 format", "Half")."""

    name: str
    kind: str
    types: tuple[str, ...]

    @property
    def is_plugin(self) -> bool:
        """Whether one of ours, or of somebody else's plugins."""
        return "Plugin" in self.kind

    @property
    def is_half(self) -> bool:
        """Whether it makes at least one half-precision value."""
        return any("FP16" in kind or "Half" in kind for kind in self.types)


def parse_layers(description: str) -> list[EngineLayer]:
    """From the engine inspector's JSON; empty when it is in a form that tells nothing."""
    try:
        return [_layer(entry) for entry in json.loads(description)["Layers"]]
    except (ValueError, KeyError, TypeError):
        return []


def _layer(entry: object) -> EngineLayer:
    if not isinstance(entry, dict):
        return EngineLayer(str(entry), "", ())
    outputs = [output for output in entry.get("Outputs") or () if isinstance(output, dict)]
    types = tuple(str(output.get("Format/Datatype", output.get("Datatype", ""))) for output in outputs)
    return EngineLayer(str(entry.get("Name", "")), str(entry.get("LayerType", "")), tuple(filter(None, types)))


def require_precision(layers: list[EngineLayer], precision: str) -> bool:
    """Checks that the engine is what was asked for, since TensorRT does not say when it is not.

    Returns whether it could be checked. Raises UserError for an fp16 engine none of whose layers is half.
    """
    known = [layer for layer in layers if layer.types]
    if not known:
        return False
    if precision == "fp16" and not any(layer.is_half for layer in known):
        raise UserError(
            "the engine is not fp16",
            "TensorRT compiled every layer in another precision although fp16 was asked for",
            "build the model again for exactly this TensorRT version, or with --precision fp32",
        )
    return True

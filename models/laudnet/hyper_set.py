"""The authors' way of storing a configuration: the printed argument namespace under `hyper_set`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from .config import DynamicConfig
from .errors import CheckpointError
from .families import family_of_arch, known_archs


def read_config_from_hyper_set(text: str, tensors: Mapping[str, Tensor] | None = None) -> DynamicConfig:
    """Configuration from the `hyper_set` of the authors' checkpoints (the printed argument namespace).

    The text is no Python literal (it prints objects too), so single options are looked up. width_mult,
    num_classes and groups, which the authors' script does not print, follow from shapes in `tensors`.
    Raises CheckpointError for options that are missing or contradict each other, ValueError for bad values.
    """
    options: dict[str, Any] = {"arch": _option(text, "arch")}
    family = family_of_arch(options["arch"])
    if family is None:
        raise CheckpointError(
            "hyper_set",
            f"the architecture is {options['arch'][:60]!r}",
            f"use a checkpoint of {_either(known_archs())}",
        )
    for printed, name in _PRINTED_STRINGS.items():
        options[name] = _option(text, printed).split("-")
    for printed, name in _PRINTED_INTS.items():
        options[name] = [_integer(printed, entry) for entry in _option(text, printed).split("-")]
    options["input_size"] = _integer("IMAGE_SIZE", _option(text, "IMAGE_SIZE"))
    options.update(family.options_from_shapes(tensors or {}))
    width_mult, num_classes = _find_option(text, "width_mult"), _find_option(text, "num_classes")
    if width_mult is not None and any(field.name == "width_mult" for field in fields(family.config)):
        options["width_mult"] = _number("width_mult", width_mult)
    if num_classes is not None:
        options["num_classes"] = _integer("num_classes", num_classes)
    return family.config.for_arch(**options)


_PRINTED_STRINGS = {"dyn_mode": "dyn_mode", "channel_masker": "channel_masker"}
_PRINTED_INTS = {
    "mask_spatial_granularity": "mask_spatial_granularity",
    "mask_channel_group": "spatial_mask_channel_group",
    "channel_dyn_granularity": "channel_dyn_granularity",
    "channel_masker_layers": "channel_masker_layers",
    "channel_masker_reduction": "reduction_ratio",
}
_FLAG_HINTS = {
    "dyn_mode": "spatial and layer modes have the same tensors, so the mode cannot be read from the weights",
    "mask_spatial_granularity": "the granularity of spatial masks leaves no trace in the weights",
    "IMAGE_SIZE": "the image size leaves no trace in the weights",
}


def _find_option(text: str, name: str) -> str | None:
    """The one value of `name=...` in a printed namespace; None where it is missing or printed as None."""
    # Anchored on the left: 'channel_masker=' must not be found inside 'list_channel_masker='.
    pattern = rf"(?<!\w){re.escape(name)}=(?:'([^']*)'|\"([^\"]*)\"|([\w.+-]+))"
    values = {next(group for group in match.groups() if group is not None) for match in re.finditer(pattern, text)}
    if len(values) > 1:
        raise CheckpointError(
            "hyper_set",
            f"it gives {name} {len(values)} different values",
            "pass the right one with --config FILE",
        )
    value = next(iter(values), None)
    return None if value == "None" else value


def _option(text: str, name: str) -> str:
    value = _find_option(text, name)
    if value is None:
        why = f"it does not say {name}" + (f", and {_FLAG_HINTS[name]}" if name in _FLAG_HINTS else "")
        raise CheckpointError("hyper_set", why, "pass the whole configuration with --config FILE")
    return value


def _integer(name: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"{name}: expected a whole number, got {text[:40]!r}")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: expected a number, got {text[:40]!r}") from None


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"

"""Reading and writing checkpoints, including files from strangers.

A checkpoint is data: nothing in it is ever executed. Files go through torch's restricted unpickler
(`weights_only=True`); names it does not know are replaced by an inert stand-in where they belong to libraries
that training scripts commonly leave behind, and refused by name otherwise. The network is built on the meta
device and takes the file's own tensors once all shapes agree, so no file claims more memory than it holds.

Four kinds of file are read: the authors' `.pth.tar` (configuration in its `hyper_set` string), AdaViT's (from its
arguments and tensors, see `adavit`), bare state dicts (configuration from the caller), and our own format, a plain dict
`{'format': 'laudnet/1', 'config': {...}, 'state_dict': {...}, 'metrics': {...}}`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .errors import CheckpointError
from .families import (
    AnyConfig,
    AnyNetwork,
    build_model,
    config_from_dict,
    family_of,
    family_of_tensors,
    name_of_tensors,
)
from .hyper_set import read_config_from_hyper_set
from .mmdetection import TRAINING, training_config
from .untrusted import Inert, check_tensors, read, some, unpickle
from .vit_config import VitConfig

FORMAT = "laudnet/1"
SourceKind = Literal["laudnet", "authors", "state_dict"]

_STATE_DICT_KEYS = ("state_dict_ema", "state_dict", "model", "model_state_dict", "net")
_FAMILY_FIX = "name the right network with --arch, or use a LAUD-ResNet, LAUD-RegNetY or LAUD-T2T-ViT checkpoint"
_CONFIG_FIX = "say what it is with --arch NAME, or --config FILE for anything but its defaults"


@dataclass(frozen=True)
class LoadedCheckpoint:
    """model: fp32, in eval mode; sha256: of the file; metrics: what training recorded (our format, and
    `preprocess` of MMDetection's).
    """

    model: AnyNetwork
    config: AnyConfig
    source_kind: SourceKind
    sha256: str
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class DetectorFile:
    """What a detector's checkpoint holds besides our part: tensors by name, and the training configuration, if any."""

    tensors: Mapping[str, Tensor]
    training: Mapping[str, Any] | None


@dataclass(frozen=True)
class _Contents:
    tensors: dict[str, Tensor]
    kind: SourceKind
    config: AnyConfig | None
    metrics: Mapping[str, Any]


def load_checkpoint(
    path: str | os.PathLike[str], config: AnyConfig | None = None, training: Mapping[str, Any] | None = None
) -> LoadedCheckpoint:
    """Read a checkpoint; `config` is needed for bare state dicts and overrules what other files say. `training`: the
    training configuration of a detector (`config_text` reads MMDetection's files), where the file does not hold it.

    Raises CheckpointError for everything that can be wrong with a file.
    """
    file = Path(path)
    data = read(file)
    content = unpickle(file, data)
    if training is not None and isinstance(content, Mapping):
        content = {**content, TRAINING: training}
    contents = _interpret(file, content, len(data), use_own_config=config is None)
    chosen = config or contents.config
    if chosen is None:
        raise _unknown_configuration(file, contents.tensors)
    model = _assemble(file, chosen, contents.tensors)
    return LoadedCheckpoint(model, chosen, contents.kind, hashlib.sha256(data).hexdigest(), contents.metrics)


def read_detector_file(path: str | os.PathLike[str], training: Mapping[str, Any] | None = None) -> DetectorFile:
    """All tensors of a checkpoint, those that `load_checkpoint` leaves out too. `training`: as for `load_checkpoint`.

    Raises CheckpointError for everything that can be wrong with a file.
    """
    file = Path(path)
    data = read(file)
    content = unpickle(file, data)
    if not isinstance(content, Mapping):
        raise _no_tensors(file, content)
    tensors = _tensors(file, content)
    check_tensors(file, tensors, len(data))
    try:
        return DetectorFile(tensors, training if training is not None else training_config(content))
    except ValueError as error:
        raise CheckpointError(str(file), f"its configuration is not usable: {error}", _CONFIG_FIX) from None


def save_checkpoint(
    path: str | os.PathLike[str],
    model: AnyNetwork,
    metrics: Mapping[str, Any] | None = None,
    weight_dtype: torch.dtype = torch.float32,
) -> None:
    """Write `model` in our own format; `metrics` must be JSON-like. The file appears whole or not at all.

    weight_dtype: of matrices and convolutions in the file (float16 halves it); loading always gives float32.
    """
    file = Path(path)
    content = {
        "format": FORMAT,
        "config": model.config.to_dict(),
        "state_dict": {key: _stored(value, weight_dtype) for key, value in model.state_dict().items()},
        "metrics": json.loads(json.dumps(dict(metrics or {}))),
    }
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            torch.save(content, stream)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _stored(value: Tensor, weight_dtype: torch.dtype) -> Tensor:
    # Vectors (biases, BN statistics) are small and sensitive: they stay as they are.
    value = value.detach().cpu().contiguous()
    return value.to(weight_dtype) if value.dim() > 1 else value


def _unknown_configuration(file: Path, tensors: Mapping[str, Tensor]) -> CheckpointError:
    family, name = family_of_tensors(tensors), name_of_tensors(tensors)
    if name and (family is None or name != family.name):
        return CheckpointError(str(file), f"its tensors are those of {name}", _FAMILY_FIX)
    depth = family.depth(tensors) if family else ()
    named = [arch for arch, layers in family.config.DEPTHS.items() if layers == depth] if family else []
    looks = f", and {'-'.join(map(str, depth))} blocks look like {named[0]}" if named else ""
    return CheckpointError(
        str(file),
        f"it holds tensors only{f', those of {name},' if name else ''} and does not say which network they belong "
        f"to (mode and granularity cannot be read from them{looks})",
        _CONFIG_FIX,
    )


def _interpret(file: Path, content: object, file_size: int, *, use_own_config: bool) -> _Contents:
    if not isinstance(content, Mapping):
        raise _no_tensors(file, content)
    tensors = _tensors(file, content)
    check_tensors(file, tensors, file_size)
    family = family_of_tensors(tensors)
    tensors = family.convert(tensors) if family is not None else tensors
    kind: SourceKind = "state_dict"
    config: AnyConfig | None = None
    metrics: Mapping[str, Any] = {}
    try:
        if "format" in content:
            kind, config, metrics = "laudnet", _own_config(file, content), _own_metrics(content)
        elif isinstance(content.get("hyper_set"), str):
            kind = "authors"
            # A caller's configuration may be there because this one cannot be read.
            config = read_config_from_hyper_set(content["hyper_set"], tensors) if use_own_config else None
        elif family is not None and family.read_config is not None:
            kind = "authors" if "arch" in content else "state_dict"
            config = family.read_config(content, tensors) if use_own_config else None
            metrics = family.read_metrics(content)
    except CheckpointError as error:
        raise CheckpointError(str(file), f"{error.what}: {error.why}", error.fix) from None
    except ValueError as error:
        looks = f" (its tensors look like those of {family.name})" if family is not None else ""
        raise CheckpointError(str(file), f"its configuration is not usable: {error}{looks}", _CONFIG_FIX) from None
    return _Contents(tensors, kind, config, metrics)


def _no_tensors(file: Path, content: object) -> CheckpointError:
    what = "a pickled object of a foreign class" if isinstance(content, Inert) else type(content).__name__
    return CheckpointError(str(file), f"it holds {what}, not a dict of tensors", "save a state_dict() instead")


def _own_config(file: Path, content: Mapping[Any, Any]) -> AnyConfig:
    if content["format"] != FORMAT:
        raise CheckpointError(
            "format",
            f"it is {str(content['format'])[:40]!r} where {FORMAT!r} is known",
            "use a newer laudnet",
        )
    return config_from_dict(content.get("config", {}))


def _own_metrics(content: Mapping[Any, Any]) -> Mapping[str, Any]:
    metrics = content.get("metrics")
    return metrics if isinstance(metrics, Mapping) else {}


def _tensors(file: Path, content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The state dict, wherever it is, without the `module.` that data-parallel training puts before keys."""
    source = next((content[key] for key in _STATE_DICT_KEYS if isinstance(content.get(key), Mapping)), content)
    tensors: dict[str, Tensor] = {}
    for key, value in source.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            continue
        name = key.removeprefix("module.")
        if name in tensors:
            raise CheckpointError(
                str(file), f"it has {name} twice, with and without 'module.'", "save the state dict again"
            )
        tensors[name] = value.detach()
    if not tensors:
        raise CheckpointError(str(file), "it holds no tensors", "name a file that holds a model's state_dict()")
    return tensors


def _assemble(file: Path, config: AnyConfig, found: Mapping[str, Tensor]) -> AnyNetwork:
    tensors = family_of(config).select(config, found)
    with torch.device("meta"):
        model = build_model(config)
    _compare(file, config, {key: tuple(value.shape) for key, value in model.state_dict().items()}, tensors)
    weights = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    model.load_state_dict({key: value.contiguous() for key, value in weights.items()}, assign=True)
    return model.eval()


def _compare(
    file: Path, config: AnyConfig, wanted: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]
) -> None:
    missing = [key for key in wanted if key not in tensors]
    unexpected = [key for key in tensors if key not in wanted]
    mismatched = [key for key in wanted if key in tensors and tuple(tensors[key].shape) != wanted[key]]
    parts = []
    if missing:
        parts.append(f"{some(missing)} missing")
    if unexpected:
        parts.append(f"{some(unexpected)} not part of the network")
    if mismatched:
        key = mismatched[0]
        parts.append(f"{some(mismatched)} of another shape ({list(tensors[key].shape)}, not {list(wanted[key])})")
    if parts:
        cause, fix = _probable_cause(config, missing, unexpected, mismatched, tensors)
        raise CheckpointError(
            str(file), f"it does not fit the {config.arch} configuration: {'; '.join(parts)}; {cause}", fix
        )


def _probable_cause(
    config: AnyConfig,
    missing: list[str],
    unexpected: list[str],
    mismatched: list[str],
    tensors: Mapping[str, Tensor],
) -> tuple[str, str]:
    """(cause, fix) that explain a difference best, most telling sign first."""
    family, found = family_of(config), name_of_tensors(tensors)
    if found is not None and found != family.name:
        return f"these are the tensors of {found}", _FAMILY_FIX
    depth = family.depth(tensors)
    if depth != config.layers:
        shown, wanted = ("-".join(map(str, layers)) for layers in (depth, config.layers))
        return (
            f"it has {shown} blocks where {wanted} are expected",
            "name the right network with --arch, or save the whole state_dict() again",
        )
    if not any(family.deciders in key for key in tensors):
        return "it is a static network without maskers", "use a dynamic network's checkpoint"
    if any(family.deciders in key for key in missing + unexpected):
        return "its maskers are of another kind", f"correct {_mask_options(config)} in --config"
    if mismatched:
        return _cause_of_shapes(config, mismatched, tensors)
    return "it is incomplete or comes from a changed network", "save the whole state_dict() again"


def _mask_options(config: AnyConfig) -> str:
    """The options that say which maskers a network has."""
    if isinstance(config, VitConfig):
        return "ada_head, ada_layer, ada_token, keep_layers or ada_token_start_layer"
    return "dyn_mode, channel_masker or its layers"


def _cause_of_shapes(config: AnyConfig, mismatched: list[str], tensors: Mapping[str, Tensor]) -> tuple[str, str]:
    found = family_of(config).options_from_shapes(tensors)
    for name, value in found.items():
        if value != getattr(config, name):
            return (
                f"its {name} is {value}, the configuration says {getattr(config, name)}",
                f"correct {name} in --config",
            )
    if all(family_of(config).deciders in key for key in mismatched):
        return (
            "its maskers decide about other groups",
            "correct channel_dyn_granularity, spatial_mask_channel_group or reduction_ratio in --config",
        )
    return "it comes from a changed network", "describe that network with --config"

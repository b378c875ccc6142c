"""Where a model to export comes from: a checkpoint file or a model in memory, with its configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from laudc.errors import UserError

if TYPE_CHECKING:
    from laudnet import AnyConfig, AnyNetwork, LoadedCheckpoint
    from laudnet.checkpoint import DetectorFile

Config = str | os.PathLike[str] | Mapping[str, Any]

_CONFIG_FIX = (
    "Correct the configuration; its fields are those of `laudnet.LaudConfig`, `RegNetConfig`, `VitConfig` or "
    "`DetectorConfig`"
)


@dataclass(frozen=True)
class Source:
    """A model in eval mode and what is known about its origin.

    `sha256` is that of the checkpoint file, None for a model in memory; `preprocess` is what training
    recorded about the preparation of images, possibly nothing.
    """

    model: AnyNetwork
    config: AnyConfig
    sha256: str | None
    preprocess: Mapping[str, Any]


def load_source(
    origin: str | os.PathLike[str] | AnyNetwork,
    *,
    arch: str | None = None,
    config: Config | AnyConfig | None = None,
    se_pool: str | None = None,
) -> Source:
    """Load a checkpoint, or take a model as it is.

    Raises:
        UserError: the checkpoint or the configuration cannot be used, or they contradict each other.
    """
    _require_torch()
    if isinstance(origin, (str, os.PathLike)):
        loaded = load_checkpoint(origin, arch=arch, config=config)
        if se_pool is not None:
            loaded = _load(origin, _with_se_pool(loaded.config, se_pool))
        recorded = loaded.metrics.get("preprocess", {})
        return Source(loaded.model, loaded.config, loaded.sha256, recorded if isinstance(recorded, Mapping) else {})
    if arch is not None or config is not None or se_pool is not None:
        raise UserError(
            "arch, config and se_pool cannot be given with a model in memory",
            "the model brings its own configuration",
            "Leave them out, or export a checkpoint file",
        )
    own = getattr(origin, "config", None)
    if own is None:
        raise UserError(
            f"a {type(origin).__name__} cannot be exported",
            "it is neither the path of a checkpoint nor a laudnet model",
            "Pass a path or one of laudnet's networks",
        )
    return Source(origin, own, None, {})


def load_checkpoint(
    path: str | os.PathLike[str], *, arch: str | None = None, config: Config | AnyConfig | None = None
) -> LoadedCheckpoint:
    """`laudnet.load_checkpoint` with the options of the command line, and its errors as UserError."""
    import laudnet

    if isinstance(config, (str, os.PathLike)) and os.fspath(config).endswith(".py"):
        return _load(path, None, _read_training(config))
    if config is not None:
        return _load(path, _read_config(config, arch))
    try:
        loaded = laudnet.load_checkpoint(path)
    except laudnet.CheckpointError as error:
        if arch is None:
            raise _user_error(error) from error
        # The usual reason: a bare state dict, which the architecture's default configuration may describe.
        return _load(path, _parse_config({}, arch))
    except ValueError as error:
        raise _bad_config(f"the configuration in {os.fspath(path)}", error) from error
    if arch is not None and loaded.config.arch != arch:
        raise UserError(
            f"{os.fspath(path)} is not a checkpoint of {arch}",
            f"it says that it is one of {loaded.config.arch}",
            f"Leave out --arch, or use --arch {loaded.config.arch}",
        )
    return loaded


def read_detector_file(path: str | os.PathLike[str], *, config: Config | AnyConfig | None = None) -> DetectorFile:
    """Everything in a detector's checkpoint, with the training configuration in the file `config` or in the checkpoint.

    Raises:
        UserError: a file cannot be used.
    """
    import laudnet
    from laudnet.checkpoint import read_detector_file as read

    is_told = isinstance(config, (str, os.PathLike)) and os.fspath(config).endswith(".py")
    training = _read_training(config) if is_told else None  # type: ignore[arg-type]
    try:
        return read(path, training)
    except laudnet.CheckpointError as error:
        raise _user_error(error) from error


def _load(
    path: str | os.PathLike[str], config: AnyConfig | None, training: Mapping[str, Any] | None = None
) -> LoadedCheckpoint:
    import laudnet

    try:
        return laudnet.load_checkpoint(path, config, training)
    except laudnet.CheckpointError as error:
        raise _user_error(error) from error


def _user_error(error: Any) -> UserError:
    return UserError(f"cannot load {error.what}", error.why, error.fix)


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise UserError(
            "checkpoints cannot be read here",
            "torch is not installed",
            "Install it with: pip install 'laudc[torch]'",
        ) from error


def _read_training(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """MMDetection's configuration file, read as data. Raises UserError."""
    from pathlib import Path

    from laudnet.config_text import read_config_file

    try:
        return read_config_file(Path(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        where = getattr(error, "filename", None) or os.fspath(path)
        raise UserError(
            f"cannot read {where}", reason, "Give the file with the _base_ files that it names beside it"
        ) from error
    except ValueError as error:
        raise UserError(f"{os.fspath(path)} is no configuration", str(error), "Correct the file") from error


def _read_config(config: Config | AnyConfig, arch: str | None) -> AnyConfig:
    if isinstance(config, Mapping):
        return _parse_config(config, arch)
    if not isinstance(config, (str, os.PathLike)):
        return _with_arch(config, arch)
    from laudc.yaml_text import parse_yaml

    path = os.fspath(config)
    try:
        with open(path, encoding="utf-8") as file:
            # JSON is a part of YAML.
            data = parse_yaml(file.read())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise UserError(f"cannot read {path}", reason, "Check the path given with --config") from error
    except ValueError as error:
        raise UserError(f"{path} is neither JSON nor YAML", str(error), "Correct the file") from error
    if not isinstance(data, Mapping):
        raise UserError(f"{path} holds no configuration", "it is no mapping of names to values", _CONFIG_FIX)
    return _parse_config(data, arch)


def _parse_config(data: Mapping[str, Any], arch: str | None) -> AnyConfig:
    from laudnet import config_from_dict

    known = {**({"arch": arch} if arch is not None else {}), **data}
    try:
        return _with_arch(config_from_dict(known), arch)
    except (TypeError, ValueError) as error:
        raise _bad_config("the configuration", error) from error


def _bad_config(what: str, error: Exception) -> UserError:
    return UserError(f"{what} describes no network", str(error), _CONFIG_FIX)


def _with_se_pool(config: AnyConfig, se_pool: str) -> AnyConfig:
    from laudnet import RegNetConfig

    if not isinstance(config, RegNetConfig) or not config.has_spatial_masks:
        raise UserError(
            f"--se-pool {se_pool} does not apply to this network",
            "only a RegNetY with spatial masks averages over positions that may be skipped",
            "Leave out --se-pool",
        )
    try:
        return replace(config, se_pool=se_pool)
    except ValueError as error:
        raise _bad_config("the option se_pool", error) from error


def _with_arch(config: AnyConfig, arch: str | None) -> AnyConfig:
    if arch is not None and config.arch != arch:
        raise UserError(
            f"--arch {arch} and the configuration contradict each other",
            f"the configuration says {config.arch}",
            "Leave one of them out",
        )
    return config

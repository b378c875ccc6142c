"""Tensors out of files from strangers: nothing in a file is ever imported or called.

Files go through torch's restricted unpickler (`weights_only=True`). Names it does not know are replaced by an
inert stand-in where they belong to libraries that training scripts commonly leave behind, and refused by
name otherwise.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .errors import CheckpointError

#: Top-level packages whose objects training scripts leave in checkpoints and which hold no weights.
_INERT_PACKAGES = frozenset({"numpy", "argparse", "pathlib", "collections", "mmcv", "mmengine", "omegaconf"})
#: Default factories of defaultdicts, which the unpickler reports like any other name.
_INERT_BUILTINS = frozenset({"dict", "float", "int", "list", "set"})
_MOST_INERT_NAMES = 64
#: Earlier releases had exploitable bugs in the restricted unpickler (CVE-2025-32434, CVE-2026-24747).
_SAFE_TORCH = (2, 10)
#: Tensors may share storage, but not claim many times the size of the file they came in.
_MOST_CLAIMED = 4
_SHOWN_KEYS = 3


def read(file: Path) -> bytes:
    if file.is_dir():
        raise CheckpointError(str(file), "it is a directory", "name the checkpoint file inside it")
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(str(file), "there is no such file", "check the path") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(str(file), f"it cannot be read ({reason})", "check path and permissions") from None
    if not data:
        raise CheckpointError(str(file), "the file is empty", "copy or download it again")
    return data


class Inert:
    """Stands in for an object we do not need; takes whatever the unpickler gives it and keeps nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        return object.__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _PlainDict:
    """Stands in for dict-like classes: the unpickler only fills real dicts."""

    def __new__(cls, *args: object) -> dict[object, object]:  # type: ignore[misc]
        return {}


class _PlainList:
    """Stands in for list-like classes, as above."""

    def __new__(cls, *args: object) -> list[object]:  # type: ignore[misc]
        return []


class PlainNamespace:
    """Stands in for argparse.Namespace: keeps what was set on it and nothing else."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.values: dict[str, object] = {}

    def __setstate__(self, state: object) -> None:
        self.values = {str(key): value for key, value in state.items()} if isinstance(state, Mapping) else {}


_STAND_INS: dict[str, type] = {
    "argparse.Namespace": PlainNamespace,
    "collections.defaultdict": _PlainDict,
    "collections.deque": _PlainList,
}


def unpickle(file: Path, data: bytes) -> object:
    _check_torch_version()
    _check_container(file, data)
    inert: list[str] = []
    # The unpickler reports one unknown name per attempt.
    while len(inert) <= _MOST_INERT_NAMES:
        try:
            with _allowing(inert), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickle protocols: refused or not, the caller hears once
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:
            name = _refused_name(str(error))
            if name is None:
                raise _unreadable(file, error) from None
            if name in inert or not _is_benign(name):
                raise _has_code(file, name) from None
            inert.append(name)
    raise CheckpointError(
        str(file),
        f"it needs more than {_MOST_INERT_NAMES} foreign classes",
        "save a plain state dict instead",
    )


def _is_benign(name: str) -> bool:
    return name in _INERT_BUILTINS or name.split(".")[0] in _INERT_PACKAGES


def _allowing(names: list[str]) -> contextlib.AbstractContextManager[None]:
    if not names:
        return contextlib.nullcontext()
    # Messages leave "builtins." out; the allow-list wants it.
    allowed: contextlib.AbstractContextManager[None] = torch.serialization.safe_globals(
        [(_STAND_INS.get(name, Inert), full) for name in names for full in (name, f"builtins.{name}")]
    )
    return allowed


def _check_torch_version() -> None:
    match = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if match and tuple(map(int, match.groups())) < _SAFE_TORCH:
        wanted = ".".join(map(str, _SAFE_TORCH))
        raise CheckpointError(
            "torch",
            f"release {torch.__version__} reads untrusted files unsafely",
            f"install torch >= {wanted}",
        )


def _check_container(file: Path, data: bytes) -> None:
    """Refuse early, and by name, what is no torch file at all."""
    if data.startswith(b"\x80"):
        return  # a pickle: torch's format before 1.6
    if not data.startswith(b"PK"):
        raise CheckpointError(str(file), f"it is {_describe(data)}, not a checkpoint", "name a .pth or .pth.tar file")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            # torch itself does not compare checksums, so a flipped bit would pass unseen.
            damaged = stored and archive.testzip() is not None
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
        raise _truncated(file) from None
    names = [entry.filename for entry in entries]
    if any("/code/" in name for name in names):
        raise CheckpointError(str(file), "it is a TorchScript program", "save the model's state_dict() instead")
    if not stored:
        raise CheckpointError(
            str(file),
            "it is a compressed archive, which torch never writes",
            "unpack it and name the file inside",
        )
    if damaged:
        raise _truncated(file)
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(str(file), "it is a zip archive, but not a checkpoint", "name a .pth or .pth.tar file")


def _describe(data: bytes) -> str:
    known = {
        b"\x89PNG": "a PNG image",
        b"\xff\xd8\xff": "a JPEG image",
        b"\x1f\x8b": "a gzip archive",
        b"\x89HDF": "an HDF5 file",
        b"<!DOCTYPE": "a web page",
        b"<html": "a web page",
        b"version https://git-lfs": "a git-lfs pointer (the real file was not downloaded)",
    }
    for magic, name in known.items():
        if data.startswith(magic):
            return name
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return "a safetensors file"
    return "text" if _is_text(data[:512]) else "not a format torch writes"


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)


def _refused_name(message: str) -> str | None:
    """The global that torch's restricted unpickler refused, from its message."""
    match = re.search(r"Unsupported global: GLOBAL ([\w.]+) was not", message) or re.search(
        r"unsupported GLOBAL ([\w.]+) whose module", message
    )
    return match.group(1) if match else None


def _has_code(file: Path, name: str) -> CheckpointError:
    return CheckpointError(
        str(file),
        f"it asks for {name[:80]}, and checkpoints may hold data only (loading it could run foreign code)",
        "do not use it unless you know who made it; its author can save the model's state_dict() instead",
    )


def _truncated(file: Path) -> CheckpointError:
    return CheckpointError(str(file), "the file is damaged or cut short", "copy or download it again")


def _unreadable(file: Path, error: Exception) -> CheckpointError:
    text = " ".join(str(error).split())
    if isinstance(error, pickle.UnpicklingError) and "Unsupported operand" in text:
        return CheckpointError(
            str(file),
            "it is a pickle of a kind torch never writes",
            "save a state_dict() with torch.save",
        )
    return _truncated(file)


def check_tensors(file: Path, tensors: Mapping[str, Tensor], file_size: int) -> None:
    _refuse(
        file,
        [key for key, value in tensors.items() if not _is_plain(value)],
        "sparse, quantised, complex or non-CPU data",
        "save dense floating-point tensors",
    )
    _refuse(
        file,
        [key for key, value in tensors.items() if _is_expanded(value)],
        "more data claimed than the file holds",
        "save contiguous tensors",
    )
    claimed = sum(value.numel() * value.element_size() for value in tensors.values())
    if claimed > _MOST_CLAIMED * file_size:
        raise CheckpointError(
            str(file),
            f"its tensors claim {claimed} bytes, the file has {file_size}",
            "save contiguous tensors",
        )
    _refuse(
        file,
        [key for key, value in tensors.items() if not bool(torch.isfinite(value).all())],
        "NaN or infinity",
        "use a checkpoint from before training diverged",
    )
    _refuse(
        file,
        [key for key, value in tensors.items() if key.endswith("running_var") and bool((value < 0).any())],
        "negative variances",
        "use an undamaged checkpoint",
    )


def _is_plain(value: Tensor) -> bool:
    dense = value.layout is torch.strided and not value.is_quantized and value.device.type == "cpu"
    return dense and not value.is_complex()


def _is_expanded(value: Tensor) -> bool:
    return value.numel() * value.element_size() > value.untyped_storage().nbytes()


def _refuse(file: Path, keys: list[str], why: str, fix: str) -> None:
    if keys:
        raise CheckpointError(str(file), f"{why} in {some(keys)}", fix)


def some(keys: list[str]) -> str:
    shown = ", ".join(key[:80] for key in keys[:_SHOWN_KEYS])
    return f"{len(keys)} tensor{'s' * (len(keys) > 1)} ({shown}{', …' * (len(keys) > _SHOWN_KEYS)})"

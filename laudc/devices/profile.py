"""Device profiles: YAML files that say what a device is.

They lie in `deploy/devices/` in a checkout, and beside this module when installed.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import UserError

_PACKAGE_DATA = Path(__file__).parent
_CHECKOUT_DATA = Path(__file__).resolve().parents[2] / "deploy" / "devices"

# Names of the command line contract that need a GPU toolchain this version does not drive yet.
ACCELERATOR_NAMES = ("nano", "tx2", "v100", "rtx3060", "rtx3090", "h200")

_REQUIRED: Mapping[str, type] = MappingProxyType(
    {"id": str, "kind": str, "description": str, "backend": str, "precision": str, "batch": int}
)
_KINDS = ("cpu",)


@dataclass(frozen=True)
class DeviceProfile:
    """One device as its YAML file describes it; `sha256` is that of the file, so that a bundle can name
    it."""

    id: str
    kind: str
    description: str
    backend: str
    precision: str
    batch: int
    sha256: str
    path: str
    data: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the path of the file (reports must not carry machine paths)."""
        return {"sha256": self.sha256, **dict(self.data)}


def profile_dir() -> Path:
    """Folder with the shipped profiles."""
    return _CHECKOUT_DATA if _CHECKOUT_DATA.is_dir() else _PACKAGE_DATA


def available_profiles() -> list[str]:
    """Names of the shipped profiles, sorted."""
    return sorted(path.stem for path in profile_dir().glob("*.yaml"))


def load_profile(device: str | os.PathLike[str]) -> DeviceProfile:
    """Loads a shipped profile by name or any profile by its path (`*.yaml`).

    Raises UserError for an unknown name (with the closest ones), a device that this version cannot build for,
    an unreadable file and a file that is no profile.
    """
    name = os.fspath(device)
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        return parse_profile(Path(name))
    path = profile_dir() / f"{name}.yaml"
    if name in available_profiles():
        return parse_profile(path)
    raise _unknown_device(name)


def _unknown_device(name: str) -> UserError:
    built = available_profiles()
    if name.lower() in ACCELERATOR_NAMES:
        return UserError(
            f"device '{name}' cannot be built for by this version",
            f"it needs a GPU toolchain; this version of laudc builds for: {', '.join(built)}",
            "use --device cpu",
        )
    close = difflib.get_close_matches(name.lower(), [*built, *ACCELERATOR_NAMES], n=3, cutoff=0.4) or built
    return UserError(
        f"there is no device '{name}'",
        f"the closest names are: {', '.join(close)}",
        "list the devices with 'laudc devices', or give the path of a profile (FILE.yaml)",
    )


def parse_profile(path: Path) -> DeviceProfile:
    """Reads and checks one profile file; raises UserError naming the first field that is wrong."""
    import yaml

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read the device profile {path}",
            error.strerror or str(error),
            "give the path of a profile (FILE.yaml), or a name from 'laudc devices'",
        ) from error
    try:
        data = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise _bad_profile(path, f"it is not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(data, dict):
        raise _bad_profile(path, "it holds no mapping of fields")
    for key, kind in _REQUIRED.items():
        value = data.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            found = "is missing" if value is None else f"is {value!r}"
            raise _bad_profile(
                path, f"field '{key}' {found}, wanted {'text' if kind is str else 'a whole number'}"
            )
    if data["kind"] not in _KINDS:
        raise _bad_profile(
            path, f"field 'kind' is {data['kind']!r}, this version builds for: {', '.join(_KINDS)}"
        )
    if data["batch"] < 1:
        raise _bad_profile(path, f"field 'batch' is {data['batch']}, wanted at least 1")
    fields = {key: data[key] for key in _REQUIRED}
    return DeviceProfile(
        **fields, sha256=hashlib.sha256(raw).hexdigest(), path=str(path), data=MappingProxyType(data)
    )


def _bad_profile(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is not a usable device profile",
        why,
        "compare it with the shipped profile: laudc devices show cpu",
    )

"""A user's own profiles: what `laudc calibrate` measured on this machine, found again by the device's name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import atomic_write
from .host import Host
from .profile import DeviceProfile

_FOLDER = "LAUDC_DEVICES"


def user_profile_dir() -> Path:
    """$LAUDC_DEVICES, or `laudc/devices` in the user's configuration folder."""
    chosen = os.environ.get(_FOLDER)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "laudc" / "devices"


def user_profile_path(name: str) -> Path:
    """Where the user's own profile of a device lies, whether or not there is one."""
    return user_profile_dir() / f"{name}.yaml"


def fits_host(profile: DeviceProfile, host: Host) -> bool:
    """Whether a calibration was made on a CPU like this one.

    Names alone do not tell: virtual machines call CPUs of several generations "AMD EPYC". The instruction set is
    compared when a model is made of it: it may be limited for a single run.
    """
    machine = profile.calibration.get("machine")
    if not isinstance(machine, Mapping):
        return False
    same_family = machine.get("family", host.family) == host.family
    return same_family and machine.get("cpu") == host.cpu and machine.get("arch") == host.arch


def save_profile(path: Path, profile: DeviceProfile, calibration: Mapping[str, Any]) -> None:
    """Writes a profile with a calibration into a YAML file. Raises UserError when it cannot be written."""
    import yaml

    data = {**{key: value for key, value in profile.data.items() if key != "calibration"}, "calibration": calibration}
    machine = calibration.get("machine", {})
    head = (
        f"# {profile.description}\n"
        f"# Calibrated by `laudc calibrate` on {machine.get('cpu') or machine.get('gpu', 'this machine')}.\n"
    )
    with atomic_write(path) as file:
        file.write(head.encode())
        file.write(yaml.safe_dump(_plain(data), sort_keys=False, width=120).encode())


def _plain(value: Any) -> Any:
    """Only what YAML can say: mappings as dict, sequences as list."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value

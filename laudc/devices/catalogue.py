"""Which devices there are: shipped profiles by name, a user's own by path.

The files lie in `deploy/devices/` in a checkout, and beside this module when installed.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from ..errors import UserError
from .host import Host, detect_host
from .parse import parse_profile
from .profile import DeviceProfile
from .user import fits_host, user_profile_path

_PACKAGE_DATA = Path(__file__).parent
_CHECKOUT_DATA = Path(__file__).resolve().parents[2] / "deploy" / "devices"


def profile_dir() -> Path:
    """Folder with the shipped profiles."""
    return _CHECKOUT_DATA if _CHECKOUT_DATA.is_dir() else _PACKAGE_DATA


def available_profiles() -> list[str]:
    """Names of the shipped profiles, sorted."""
    return sorted(path.stem for path in profile_dir().glob("*.yaml"))


def load_profile(device: str | os.PathLike[str]) -> DeviceProfile:
    """Loads a profile by name or by its path (`*.yaml`).

    A name means the user's own profile where `laudc calibrate` has left one for this machine; else the shipped one, and
    of `cpu` one that was calibrated on a CPU like this one, where there is any.

    Raises UserError for an unknown name (with the closest ones), an unreadable file and a file that is no profile.
    """
    name = os.fspath(device)
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        return parse_profile(Path(name))
    if name in available_profiles():
        return _measured_here(name) or parse_profile(profile_dir() / f"{name}.yaml")
    known = available_profiles()
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4) or known
    raise UserError(
        f"there is no device '{name}'",
        f"the closest names are: {', '.join(close)}",
        "list the devices with 'laudc devices', or give the path of a profile (FILE.yaml)",
    )


def _measured_here(name: str) -> DeviceProfile | None:
    """What was calibrated on this CPU, by its user, or else by us. A home folder that moved to another machine brings a
    profile that does not count."""
    host = detect_host()
    for path in (user_profile_path(name), shipped_calibration_path(name, host)):
        if path.is_file():
            profile = parse_profile(path)
            if fits_host(profile, host):
                return profile
    return None


def shipped_calibration_path(name: str, host: Host) -> Path:
    """Where a profile calibrated on a CPU like the host's is shipped, whether or not there is one: what `laudc
    calibrate` wrote there, in a folder of the device's name, as `amd-epyc-family-25.yaml`."""
    words = re.findall("[a-z0-9]+", f"{host.cpu} family {host.family}".lower())
    return profile_dir() / name / f"{'-'.join(words)}.yaml"

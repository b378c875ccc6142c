"""Which devices there are: shipped profiles by name, a user's own by path.

The files lie in `deploy/devices/` in a checkout, and beside this module when installed.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from ..errors import UserError
from .parse import parse_profile
from .profile import DeviceProfile

_PACKAGE_DATA = Path(__file__).parent
_CHECKOUT_DATA = Path(__file__).resolve().parents[2] / "deploy" / "devices"


def profile_dir() -> Path:
    """Folder with the shipped profiles."""
    return _CHECKOUT_DATA if _CHECKOUT_DATA.is_dir() else _PACKAGE_DATA


def available_profiles() -> list[str]:
    """Names of the shipped profiles, sorted."""
    return sorted(path.stem for path in profile_dir().glob("*.yaml"))


def load_profile(device: str | os.PathLike[str]) -> DeviceProfile:
    """Loads a shipped profile by name or any profile by its path (`*.yaml`).

    Raises UserError for an unknown name (with the closest ones), an unreadable file and a file that is no profile.
    """
    name = os.fspath(device)
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        return parse_profile(Path(name))
    if name in available_profiles():
        return parse_profile(profile_dir() / f"{name}.yaml")
    known = available_profiles()
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4) or known
    raise UserError(
        f"there is no device '{name}'",
        f"the closest names are: {', '.join(close)}",
        "list the devices with 'laudc devices', or give the path of a profile (FILE.yaml)",
    )

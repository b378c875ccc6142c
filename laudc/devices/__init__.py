"""Device profiles and what this machine is. Standard library only until a profile is parsed."""

from .catalogue import available_profiles, load_profile
from .host import Host, detect_host, threads_per_call
from .profile import DTYPES, DeviceProfile, DtypeRate, LaudnetParameters
from .user import fits_host, save_profile, user_profile_path

__all__ = [
    "DTYPES",
    "DeviceProfile",
    "DtypeRate",
    "Host",
    "LaudnetParameters",
    "available_profiles",
    "detect_host",
    "fits_host",
    "load_profile",
    "save_profile",
    "threads_per_call",
    "user_profile_path",
]

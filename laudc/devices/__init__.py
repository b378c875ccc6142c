"""Device profiles and what this machine is. Standard library only until a profile is parsed."""

from .host import Host, detect_host
from .profile import DeviceProfile, available_profiles, load_profile

__all__ = ["DeviceProfile", "Host", "available_profiles", "detect_host", "load_profile"]

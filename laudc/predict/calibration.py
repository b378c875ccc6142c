"""Whether what a device profile says about a calibration can be predicted with."""

from __future__ import annotations

from laudc.devices import DeviceProfile
from laudc.predict.families import FAMILIES


def require_usable_calibration(profile: DeviceProfile) -> None:
    """Raises UserError for a profile with a calibration that no latency model can be made of.

    Until then a profile with a calibration counts as measured, whatever its calibration holds.
    """
    if profile.kind == "cpu":
        from laudc.predict.cpu.load import cpu_model

        for family in FAMILIES:
            cpu_model(profile, 1, family=family)
        return
    from laudc.predict.gpu.load import gpu_fit

    gpu_fit(profile, profile.precision)

"""How many threads of a CPU a predicted call has."""

from __future__ import annotations

from laudc.devices import DeviceProfile, threads_per_call
from laudc.errors import UserError


def threads_on(profile: DeviceProfile, threads: int | None) -> int:
    """`threads`, or the usual number on a CPU; 0 for a device that is none.

    Raises UserError where they are given for a device that has none to choose.
    """
    if profile.kind == "cpu":
        return threads_per_call(threads)
    if threads is not None:
        raise UserError(
            f"threads are no matter of the device '{profile.id}'",
            "--threads is for CPUs, and it is a GPU",
            "leave it out",
        )
    return 0

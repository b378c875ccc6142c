"""In which data types, and with how many images per call, a GPU is measured."""

from __future__ import annotations

from dataclasses import dataclass

from laudc.backends.cuda_kernels import PRECISIONS
from laudc.devices import DeviceProfile

# One image shows launches and thin waves, many show the rates.
BATCHES = (1, 16)


@dataclass(frozen=True)
class Setting:
    """A data type of `PRECISIONS` and images per call."""

    precision: str
    batch: int

    @property
    def name(self) -> str:
        """Short and unique."""
        return f"{self.precision} batch {self.batch}"


def settings_for(profile: DeviceProfile) -> tuple[Setting, ...]:
    """Every data type of the device that our kernels have, with every batch."""
    return tuple(Setting(name, batch) for name in PRECISIONS if profile.supports(name) for batch in BATCHES)

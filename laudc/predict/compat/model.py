"""A device together with the way random masks are treated: the first argument of every operator."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .cost import Cost
from .density import ClosedForm, WorstTileDensity
from .device import CompatDevice, compat_device

if TYPE_CHECKING:
    from laudc.devices import DeviceProfile


@dataclass(frozen=True, init=False)
class Model:
    """The authors' model of one device. Hashable, so that operators cache what they searched for it.

    `device` may also be a device profile, or the name or path of one: see `compat_device`, which raises UserError for
    what is none. `density`: how random masks are treated, expected values unless given.
    """

    device: CompatDevice
    density: WorstTileDensity

    def __init__(
        self,
        device: CompatDevice | DeviceProfile | str | os.PathLike[str],
        density: WorstTileDensity | None = None,
    ) -> None:
        found = device if isinstance(device, CompatDevice) else compat_device(device)
        object.__setattr__(self, "device", found)
        object.__setattr__(self, "density", ClosedForm() if density is None else density)

    @cached_property
    def _hash(self) -> int:
        return hash((self.device, self.density))

    def __hash__(self) -> int:
        return self._hash

    def combine(self, compute: Any, memory: Any) -> Any:
        """Time of computing and moving data together: the sum, or the larger where the device overlaps them."""
        if not self.device.overlap:
            return compute + memory
        import numpy as np

        return np.maximum(compute, memory)

    def cost(self, compute: float, memory: float, *, launches: int = 1, tile: dict[str, int] | None = None) -> Cost:
        """The cost of an operator with its kernel launches."""
        launch = launches * self.device.launch_s
        return Cost(float(self.combine(compute, memory)) + launch, float(compute), float(memory), launch, tile)

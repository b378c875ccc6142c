"""The latency model of a device profile, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from laudc.devices import DeviceProfile
from laudc.devices.profile import MEASURED, MODELLED
from laudc.errors import UserError
from laudc.predict.families import RESNET
from laudc.predict.interface import LatencyModel

MEASURED_ELSEWHERE = "modelled from the calibration of another CPU, not measured"


@dataclass(frozen=True)
class TrustedModel:
    """A model with what must stand beside its numbers."""

    model: LatencyModel
    status: str


def latency_model(
    profile: DeviceProfile,
    *,
    threads: int,
    isa: str | None = None,
    precision: str = "fp32",
    family: str = RESNET,
) -> TrustedModel | None:
    """The model for a device.

    Args:
        profile: of the device.
        threads: of a call on a CPU.
        isa: kernels that a CPU runs; None: whatever its profile was measured with.
        precision: data type of the weights and maps.
        family: of the networks, one of `laudc.predict.families.FAMILIES`.

    Returns:
        None where the profile holds no measurements for these kernels and this family.

    Raises:
        UserError: fewer than one thread of a CPU, the device does not compute in `precision`, or its calibration is
            damaged.
    """
    if profile.kind == "cpu":
        from laudc.predict.cpu.load import cpu_model

        if threads < 1:
            raise UserError(
                f"a call with {threads} threads cannot be predicted", "it has at least one", "use --threads 1"
            )
        model = cpu_model(profile, threads, isa, family)
        if model is None:
            return None
        return TrustedModel(model, MEASURED if profile.measured else MEASURED_ELSEWHERE)
    from laudc.predict.gpu.model import gpu_model

    on_gpu = gpu_model(profile, precision, family=family)
    return TrustedModel(on_gpu, MEASURED if on_gpu.measured else MODELLED)


def images_per_call(batch: int | None, profile: DeviceProfile) -> int:
    """`batch`, or the device's usual number of images. Raises UserError for fewer than one."""
    images = profile.batch if batch is None else batch
    if images < 1:
        raise UserError(f"a batch of {images} cannot be predicted", "it has at least one image", "use --batch 1")
    return images

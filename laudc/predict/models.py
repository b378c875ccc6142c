"""The latency model of a device profile, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from laudc.devices import DeviceProfile, threads_per_call
from laudc.devices.profile import MEASURED, MODELLED, MOST_IMAGES
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
    threads: int | None = None,
    isa: str | None = None,
    precision: str = "fp32",
    family: str = RESNET,
) -> TrustedModel | None:
    """The model for a device.

    Args:
        profile: of the device.
        threads: of a call on a CPU; None: all that this process may run on.
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

        threads = threads_per_call(threads)
        if threads < 1:
            raise UserError(
                f"a call with {threads} threads cannot be predicted", "it has at least one", "use --threads 1"
            )
        profile.rate(precision)
        model = cpu_model(profile, threads, isa, family)
        if model is None:
            return None
        status = MEASURED if profile.measured else MEASURED_ELSEWHERE
        return TrustedModel(model, status + _other_threads(model.threads, threads))
    from laudc.predict.gpu.model import gpu_model

    on_gpu = gpu_model(profile, precision, family=family)
    return TrustedModel(on_gpu, MEASURED if on_gpu.measured else MODELLED)


def _other_threads(measured: int, asked: int) -> str:
    """What the status adds where a number of threads was not measured, and the nearest stands in for it."""
    return "" if measured == asked else f" (of {measured} thread{'s' if measured > 1 else ''}, not {asked})"


def images_per_call(batch: int | None, profile: DeviceProfile, fixed: int | None = None) -> int:
    """`batch`, or the model's `fixed` number of images where it has one, or the device's usual one.

    Raises UserError for fewer than one image, more than any device holds, and another number than the model takes.
    """
    images = batch if batch is not None else fixed if fixed is not None else profile.batch
    takes = ""
    if fixed is not None and images != fixed:
        takes = f"it takes exactly {fixed}"
    elif not 1 <= images <= MOST_IMAGES:
        takes = "a call has at least one image" if images < 1 else f"a call has at most {MOST_IMAGES} images"
    if takes:
        raise UserError(f"the model cannot run a batch of {images}", takes, f"use --batch {fixed or 1}")
    return images

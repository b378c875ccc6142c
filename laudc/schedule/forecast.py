"""Predicting a model without building it: `laudc predict`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laudc.devices import DeviceProfile, detect_host
from laudc.predict.activation import Activation, activation_at_rate, load_activation
from laudc.predict.cpu.load import cpu_model, is_measured_here
from laudc.predict.frame import Frame
from laudc.schedule.choose import CostChooser
from laudc.schedule.plan import Plan

if TYPE_CHECKING:
    import onnx

    from laudc.ops.scheduled import BlockRecord

DEFAULT_RATE = 0.5
MEASURED_HERE = "calibrated by measurement"
MEASURED_ELSEWHERE = "modelled from another CPU's calibration, not measured"


@dataclass(frozen=True)
class Forecast:
    """A schedule with its predicted latencies, for a device that need not be here."""

    device: str
    status: str
    plan: Plan

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"device": self.device, "status": self.status, "schedule": self.plan.to_dict()}


def status_of(profile: DeviceProfile) -> str:
    """What stands beside predictions for a CPU."""
    return MEASURED_HERE if is_measured_here(profile) else MEASURED_ELSEWHERE


def read_activation(
    activation: str | float | os.PathLike[str] | Activation | None,
    blocks: list[tuple[str, BlockRecord]],
    model_sha256: str,
) -> Activation:
    """What `--activation` says: a file, a rate, or half of everything where it says nothing.

    Raises UserError for a file that does not belong to the model and for a rate outside 0 to 1.
    """
    if isinstance(activation, Activation):
        return activation
    if activation is None:
        return activation_at_rate(blocks, DEFAULT_RATE)
    try:
        rate = float(activation)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return load_activation(os.fspath(activation), blocks, model_sha256)  # type: ignore[arg-type]
    return activation_at_rate(blocks, rate)


def chooser_for(
    profile: DeviceProfile,
    model: onnx.ModelProto,
    activation: Activation,
    *,
    batch: int,
    threads: int | None = None,
    isa: str | None = None,
) -> CostChooser | None:
    """Chooses by the profile's model; None where the profile has none for these kernels."""
    found = cpu_model(profile, threads or detect_host().usable_threads, isa)
    if found is None:
        return None
    return CostChooser(found, Frame.of_model(model), activation, batch, status_of(profile))

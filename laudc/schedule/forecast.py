"""Predicting a model without building it: `laudc predict`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from laudc.devices import DeviceProfile, load_profile
from laudc.errors import UserError
from laudc.files import sha256_bytes
from laudc.predict.activation import Activation, activation_at_rate, load_activation
from laudc.predict.behind import Behind
from laudc.predict.families import TITLES, Record, family_of_network
from laudc.predict.frame import Frame, frame_of_model
from laudc.predict.interface import LatencyModel
from laudc.predict.models import images_per_call, latency_model
from laudc.predict.selection import Selecting, most_found, regions_and_objects
from laudc.predict.sweep import Sweep, sweep_rates
from laudc.predict.threads import threads_on
from laudc.schedule.blocks import Graph
from laudc.schedule.choose import CostChooser
from laudc.schedule.plan import Plan, block_records, make_plan

if TYPE_CHECKING:
    import onnx

DEFAULT_RATE = 0.5
_PANEL = 64


@dataclass(frozen=True)
class Forecast:
    """A schedule with its predicted latencies, for a device that need not be here.

    `status` says whether the device was measured. `sweep` is None unless it was asked for. `left_out`: operators behind
    the blocks that no prediction holds, because the graph does not say how large they get. `found`: of a detector, how
    many proposals and detections the prediction takes an image to have, where the activation does not say.
    """

    device: str
    precision: str
    status: str
    arch: str
    plan: Plan
    sweep: Sweep | None = None
    left_out: tuple[str, ...] = ()
    found: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "device": self.device,
            "precision": self.precision,
            "status": self.status,
            "arch": self.arch,
            "schedule": self.plan.to_dict(),
            "left_out": list(self.left_out),
            "found": dict(self.found),
            "sweep": None if self.sweep is None else self.sweep.to_dict(),
        }


def forecast(
    model: str | os.PathLike[str] | onnx.ModelProto,
    *,
    device: str | os.PathLike[str] = "cpu",
    activation: str | float | os.PathLike[str] | Activation | None = None,
    batch: int | None = None,
    threads: int | None = None,
    precision: str | None = None,
    schedule: str = "auto",
    sweep: bool = False,
) -> Forecast:
    """Predicts latency of a portable model (or of an engine that carries one) on a device.

    Args:
        model: path of the ONNX file or of an engine, or the model itself.
        device: name of a device profile or path of one.
        activation: file of `laudc profile --save-activation`, or a rate between 0 and 1; 0.5 if nothing is said.
        batch: images per call; the device's usual number if left out.
        threads: of a CPU; all usable ones if left out. Not for other devices.
        precision: data type; the device's usual one if left out.
        schedule: "auto", "dense" or "sparse", as for `build_engine`.
        sweep: also predict over activation rates, with the break-even rate of each block.

    Raises:
        UserError: the model, the device, the activation or an option does not fit, or the device has no latency model.
    """
    from laudc.engine.build import fixed_batch, metadata, read_portable

    profile = load_profile(device)
    proto, serialized = read_portable(model)
    records = block_records(Graph(proto), _PANEL)
    family = _predictable_family(records)
    chosen = precision or profile.precision
    measured = read_activation(activation, records, sha256_bytes(serialized))
    images = images_per_call(batch, profile, fixed_batch(proto))
    chooser = chooser_for(profile, proto, measured, batch=images, threads=threads, precision=chosen)
    if chooser is None:
        raise UserError(
            f"the device '{profile.id}' cannot be predicted yet",
            f"its profile holds no latency model of {TITLES[family]} for this machine's kernels",
            "measure this machine: laudc calibrate",
        )
    plan = make_plan(proto, choice=schedule, panel=_PANEL, chooser=chooser)
    swept = None
    if sweep:
        planned = {block.name: block.record for block in plan.blocks if block.record is not None}
        best = [(name, planned.get(name) or _only_variant(chooser.model, record)) for name, record in records]
        swept = sweep_rates(chooser.model, chooser.frame, best, batch=images)
    arch = str(metadata(proto).get("arch", "unknown"))
    behind = chooser.frame.behind if isinstance(chooser.frame, Frame) else Behind()
    found = _assumed(behind.selecting, measured)
    return Forecast(profile.id, chosen, chooser.status, arch, plan, swept, behind.left_out, found)


def _assumed(selecting: Sequence[Selecting], activation: Activation) -> dict[str, int]:
    """What a detector with two stages is taken to find, where the activation does not say."""
    assumed = most_found(selecting)
    counted = regions_and_objects(selecting, activation.found)
    return {name: most for name, most in assumed.items() if name not in counted}


def _predictable_family(records: Sequence[tuple[str, Record]]) -> str:
    """The family of a model's blocks. Raises UserError for a model that has none, or of several."""
    family = family_of_network(record for _, record in records)
    if family is not None:
        return family
    raise UserError(
        "the model cannot be predicted",
        "its blocks are of several families" if records else "it has no dynamic blocks, which is what is predicted",
        "export a LAUDNet checkpoint: laudc export CHECKPOINT -o MODEL.onnx",
    )


def _only_variant(model: LatencyModel, record: Record) -> Record:
    """How our kernels for the device would run a block that is planned dense: as the rules have it, where they can."""
    possible = model.variants(record)
    if not possible:
        raise UserError(
            "there is nothing to sweep", "our kernels for the device do not cover a block of the model, and what the "
            "runtime does costs the same at every rate", "leave --sweep out",
        )  # fmt: skip
    return record if record in possible else possible[0]


def read_activation(
    activation: str | float | os.PathLike[str] | Activation | None,
    blocks: Sequence[tuple[str, Record]],
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
    precision: str = "fp32",
) -> CostChooser | None:
    """Chooses by the profile's latency model; None where the profile has none for these kernels and this family."""
    family = family_of_network(record for _, record in block_records(Graph(model), _PANEL))
    if family is None:
        return None
    threads = threads_on(profile, threads)
    found = latency_model(profile, threads=threads, isa=isa, precision=precision, family=family)
    if found is None:
        return None
    return CostChooser(found.model, frame_of_model(model), activation, batch, found.status)

"""Bundles for TensorRT before their device has finished them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from laudc.devices.tensorrt import major, release_line
from laudc.engine.bundle import member_record
from laudc.engine.manifest import (
    FORMAT,
    FORMAT_VERSION,
    MODEL,
    PORTABLE,
    TENSORRT,
    WEIGHTS,
    BackendRecord,
    BuildRequest,
    DeviceRecord,
    Manifest,
    NativeRecord,
)
from laudc.engine.weights import split_weights
from laudc.errors import UserError
from laudc.ops.scheduled import ABI_VERSION

if TYPE_CHECKING:
    import onnx

    from laudc.devices import DeviceProfile
    from laudc.schedule import Plan

# What GPUs' kernels do, whatever the CPU's prefer.
GPU_PANEL = 64
# As much again as the largest tensors of the networks that we have seen take; tactics that need more are passed over.
_WORKSPACE_MIB = 1024
_SMALL_DEVICE_GIB, _SMALL_WORKSPACE_MIB = 8, 256


def uncompiled_engine(
    portable: onnx.ModelProto,
    serialized: bytes,
    plan: Plan,
    profile: DeviceProfile,
    parts: Mapping[str, Any],
    *,
    precision: str,
    batch: int,
    tensorrt: str | None = None,
    keep_portable: bool = True,
) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and members of the bundle.

    Args:
        parts: the manifest's fields that come from the portable model.
        batch: usual number of images per call; with a batch that the model leaves open, also the largest.
        tensorrt: version on the device; the profile's if not given.

    Raises:
        UserError: the device, TensorRT or the plugins lack the precision, or the model cannot be written for this
            TensorRT.
    """
    import laudc
    from laudc.schedule.lower_gpu import for_gpu, lower_tensorrt

    plan = for_gpu(plan)
    version = tensorrt or release_line(_toolchain(profile))
    major(version)
    check_precision(profile, precision)
    scheduled = lower_tensorrt(portable, plan, precision, tensorrt=version)
    weights = split_weights(scheduled)
    members = {MODEL: scheduled.SerializeToString(), WEIGHTS: weights}
    if keep_portable:
        members[PORTABLE] = serialized
    fixed = parts["input"].shape[0]
    manifest = Manifest(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        laudc_version=laudc.__version__,
        device=DeviceRecord(profile.id, profile.sha256),
        backend=BackendRecord(TENSORRT, version),
        cpu=None,
        native_library=NativeRecord(None, ABI_VERSION, laudc.__version__, ()),
        precision=precision,
        schedule=plan.to_dict(),
        members={name: member_record(data) for name, data in members.items()},
        compiled=False,
        request=BuildRequest((fixed,) * 3 if isinstance(fixed, int) else (1, batch, batch), _workspace(profile)),
        **parts,
    )
    return manifest, members


def check_precision(profile: DeviceProfile, precision: str) -> None:
    """Raises UserError for a precision that the device or our kernels do not have, with the reason."""
    from laudc.schedule.lower_gpu import Precision

    missing = profile.data.get("unsupported") or {}
    if precision in missing:
        raise UserError(
            f"the precision '{precision}' cannot be built for device '{profile.id}'",
            str(missing[precision]),
            "use --precision fp16, or fp32",
        )
    Precision.named(precision)


def _toolchain(profile: DeviceProfile) -> str:
    tools = profile.data.get("toolchain")
    return str(tools.get("tensorrt", "")) if isinstance(tools, Mapping) else ""


def _workspace(profile: DeviceProfile) -> int:
    memory = profile.data.get("memory")
    entry = memory.get("capacity_gib") if isinstance(memory, Mapping) else None
    value = entry.get("value") if isinstance(entry, Mapping) else entry
    small = isinstance(value, (int, float)) and value <= _SMALL_DEVICE_GIB
    return _SMALL_WORKSPACE_MIB if small else _WORKSPACE_MIB

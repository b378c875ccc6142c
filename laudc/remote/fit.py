"""Whether an uncompiled engine is for the device that shall finish it: asked before anything large is sent."""

from __future__ import annotations

from laudc.devices.tensorrt import major, release
from laudc.engine.manifest import Manifest
from laudc.errors import UserError
from laudc.remote.runner import RemoteDevice
from laudc.remote.target import Target


def require_fit(manifest: Manifest, device: RemoteDevice, target: Target) -> None:
    """Raises UserError when the device has another TensorRT major, whose graphs and plugins differ, or another GPU."""
    _require_tensorrt(manifest, device, target)
    wanted = compute_capability(manifest.device.id)
    if wanted and device.gpu.sm and wanted != device.gpu.sm:
        raise UserError(
            f"the engine is for another device than {target}",
            f"it was scheduled for {manifest.device.id} (sm {wanted}); the GPU there is {device.gpu.name} "
            f"(sm {device.gpu.sm})",
            "build it with the --device that the machine is ('laudc devices' lists them), or a profile of your own",
        )


def _require_tensorrt(manifest: Manifest, device: RemoteDevice, target: Target) -> None:
    there = major(device.tensorrt)
    if major(manifest.backend.version) == there:
        return
    raise UserError(
        f"the engine is for another TensorRT than that of {target}",
        f"it was written for TensorRT {manifest.backend.version}; there, it is {release(device.tensorrt)}, whose "
        f"graphs and plugins (liblaudc_trt{there}.so) are others",
        f"build it from the ONNX model without --tensorrt, or with --tensorrt {release(device.tensorrt)}",
    )


def compute_capability(device: str) -> str:
    """What the device profile of that name says; empty for a name that is unknown here, and for CPUs."""
    from laudc.devices import load_profile

    try:
        return load_profile(device).identity.compute_capability
    except UserError:
        return ""

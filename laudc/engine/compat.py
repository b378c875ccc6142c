"""Can this machine run that engine? Every difference that matters is one named field."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from laudc.devices.host import Host
from laudc.devices.tensorrt import release
from laudc.engine.manifest import TENSORRT, CpuRecord, GpuRecord, Manifest
from laudc.errors import UserError


@dataclass(frozen=True)
class Difference:
    """A field of the manifest that this machine does not satisfy."""

    field: str
    engine: str
    here: str


def minor_version(version: str) -> str:
    """The "major.minor" of a version such as "1.32.0" or "1.32.0+cpu"."""
    return ".".join(version.split("+")[0].split(".")[:2])


def differences(
    manifest: Manifest, *, host: Host, backend_version: str, native: dict[str, Any], gpu: GpuRecord | None = None
) -> Iterator[Difference]:
    """Everything that keeps the engine from running here, the most telling first.

    The library's hash is recorded but not compared: its ABI number says whether it reads the packed weights,
    and the same source built by another compiler has another hash.
    """
    if manifest.gpu is not None:
        yield from _gpu_differences(manifest.backend.name, manifest.gpu, gpu)
    if manifest.cpu is not None:
        yield from _cpu_differences(manifest.cpu, host, native)
    if manifest.native_library.abi != native.get("abi"):
        yield Difference("native_library.abi", str(manifest.native_library.abi), str(native.get("abi")))
    if minor_version(manifest.native_library.version) != minor_version(str(native.get("version", ""))):
        yield Difference(
            "native_library.version", manifest.native_library.version, str(native.get("version"))
        )
    if not _same_runtime(manifest, backend_version):
        yield Difference(
            "backend.version",
            f"{manifest.backend.name} {manifest.backend.version}",
            f"{manifest.backend.name} {backend_version}",
        )


def _same_runtime(manifest: Manifest, found: str) -> bool:
    """TensorRT engines load in exactly the release that made them, ONNX models in any of the same line."""
    if manifest.backend.name == TENSORRT:
        return release(manifest.backend.version) == release(found)
    return minor_version(manifest.backend.version) == minor_version(found)


def _gpu_differences(backend: str, engine: GpuRecord, here: GpuRecord | None) -> Iterator[Difference]:
    if here is None:
        yield Difference("gpu.name", engine.name, "no GPU")
        return
    if backend != TENSORRT:
        return  # kernels for several GPUs are in the library, and nothing in the bundle is compiled for one of them
    # `cuda` is not compared: it is the plugin library's own business, and the ABI check covers that.
    for field in ("sm", "name", "driver"):
        if getattr(engine, field) != getattr(here, field):
            yield Difference(f"gpu.{field}", getattr(engine, field), getattr(here, field))


def _cpu_differences(cpu: CpuRecord, host: Host, native: dict[str, Any]) -> Iterator[Difference]:
    if cpu.arch != host.arch:
        yield Difference("cpu.arch", cpu.arch, host.arch)
    missing = [feature for feature in cpu.features if feature not in host.features]
    if missing:
        has = " ".join(host.features) or "none known"
        yield Difference("cpu.features", " ".join(cpu.features), f"{has} (missing: {' '.join(missing)})")
    if cpu.isa not in native.get("isa", ()):
        yield Difference("cpu.isa", cpu.isa, " ".join(native.get("isa", ())) or "none")


def check_compiled(path: str | os.PathLike[str], manifest: Manifest) -> None:
    """Raises UserError for an engine that has still to be finished on its device, saying how."""
    if manifest.compiled:
        return
    shown = os.fspath(path)
    raise UserError(
        f"{shown} is not compiled yet",
        f"TensorRT engines are compiled on the device they run on, here {manifest.device.id}",
        f"on the device: laudc-runner build {shown} -o FINISHED.laudc; from here: laudc build-engine {shown} "
        f"--device {manifest.device.id} --target ssh://USER@DEVICE -o FINISHED.laudc",
    )


def check_compatible(
    path: str | os.PathLike[str],
    manifest: Manifest,
    *,
    host: Host,
    backend_version: str,
    native: dict[str, Any],
    gpu: GpuRecord | None = None,
) -> None:
    """Raises UserError naming the first difference and the command that rebuilds the engine here."""
    check_compiled(path, manifest)
    for found in differences(manifest, host=host, backend_version=backend_version, native=native, gpu=gpu):
        shown = os.fspath(path)
        # A bundle that carries its portable model can be rebuilt from itself.
        source = shown if "portable.onnx" in manifest.members else "MODEL.onnx"
        raise UserError(
            f"{shown} was built for another machine or another installation",
            f"field '{found.field}': the engine has {found.engine}, here it is {found.here}",
            f"build it here: laudc build-engine {source} --device {manifest.device.id} -o {shown}",
        )

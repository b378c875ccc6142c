"""Can this machine run that engine? Every difference that matters is one named field."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from laudc.devices.host import Host
from laudc.engine.manifest import Manifest
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
    manifest: Manifest, *, host: Host, backend_version: str, native: dict[str, Any]
) -> Iterator[Difference]:
    """Everything that keeps the engine from running here, the most telling first.

    The library's hash is recorded but not compared: its ABI number says whether it reads the packed weights,
    and the same source built by another compiler has another hash.
    """
    if manifest.cpu.arch != host.arch:
        yield Difference("cpu.arch", manifest.cpu.arch, host.arch)
    missing = [feature for feature in manifest.cpu.features if feature not in host.features]
    if missing:
        has = " ".join(host.features) or "none known"
        yield Difference(
            "cpu.features", " ".join(manifest.cpu.features), f"{has} (missing: {' '.join(missing)})"
        )
    if manifest.native_library.abi != native.get("abi"):
        yield Difference("native_library.abi", str(manifest.native_library.abi), str(native.get("abi")))
    if minor_version(manifest.native_library.version) != minor_version(str(native.get("version", ""))):
        yield Difference(
            "native_library.version", manifest.native_library.version, str(native.get("version"))
        )
    if manifest.cpu.isa not in native.get("isa", ()):
        yield Difference("cpu.isa", manifest.cpu.isa, " ".join(native.get("isa", ())) or "none")
    if minor_version(manifest.backend.version) != minor_version(backend_version):
        yield Difference(
            "backend.version",
            f"{manifest.backend.name} {manifest.backend.version}",
            f"{manifest.backend.name} {backend_version}",
        )


def check_compatible(
    path: str | os.PathLike[str],
    manifest: Manifest,
    *,
    host: Host,
    backend_version: str,
    native: dict[str, Any],
) -> None:
    """Raises UserError naming the first difference and the command that rebuilds the engine here."""
    for found in differences(manifest, host=host, backend_version=backend_version, native=native):
        shown = os.fspath(path)
        # A bundle that carries its portable model can be rebuilt from itself.
        source = shown if "portable.onnx" in manifest.members else "MODEL.onnx"
        raise UserError(
            f"{shown} was built for another machine or another installation",
            f"field '{found.field}': the engine has {found.engine}, here it is {found.here}",
            f"build it here: laudc build-engine {source} --device {manifest.device.id} -o {shown}",
        )

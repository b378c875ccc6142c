"""What laudc needs from a machine, each thing checked for itself."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from laudc.devices import detect_host

MIN_PYTHON = (3, 10)
MIN_TORCH = (2, 10)

# module: what to install
_REQUIRED = {"click": "click", "numpy": "numpy", "onnx": "onnx", "PIL": "pillow", "yaml": "pyyaml"}


@dataclass(frozen=True)
class Check:
    """One finding. What is not `required` may be missing; `fix` says how to get it."""

    name: str
    ok: bool
    required: bool
    detail: str
    fix: str = ""

    @property
    def acceptable(self) -> bool:
        """Whether laudc works with this."""
        return self.ok or not self.required

    @property
    def verdict(self) -> str:
        """One word for people."""
        return "ok" if self.ok else "FAIL" if self.required else "missing"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "verdict": self.verdict}


def examine() -> list[Check]:
    """Runs all checks. Never raises for what it looks at."""
    return list(_checks())


def _checks() -> Iterator[Check]:
    yield _python()
    host = detect_host()
    yield Check("CPU", True, True, host.describe())
    for module, package in _REQUIRED.items():
        yield _package(module, package)
    yield from _backends()
    yield _torch()
    yield _importable(
        "laudnet", "reads checkpoints", "install laudc with its torch extra, or set PYTHONPATH=models"
    )


def _python() -> Check:
    ok = sys.version_info[:2] >= MIN_PYTHON
    wanted = ".".join(map(str, MIN_PYTHON))
    return Check("Python", ok, True, platform.python_version(), f"use Python {wanted} or newer")


def _package(module: str, package: str) -> Check:
    try:
        importlib.import_module(module)
        return Check(package, True, True, importlib.metadata.version(package))
    except Exception as error:  # a broken package can raise anything when imported
        return Check(package, False, True, f"cannot be imported: {error}", f"pip install {package}")


def _backends() -> Iterator[Check]:
    from laudc import backends

    required, *others = backends.NAMES
    for what, ok, detail in backends.get(required).check_env():
        yield Check(what, ok, True, detail, "pip install onnxruntime; 'make native' builds the library")
    for name in others:
        for what, ok, detail in backends.get(name).check_env():
            yield Check(f"{name}: {what}", ok, False, detail, "docs/gpu.md says what each backend needs")


def _torch() -> Check:
    needed = "needed by export and by verify against a checkpoint"
    fix = "pip install 'laudc[torch]'"
    try:
        # The metadata tells; importing torch takes seconds.
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return Check("torch", False, False, f"not installed ({needed})", fix)
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    wanted = ".".join(map(str, MIN_TORCH))
    if numbers < MIN_TORCH:
        return Check(
            "torch", False, False, f"{version} has known holes in loading files, {wanted} is needed", fix
        )
    return Check("torch", True, False, version)


def _importable(module: str, purpose: str, fix: str) -> Check:
    found = importlib.util.find_spec(module) is not None
    return Check(module, found, False, purpose if found else f"not found ({purpose})", fix)

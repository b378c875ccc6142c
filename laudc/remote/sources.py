"""The sources that a device needs to build the runner and the plugins, as one archive that is always the same."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import laudc
from laudc.errors import UserError

# In a checkout the folders lie where they belong, in an installed package beside the modules.
_CHECKOUT = Path(laudc.__file__).resolve().parents[1]
_INSTALLED = Path(laudc.__file__).resolve().parent / "_device"
_PARTS = ("deploy/runner", "plugins/core", "plugins/cuda", "plugins/tensorrt")
_LEFT_OUT = {"tests", "build", "__pycache__"}


def source_root() -> Path:
    """The folder that holds `deploy/runner` and `plugins`. Raises UserError when this installation has none."""
    for root in (_CHECKOUT, _INSTALLED):
        if (root / "deploy/runner/CMakeLists.txt").is_file():
            return root
    raise UserError(
        "this installation cannot build for devices",
        f"the runner's sources are neither in {_CHECKOUT} nor in {_INSTALLED}",
        "install laudc again with pip, or run it from a checkout",
    )


def source_archive() -> bytes:
    """A gzipped tar of the sources; the same sources give the same bytes."""
    root = source_root()
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed, tarfile.open(
        fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT
    ) as archive:
        for path in _files(root):
            _add(archive, path.relative_to(root).as_posix(), path.read_bytes())
        _add(archive, "deploy/runner/VERSION", f"{laudc.__version__}\n".encode())
    return buffer.getvalue()


def _files(root: Path) -> list[Path]:
    found = [path for part in _PARTS for path in (root / part).rglob("*") if path.is_file()]
    return sorted(path for path in found if not _LEFT_OUT.intersection(path.relative_to(root).parts))


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o755 if name.endswith(".sh") else 0o644
    archive.addfile(info, io.BytesIO(content))

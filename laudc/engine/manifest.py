"""What an engine bundle says about itself."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from laudc.devices.gpu import GpuRecord as GpuRecord
from laudc.engine.records import FieldError, decode

FORMAT = "laudc-bundle"
FORMAT_VERSION = 1

MANIFEST = "manifest.json"
MODEL = "model.onnx"
WEIGHTS = "weights.bin"
# The serialised TensorRT engine; only engines that are finished have one.
PLAN = "engine.plan"
PORTABLE = "portable.onnx"

# The one backend whose engines can be uncompiled, and the ones that run on a GPU.
TENSORRT = "tensorrt"
ONNXRUNTIME_CUDA = "onnxruntime-cuda"
GPU_BACKENDS = (TENSORRT, ONNXRUNTIME_CUDA)

# A manifest of a 1000-block network is some 300 KB; more than this is not one of ours.
MAX_MANIFEST_BYTES = 8 << 20

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SourceRecord:
    """Where the engine comes from; `checkpoint_sha256` is None when the ONNX file does not say."""

    onnx_sha256: str
    checkpoint_sha256: str | None


@dataclass(frozen=True)
class TensorRecord:
    """One graph input or output; a symbolic dimension is given by its name, an unknown one as "?"."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class DeviceRecord:
    """The device profile the engine was built for."""

    id: str
    sha256: str


@dataclass(frozen=True)
class BackendRecord:
    """The runtime and its exact version at build time; of an uncompiled engine, the release line it is meant for."""

    name: str
    version: str


@dataclass(frozen=True)
class CpuRecord:
    """CPU architecture, and the features of the kernels that the schedule was made for."""

    arch: str
    isa: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class BuildRequest:
    """What TensorRT is asked for when it compiles the model: kept, so that the device can do it (again).

    `batch` holds the smallest, the usual and the largest number of images per call.
    """

    batch: tuple[int, ...]
    workspace_mib: int = 512


@dataclass(frozen=True)
class NativeRecord:
    """The native library at build time; `abi` numbers the packed layout and the block record.

    An uncompiled engine has no library yet: `sha256` is None, `abi` that of the packed weights inside.
    """

    sha256: str | None
    abi: int
    version: str
    isa: tuple[str, ...]


@dataclass(frozen=True)
class MemberRecord:
    """Size in bytes and hash of one file in the bundle."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json. `schedule` is the scheduler's plan, with a reason per block.

    Engines for CPUs have `cpu`, those that onnxruntime runs on a GPU have `gpu`. Engines for TensorRT have `request`;
    they are *uncompiled* (`compiled` false, no `gpu`, no member `engine.plan`) until they have been finished on the
    device, because a TensorRT engine fits only the GPU, driver and TensorRT that made it. A finished one has all three,
    and keeps its model, from which it can be made anew.
    """

    format: str
    format_version: int
    laudc_version: str
    source: SourceRecord
    arch: str
    config: dict[str, Any]
    input: TensorRecord
    outputs: tuple[TensorRecord, ...]
    preprocess: dict[str, Any]
    device: DeviceRecord
    backend: BackendRecord
    cpu: CpuRecord | None
    native_library: NativeRecord
    precision: str
    schedule: dict[str, Any]
    members: dict[str, MemberRecord]
    compiled: bool = True
    gpu: GpuRecord | None = None
    request: BuildRequest | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)

    def to_json(self) -> bytes:
        """The bytes of manifest.json: sorted keys, so that the same engine has the same bytes."""
        return json.dumps(self.to_dict(), indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The schedule's per-block records, in forward order."""
        blocks: list[dict[str, Any]] = self.schedule["blocks"]
        return blocks


class NewerFormat(ValueError):
    """The manifest has a format version that this laudc does not read."""

    def __init__(self, found: object) -> None:
        super().__init__(f"field 'format_version': found {found!r}, wanted {FORMAT_VERSION}")


def parse_manifest(raw: bytes) -> Manifest:
    """Parses and checks manifest.json.

    Raises NewerFormat for another format version, and ValueError (FieldError where one field is to blame) for
    anything that is not a manifest.
    """
    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise FieldError("format", data.get("format") if isinstance(data, dict) else data, repr(FORMAT))
    if data.get("format_version") != FORMAT_VERSION:
        raise NewerFormat(data.get("format_version"))
    manifest = decode(Manifest, data)
    _check_values(manifest)
    return manifest


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        duplicate = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"field '{duplicate}' is given twice")
    return dict(pairs)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _check_values(manifest: Manifest) -> None:
    """Rules that types cannot say."""
    hashes: dict[str, str | None] = {
        "source.onnx_sha256": manifest.source.onnx_sha256,
        "source.checkpoint_sha256": manifest.source.checkpoint_sha256,
        "device.sha256": manifest.device.sha256,
        "native_library.sha256": manifest.native_library.sha256,
        **{f"members.{name}.sha256": member.sha256 for name, member in manifest.members.items()},
    }
    for field, value in hashes.items():
        if value is not None and not _SHA256.fullmatch(value):
            raise FieldError(field, value, "64 hexadecimal digits")
    for name in (MODEL, WEIGHTS):
        if name not in manifest.members:
            raise FieldError("members", sorted(manifest.members), f"an entry for {name}")
    for name, member in manifest.members.items():
        if name not in (MODEL, WEIGHTS, PLAN, PORTABLE):
            raise FieldError(f"members.{name}", name, f"{MODEL}, {WEIGHTS}, {PLAN} or {PORTABLE}")
        if member.size <= 0:
            raise FieldError(f"members.{name}.size", member.size, "a positive size")
    blocks = manifest.schedule.get("blocks")
    if not isinstance(blocks, list):
        raise FieldError("schedule.blocks", blocks, "a list")
    for index, block in enumerate(blocks):
        for key in ("name", "execution", "reason"):
            value = block.get(key) if isinstance(block, dict) else None
            if not isinstance(value, str):
                raise FieldError(f"schedule.blocks[{index}].{key}", value, "text")
    _check_input(manifest.input)
    _check_target(manifest)


def _check_target(manifest: Manifest) -> None:
    """Only engines for TensorRT have a request, and only finished ones what finishing adds."""
    for_tensorrt = manifest.backend.name == TENSORRT
    finished = for_tensorrt and manifest.compiled
    if not manifest.compiled and not for_tensorrt:
        raise FieldError("compiled", False, f"true, unless the backend is {TENSORRT}")
    for field, there, wanted in (
        ("cpu", manifest.cpu is not None, manifest.backend.name not in GPU_BACKENDS),
        ("request", manifest.request is not None, for_tensorrt),
        ("gpu", manifest.gpu is not None, finished or manifest.backend.name == ONNXRUNTIME_CUDA),
        (f"members.{PLAN}", PLAN in manifest.members, finished),
        ("native_library.sha256", manifest.native_library.sha256 is not None, finished or not for_tensorrt),
    ):
        if there != wanted:
            state = "compiled" if manifest.compiled else "uncompiled"
            what = f"{'one' if wanted else 'none'} in a {state} engine for {manifest.backend.name}"
            raise FieldError(field, "one" if there else "none", what)
    if manifest.request is not None:
        _check_request(manifest.request)


def _check_request(request: BuildRequest) -> None:
    batch = request.batch
    if len(batch) != 3 or not 0 < batch[0] <= batch[1] <= batch[2]:
        raise FieldError("request.batch", list(batch), "[smallest, usual, largest], each at least the one before")
    if request.workspace_mib < 1:
        raise FieldError("request.workspace_mib", request.workspace_mib, "at least 1")


def _check_input(spec: TensorRecord) -> None:
    if len(spec.shape) != 4 or not all(isinstance(size, int) and size > 0 for size in spec.shape[1:]):
        raise FieldError(
            "input.shape", list(spec.shape), "[batch, channels, height, width] with fixed sizes but the batch"
        )
    if spec.dtype != "float32":
        raise FieldError("input.dtype", spec.dtype, "'float32'")

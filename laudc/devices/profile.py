"""What a device is, as records: identity, toolchain, speeds, and where each number comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from ..errors import UserError

KINDS = ("cpu", "cuda")
# Names of `laudc.backends`, which stands above this.
BACKENDS = ("onnxruntime", "onnxruntime-cuda", "tensorrt")
# Per call; more would not fit any device's memory.
MOST_IMAGES = 65_536
# Bytes of one element.
DTYPES: Mapping[str, int] = MappingProxyType({"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1})

MODELLED = "modelled, not measured"
MEASURED = "calibrated by measurement"


@dataclass(frozen=True)
class Identity:
    """Which product this is. `compute_capability` ("8.6") only for CUDA devices."""

    vendor: str = ""
    product: str = ""
    architecture: str = ""
    compute_capability: str = ""
    host_arch: str = ""


@dataclass(frozen=True)
class Toolchain:
    """Software that engines for the device are built and run with; versions as text, ranges allowed."""

    jetpack: str = ""
    cuda: str = ""
    cudnn: str = ""
    tensorrt: str = ""
    onnxruntime: str = ""
    python: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compute:
    """Arithmetic: `units` (SMs or cores), each starting `lanes` fp32 multiply-adds per cycle at `clock_ghz`.

    `max_threads` and `shared_kib` limit the thread blocks resident on one unit; 0 where that means nothing.
    """

    units: float
    lanes: float
    clock_ghz: float
    max_threads: float = 0.0
    shared_kib: float = 0.0


@dataclass(frozen=True)
class Memory:
    """Bandwidths in GB/s (1e9 bytes), caches in KiB (L1 per unit; L2 per core on a CPU, of the whole GPU otherwise;
    L3 of the whole CPU, 0 where there is none)."""

    dram_gb_s: float
    l2_gb_s: float
    l1_kib: float
    l2_kib: float
    l3_kib: float
    capacity_gib: float


@dataclass(frozen=True)
class Launch:
    """Fixed costs in microseconds: a kernel in a stream, a kernel in a replayed graph, a read-back by the host."""

    stream_us: float
    graph_us: float
    sync_us: float


@dataclass(frozen=True)
class DtypeRate:
    """Multiply-adds that one unit starts per cycle in a data type, and the circuits that do it."""

    macs_per_cycle: float
    engine: str = ""


@dataclass(frozen=True)
class LaudnetParameters:
    """The parameter set of LAUDNet's own simulator for this device; times in seconds, rates per second."""

    units: float
    lanes: float
    clock_hz: float
    dram_bytes_s: float
    l2_factor: float
    batch: int
    launch_s: float
    pipeline_depth: float
    coalescing: float


@dataclass(frozen=True)
class KernelSet:
    """A family of CPU kernels and the CPU features it needs."""

    isa: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class DeviceProfile:
    """One device as its YAML file describes it.

    `sha256` is that of the file, so that a bundle can name it; `data` is the file as read. `sources` gives for the
    path of each number ("compute.clock_ghz") where it comes from. `calibration` is what a calibration measured, kept
    as it is; a device without one is modelled, not measured.
    """

    id: str
    kind: str
    description: str
    backend: str
    precision: str
    batch: int
    sha256: str
    path: str
    data: Mapping[str, Any]
    identity: Identity
    toolchain: Toolchain
    compute: Compute
    memory: Memory
    launch: Launch
    dtypes: Mapping[str, DtypeRate]
    unsupported: Mapping[str, str] = field(default_factory=dict)
    kernels: tuple[KernelSet, ...] = ()
    laudnet: LaudnetParameters | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether predictions for this device rest on measurements of it; of a CPU, on those of a CPU like this one."""
        if self.kind != "cpu" or not self.calibration:
            return bool(self.calibration)
        from .host import detect_host
        from .user import fits_host

        return fits_host(self, detect_host())

    @property
    def status(self) -> str:
        """What every table and report says beside this device's numbers."""
        return MEASURED if self.measured else MODELLED

    def supports(self, dtype: str) -> bool:
        """Whether the device computes in `dtype` at a rate worth using."""
        return dtype in self.dtypes

    def rate(self, dtype: str) -> DtypeRate:
        """The rate of a data type. Raises UserError where the device does not compute in it."""
        if dtype not in self.dtypes:
            raise UserError(
                f"the device '{self.id}' does not compute in {dtype}",
                self.unsupported.get(dtype, "its profile gives no rate for it"),
                f"use --precision with one of {', '.join(self.dtypes)}",
            )
        return self.dtypes[dtype]

    def peak_macs_per_s(self, dtype: str = "fp32") -> float:
        """Multiply-adds per second of the whole device; KeyError for a dtype it does not support."""
        return self.compute.units * self.dtypes[dtype].macs_per_cycle * self.compute.clock_ghz * 1e9

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the numbers of the host filled in, each beside its source.

        The path of the file is left out: reports must not carry machine paths.
        """
        return {
            "id": self.id,
            "status": self.status,
            "sha256": self.sha256,
            **{key: value for key, value in self.to_yaml_dict().items() if key != "id"},
        }

    def to_yaml_dict(self) -> dict[str, Any]:
        """The profile as its file would say it, with the numbers of the host filled in: can be read back."""
        known = {
            "id": self.id,
            "kind": self.kind,
            "description": self.description,
            "backend": self.backend,
            "precision": self.precision,
            "batch": self.batch,
            "identity": _said(asdict(self.identity)),
            "toolchain": _said({**asdict(self.toolchain), "notes": list(self.toolchain.notes)}),
            "compute": self._with_sources("compute", asdict(self.compute)),
            "memory": self._with_sources("memory", asdict(self.memory)),
            "launch": self._with_sources("launch", asdict(self.launch)),
            "dtypes": {name: self._with_sources(f"dtypes.{name}", asdict(rate)) for name, rate in self.dtypes.items()},
            "unsupported": dict(self.unsupported),
            "kernels": [{"isa": kernel.isa, "features": list(kernel.features)} for kernel in self.kernels],
            "laudnet_compat": dict(self.data.get("laudnet_compat") or {}),
            "calibration": dict(self.calibration),
        }
        return _said(known)

    def _with_sources(self, section: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """The section's numbers beside their sources; without what the file left out."""
        said: dict[str, Any] = {}
        for key, value in values.items():
            source = self.sources.get(f"{section}.{key}")
            if source is not None:
                said[key] = {"value": _whole(value), "source": source}
            elif value:
                said[key] = value
        return said


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what a profile leaves out."""
    return {key: value for key, value in values.items() if value not in ("", [], {}, ())}


def _whole(value: Any) -> Any:
    """128 rather than 128.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value

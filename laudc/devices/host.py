"""What the machine we run on is: CPU model, vector features, cores and caches."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
CPU_SYSFS = Path("/sys/devices/system/cpu")

# The features that decide which kernels run. Linux hides a flag from /proc/cpuinfo when it does not save the
# registers that go with it, so presence there means usable, not only built in.
KNOWN_FEATURES = (
    "sse4_2", "avx", "f16c", "fma", "avx2",
    "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16",
    "amx_tile", "amx_bf16", "amx_int8",
    "asimd", "asimdhp", "sve",
)  # fmt: skip

_ARCH_ALIASES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Host:
    """One machine. Cache sizes in bytes, clock in GHz (0: unknown), cores counted, not threads.

    `vendor` and `family` are those of an x86 CPU ("GenuineIntel", 6), empty and 0 elsewhere.
    """

    arch: str
    cpu: str
    features: tuple[str, ...]
    cores: int
    threads: int
    usable_threads: int
    caches: dict[str, int] = field(default_factory=dict)
    vendor: str = ""
    family: int = 0
    clock_ghz: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the same fields, tuples as lists."""
        return {**asdict(self), "features": list(self.features)}

    def describe(self) -> str:
        """One line for people."""
        shown = [name for name in ("avx512f", "avx2", "fma", "asimd", "sve") if name in self.features]
        parts = (
            self.arch,
            f"{self.cores} core{'s' if self.cores != 1 else ''}",
            f"{self.usable_threads} usable thread{'s' if self.usable_threads != 1 else ''}",
            " ".join(shown) or "no vector features known",
        )
        return f"{self.cpu} ({', '.join(parts)})"


def normal_arch(machine: str | None = None) -> str:
    """`platform.machine()` in one spelling: x86_64, aarch64, ..."""
    name = (machine or platform.machine()).lower()
    return _ARCH_ALIASES.get(name, name or "unknown")


def _size_bytes(text: str) -> int:
    """A sysfs cache size ("2048K", "32M") in bytes; 0 when it is not one."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text.strip())
    if not match:
        return 0
    return int(match.group(1)) << {"": 0, "K": 10, "M": 20, "G": 30}[match.group(2)]


def read_caches(cpu0: Path = CPU_SYSFS / "cpu0") -> dict[str, int]:
    """Data and unified caches of core 0: {"L1d": bytes, "L2": bytes, ...}; empty where sysfs has none."""
    caches: dict[str, int] = {}
    for index in sorted((cpu0 / "cache").glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            level = (index / "level").read_text().strip()
            size = _size_bytes((index / "size").read_text())
        except OSError:
            continue
        if kind in ("Data", "Unified") and size:
            caches[f"L{level}{'d' if kind == 'Data' else ''}"] = size
    return caches


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...], int]:
    """(model name, known features, physical cores) of a /proc/cpuinfo text; cores 0 when it does not say."""
    model = ""
    flags: set[str] = set()
    core_ids: set[tuple[str, str]] = set()
    package = "0"
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in ("model name", "Model", "Hardware") and not model:
            model = value
        elif key in ("flags", "Features") and not flags:
            flags = set(value.split())
        elif key == "physical id":
            package = value
        elif key == "core id":
            core_ids.add((package, value))
    return model, tuple(name for name in KNOWN_FEATURES if name in flags), len(core_ids)


def parse_maker(text: str) -> tuple[str, int]:
    """(vendor, family) of a /proc/cpuinfo text; ("", 0) where it does not say."""
    values = dict(_first_values(text))
    family = values.get("cpu family", "")
    return values.get("vendor_id", ""), int(family) if family.isdigit() else 0


def _first_values(text: str) -> list[tuple[str, str]]:
    """Keys and values of the first processor in a /proc/cpuinfo text."""
    first = text.split("\n\n", 1)[0]
    return [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in first.splitlines())]


def read_clock_ghz(cpuinfo: str, cpu0: Path = CPU_SYSFS / "cpu0") -> float:
    """Highest clock of core 0 in GHz: what the frequency driver allows, else what /proc/cpuinfo shows; 0: unknown."""
    with contextlib.suppress(OSError, ValueError):
        return int((cpu0 / "cpufreq" / "cpuinfo_max_freq").read_text()) / 1e6
    with contextlib.suppress(ValueError):
        return round(float(dict(_first_values(cpuinfo)).get("cpu MHz", "0")) / 1e3, 3)
    return 0.0


def threads_per_call(threads: int | None = None) -> int:
    """`threads`, or the usual number of a call on the CPU: all that this process may run on."""
    return detect_host().usable_threads if threads is None else threads


def _usable_threads() -> int:
    """Threads this process may run on (affinity, containers), at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


@functools.lru_cache(maxsize=1)
def detect_host() -> Host:
    """This machine. Never fails: what the operating system does not tell is "unknown" or 0."""
    try:
        text = CPUINFO.read_text(errors="replace")
    except OSError:
        text = ""
    model, features, cores = parse_cpuinfo(text)
    vendor, family = parse_maker(text)
    threads = os.cpu_count() or 1
    return Host(
        arch=normal_arch(),
        cpu=model or platform.processor() or "unknown CPU",
        features=features,
        cores=cores or threads,
        threads=threads,
        usable_threads=_usable_threads(),
        caches=read_caches(),
        vendor=vendor,
        family=family,
        clock_ghz=read_clock_ghz(text),
    )

"""What this machine's CPU can do, in the numbers of a profile, from what the operating system tells."""

from __future__ import annotations

import os

from .host import Host

Numbers = dict[str, tuple[float, str]]

# Sustained copy bandwidth that one core of a current server or desktop draws, and where more cores stop helping.
_CORE_GB_S = 10.0
_SATURATING_CORES = 8
_L2_BYTES_PER_CYCLE = 32.0
_FALLBACK_CLOCK_GHZ = 2.5
_CALL = "modelled: 1.7 to 1.9 were measured for the call of one operator on a Xeon"
_AMD_FAMILY_WITH_FULL_AVX512 = 26


def host_numbers(host: Host) -> Numbers:
    """Path of a profile's number ("compute.units") to its value on this host and its source."""
    cores = float(max(1, min(host.cores, host.usable_threads)))
    lanes, how = _lanes(host)
    clock = (host.clock_ghz, "host: operating system") if host.clock_ghz else (_FALLBACK_CLOCK_GHZ, "modelled")
    return {
        "compute.units": (cores, "host: cores usable by this process"),
        "compute.lanes": (lanes, how),
        "compute.clock_ghz": clock,
        "memory.dram_gb_s": (_CORE_GB_S * min(cores, _SATURATING_CORES), "modelled: 10 GB/s for each of up to 8 cores"),
        "memory.l2_gb_s": (
            _L2_BYTES_PER_CYCLE * cores * clock[0],
            "modelled: 32 bytes per cycle and core",
        ),
        "memory.l1_kib": _cache(host, "L1d", 32),
        "memory.l2_kib": _cache(host, "L2", 1024),
        "memory.l3_kib": _cache(host, "L3", 0),
        "memory.capacity_gib": (_memory_gib(), "host: operating system"),
        "launch.stream_us": (2.0, _CALL),
        "launch.graph_us": (2.0, _CALL),
        "launch.sync_us": (0.0, "documented: the host is the device"),
        "dtypes.fp32.macs_per_cycle": (lanes, how),
    }


def _lanes(host: Host) -> tuple[float, str]:
    """fp32 multiply-adds per cycle of one core."""
    if "avx512f" in host.features:
        if host.vendor == "AuthenticAMD" and host.family < _AMD_FAMILY_WITH_FULL_AVX512:
            return 16.0, "modelled: two 256-bit multiply-add pipes (AVX-512 in two halves)"
        return 32.0, "modelled: two 512-bit multiply-add pipes"
    if "avx2" in host.features and "fma" in host.features:
        return 16.0, "modelled: two 256-bit multiply-add pipes"
    if "asimd" in host.features:
        return 8.0, "modelled: two 128-bit multiply-add pipes"
    return 4.0, "modelled: one 128-bit multiply-add pipe"


def _cache(host: Host, level: str, fallback_kib: float) -> tuple[float, str]:
    size = host.caches.get(level, 0)
    return (size / 1024, "host: operating system") if size else (fallback_kib, "modelled: the host does not tell")


def _memory_gib() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return 0.0

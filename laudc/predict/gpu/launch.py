"""What a kernel launch is made of, and the GPU whose rates turn that into time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

SECTOR_BYTES = 32
WARP = 32
# Warps that a multiprocessor multiplies for at once: a block of fewer cannot use all of it.
SCHEDULERS = 4
# A load that the second-level cache answers. Loops that wait for what they load are unrolled four times by the
# compiler, so that four loads share a trip.
TRIP_CYCLES = 300
STEP_CYCLES = TRIP_CYCLES / 4
# What well-written kernels reach of the peak rates; a calibration replaces it.
COMPUTE_EFFICIENCY = 0.75
FP32_EFFICIENCY = 0.75
MEMORY_EFFICIENCY = 0.80
# The first compute capability whose loads of maps go through the first-level cache.
_FIRST_CACHED_SM = 70


@dataclass(frozen=True)
class Gpu:
    """A GPU in one data type. Rates are multiply-adds per second of one multiprocessor, bandwidths bytes per ns, times
    ns.

    Attributes:
        sm: 10 · major + minor of its compute capability.
        units: multiprocessors.
        gemm_rate: of our GEMMs: tensor cores where `tensor_cores`, else the fp32 units, whatever maps are stored as.
        fp32_rate: of our other kernels, which multiply in fp32 in every data type.
        runtime_rate: of the runtime's own kernels, which use whatever the device has for the data type.
        max_threads, shared_bytes: limits of the thread blocks resident on a multiprocessor.
        element: bytes of a map's or a weight's element.
        compute_efficiency, fp32_efficiency, memory_efficiency: reached of gemm_rate, fp32_rate and bandwidths.
        latency_factor: how many times as long as assumed trips to the cache take.
    """

    sm: int
    units: int
    gemm_rate: float
    fp32_rate: float
    runtime_rate: float
    tensor_cores: bool
    clock_hz: float
    max_threads: int
    shared_bytes: float
    dram: float
    l2: float
    l2_bytes: float
    element: int
    launch_ns: float
    compute_efficiency: float = COMPUTE_EFFICIENCY
    fp32_efficiency: float = FP32_EFFICIENCY
    memory_efficiency: float = MEMORY_EFFICIENCY
    latency_factor: float = 1.0

    def cycles_ns(self, cycles: float) -> float:
        """The time of so many clock cycles."""
        return cycles / self.clock_hz * 1e9

    def resident(self, threads: int, shared_bytes: float = 0.0, most: int = 32) -> int:
        """Thread blocks of so many threads and bytes of shared memory that share a multiprocessor."""
        by_threads = self.max_threads // threads if self.max_threads else most
        by_shared = int(self.shared_bytes // shared_bytes) if shared_bytes and self.shared_bytes else most
        return max(1, min(by_threads, by_shared, most))

    def reads(self, times: int) -> int:
        """How often the second-level cache is asked for what a thread block reads so many times in a row."""
        return 1 if self.sm >= _FIRST_CACHED_SM else times


@dataclass(frozen=True)
class Launch:
    """One launch for every call; arrays (calls,), at the peak rates.

    Attributes:
        name: of the kernel.
        compute_ns: arithmetic of the busiest multiprocessor.
        fill_ns: what nothing overlaps: pipelines that fill, decisions that one thread block makes.
        wait_ns: trips to the cache that a thread block waits for, one after another; others compute meanwhile.
        memory_ns: traffic.
        on_gemm_units: whether compute_ns is at `Gpu.gemm_rate`, not at `Gpu.fp32_rate`.
    """

    name: str
    compute_ns: Array
    fill_ns: Array
    wait_ns: Array
    memory_ns: Array
    on_gemm_units: bool = False

    def ns(self, gpu: Gpu) -> Array:
        """The time of the launch for each call."""
        efficiency = gpu.compute_efficiency if self.on_gemm_units else gpu.fp32_efficiency
        computing = np.maximum(self.compute_ns / efficiency, self.wait_ns * gpu.latency_factor)
        busy = self.fill_ns * gpu.latency_factor + computing
        return np.asarray(gpu.launch_ns + np.maximum(busy, self.memory_ns / gpu.memory_efficiency))


@dataclass(frozen=True)
class Spread:
    """How thread blocks share the multiprocessors: the busiest one's arithmetic, and how many rounds it takes; arrays
    (calls,)."""

    compute_ns: Array
    waves: Array


def spread(pieces: Array, piece_ns: Array, gpu: Gpu, *, threads: int, resident: int) -> Spread:
    """Shares out `pieces` (calls, segments) of work over blocks of so many threads.

    Each piece keeps a whole multiprocessor busy for `piece_ns`; `resident` blocks share one.

    The last wave is paid for even if it is thin, and blocks of few threads cannot use a multiprocessor alone.
    """
    total = pieces.sum(axis=1)
    mean = (pieces * piece_ns).sum(axis=1) / np.maximum(total, 1e-9)
    slots = gpu.units * resident
    waves = np.ceil(total / slots)
    last = total - (waves - 1) * slots
    alone = SCHEDULERS * WARP / threads
    full = np.maximum(waves - 1, 0) * max(resident, alone)
    compute = mean * (full + np.maximum(np.ceil(last / gpu.units), alone))
    return Spread(np.where(total > 0, compute, 0.0), waves)


def traffic_ns(gpu: Gpu, passed: Array, data: Array, cold: Array | float = 0.0) -> Array:
    """Time to move bytes at the peak bandwidths (calls,).

    Args:
        passed: all that the second-level cache hands out or takes, repetitions counted.
        data: of it distinct bytes of maps: they come from memory as far as the cache cannot hold them.
        cold: of it bytes that come from memory in any case.
    """
    far = cold + data * beyond_cache(gpu, data + cold)
    return np.asarray(np.maximum(far / gpu.dram, np.maximum(passed, data + cold) / gpu.l2))


def beyond_cache(gpu: Gpu, data: Array) -> Array:
    """Share of so many bytes that the second-level cache cannot hold."""
    return np.asarray(np.clip((data - gpu.l2_bytes / 2) / gpu.l2_bytes, 0, 1))


def sectors(size: Array | float) -> Array:
    """Bytes that really move for a contiguous piece: whole sectors of 32 bytes."""
    return np.asarray(np.ceil(np.asarray(size, float) / SECTOR_BYTES) * SECTOR_BYTES)


def moved(name: str, gpu: Gpu, size: Array, wait_ns: Array | float = 0.0) -> Launch:
    """A launch that moves so many bytes (calls,), each once, and computes next to nothing."""
    nothing = np.zeros(size.shape)
    return Launch(name, nothing, nothing, nothing + wait_ns, traffic_ns(gpu, size, size))

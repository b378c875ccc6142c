"""Compiles every CUDA kernel for every GPU that laudc knows and keeps a report of registers and spills.

The nvcc on the path builds what it can; CUDA 13's leaves out the older GPUs (sm_53 Nano, sm_62 TX2, sm_70 V100). NVRTC
12 builds the rest, or all: `pip install nvidia-cuda-nvrtc-cu12`. Where there is neither, the GPU is named and skipped,
unless --require is given. Exit status 3 if a kernel does not compile, spills registers, or is missing for some GPU.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

PLUGINS = Path(__file__).resolve().parent.parent / "plugins"
SMS = (53, 62, 70, 75, 80, 86, 87, 90)
FIRST_TENSOR_CORES = 70
LEAST_REGISTERS = 32  # a kernel that a GPU has no use for is empty and takes fewer
SOURCE = '#include "cuda/instances.cuh"\n'
KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for 'sm_(?P<sm>\d+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?:.*?(?P<shared>\d+) bytes smem)?",
)
TAGS = (
    "gemm_simt",
    "gemm_mma",
    "masker",
    "convert",
    "grouped_conv",
    "excite",
    "scale_rows",
    "choose",
    "normalise",
    "attention",
)


@dataclass(frozen=True)
class Kernel:
    """What ptxas says of one kernel on one GPU."""

    sm: int
    name: str
    registers: int
    spill_bytes: int
    stack_bytes: int
    shared_bytes: int


@dataclass(frozen=True)
class Outcome:
    """One GPU: kernels, or why there are none."""

    sm: int
    compiler: str
    kernels: tuple[Kernel, ...] = ()
    error: str = ""
    skipped: str = ""


def readable(mangled: str) -> str:
    """gemm_simt<float,float,float,128x64> from a mangled name, which needs no demangler."""
    tag = next((tag for tag in TAGS if tag in mangled), mangled)
    tail = mangled[mangled.find(tag) + len(tag) :]
    kinds = re.match(r"I((?:f|NS0_4HalfE|S2_)*)", tail)
    types = re.findall(r"f|NS0_4HalfE|S2_", kinds.group(1)) if kinds else []
    shape = re.findall(r"Li(\d+)E", tail)
    parts = ["float" if kind == "f" else "half" for kind in types]
    parts += re.findall(r"NS0_\d+((?:Volta|Turing|Ampere)(?:Half|Tf32))E", tail)
    return f"{tag}<{','.join(parts + (['x'.join(shape[:2])] if shape else []))}>"


def parse(log: str) -> tuple[Kernel, ...]:
    """The kernels in a ptxas log."""
    found = []
    for text in re.split(r"(?=Compiling entry function)", log.replace("\n", " "))[1:]:
        match = KERNEL.search(text)
        if match is None:
            raise ValueError(f"cannot read the log of ptxas: {text[:200]}")
        group = match.groupdict(default="0")
        found.append(
            Kernel(
                int(group["sm"]),
                readable(group["name"]),
                int(group["registers"]),
                int(group["stores"]) + int(group["loads"]),
                int(group["stack"]),
                int(group["shared"]),
            )
        )
    return tuple(sorted(found, key=lambda kernel: kernel.name))


def nvcc_for(sm: int) -> str | None:
    """The nvcc on the path, if it knows the GPU."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=False).stdout.split()
    return nvcc if f"sm_{sm}" in known else None


def compile_for(sm: int) -> Outcome:
    """Compiles for one GPU with the first compiler that can."""
    nvcc = nvcc_for(sm)
    return with_nvrtc(sm) if nvcc is None else with_nvcc(sm, nvcc)


def with_nvcc(sm: int, nvcc: str) -> Outcome:
    """Compiles for one GPU with nvcc."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "instances.cu"
        source.write_text(SOURCE, encoding="utf-8")
        options = ["-std=c++14", f"-arch=sm_{sm}", "-I", str(PLUGINS), "-Xptxas", "-v,-warn-spills", "-cubin"]
        done = subprocess.run(
            [nvcc, *options, str(source), "-o", f"{folder}/out.cubin"], capture_output=True, text=True, check=False
        )
    if done.returncode:
        return Outcome(sm, "nvcc", error=done.stderr[-2000:])
    return Outcome(sm, "nvcc", parse(done.stderr))


def nvrtc_library() -> Path | None:
    """NVRTC 12 as PyPI ships it."""
    try:
        files = metadata.files("nvidia-cuda-nvrtc-cu12") or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in files if f.name.startswith("libnvrtc.so")), None)


def with_nvrtc(sm: int) -> Outcome:
    """Compiles for one GPU with NVRTC, in a process of its own: it is not made for several threads."""
    if nvrtc_library() is None:
        why = "no nvcc for it is on the path, and NVRTC 12 is not installed: pip install nvidia-cuda-nvrtc-cu12"
        return Outcome(sm, "nvrtc", skipped=why)
    done = subprocess.run(
        [sys.executable, __file__, "--nvrtc-child", str(sm)], capture_output=True, text=True, check=False
    )
    return (
        Outcome(sm, "nvrtc", error=done.stdout[-2000:] + done.stderr[-2000:])
        if done.returncode
        else Outcome(sm, "nvrtc", parse(done.stdout))
    )


def nvrtc_child(sm: int) -> int:
    """Prints NVRTC's log."""
    path = nvrtc_library()
    assert path is not None
    nvrtc = ctypes.CDLL(str(path))
    program = ctypes.c_void_p()
    made = nvrtc.nvrtcCreateProgram(ctypes.byref(program), SOURCE.encode(), b"instances.cu", 0, None, None)
    options = [b"--std=c++14", f"--gpu-architecture=sm_{sm}".encode(), f"-I{PLUGINS}".encode(), b"--ptxas-options=-v"]
    code = made or nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    print(log.value.decode())
    return 1 if code else 0


def lacks_tensor_cores(outcome: Outcome) -> bool:
    """Whether every tensor-core kernel is empty on a GPU that has tensor cores."""
    used = [kernel.registers for kernel in outcome.kernels if kernel.name.startswith("gemm_mma")]
    return outcome.sm >= FIRST_TENSOR_CORES and max(used, default=0) < LEAST_REGISTERS


def complaints(outcomes: list[Outcome]) -> list[str]:
    """Everything that is not as it should be."""
    found = [f"sm_{o.sm}: does not compile with {o.compiler}:\n{o.error}" for o in outcomes if o.error]
    compiled = [o for o in outcomes if o.kernels]
    names = {kernel.name for o in compiled for kernel in o.kernels}
    for o in compiled:
        for name in sorted(names - {kernel.name for kernel in o.kernels}):
            found.append(f"sm_{o.sm}: {name} is missing")
        if lacks_tensor_cores(o):
            found.append(f"sm_{o.sm}: no tensor-core kernel does anything")
        for kernel in o.kernels:
            if kernel.spill_bytes:
                found.append(f"sm_{o.sm}: {kernel.name} spills {kernel.spill_bytes} bytes of registers")
    return found


def table(outcomes: list[Outcome]) -> str:
    """One GPU a line: the largest of all kernels. Tensor-core kernels take their shared memory at launch."""
    lines = ["GPU    compiler  kernels  registers  spilled bytes  static shared bytes"]
    for o in outcomes:
        if o.kernels:
            registers, spilled, shared = (
                max(getattr(kernel, name) for kernel in o.kernels)
                for name in ("registers", "spill_bytes", "shared_bytes")
            )
            lines.append(f"sm_{o.sm}  {o.compiler:8}  {len(o.kernels):7}  {registers:9}  {spilled:13}  {shared:19}")
        else:
            lines.append(f"sm_{o.sm}  {o.compiler:8}  {'skipped' if o.skipped else 'failed'}")
    return "\n".join(lines)


def main() -> int:
    """Runs the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="write the report as JSON")
    parser.add_argument("--require", action="store_true", help="a missing compiler is an error")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--nvrtc-child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.nvrtc_child:
        return nvrtc_child(arguments.nvrtc_child)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = list(pool.map(compile_for, SMS))
    for o in outcomes:
        if o.skipped:
            print(f"sm_{o.sm}: skipped, {o.skipped}", file=sys.stderr)
    print(table(outcomes))
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(json.dumps([asdict(o) for o in outcomes], indent=1) + "\n", encoding="utf-8")
    wrong = complaints(outcomes)
    if arguments.require:
        wrong += [f"sm_{o.sm}: {o.skipped}" for o in outcomes if o.skipped]
    for complaint in wrong:
        print(complaint, file=sys.stderr)
    return 3 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

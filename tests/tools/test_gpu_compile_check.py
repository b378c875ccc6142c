"""What the check reads from ptxas, and what it complains of; the compilers themselves run in `make gpu-compile`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import gpu_compile_check as check

_SHAPE = "NS0_8MmaShapeILi128ELi64ELi4ELi2ELi3EEE"
_VOLTA = f"_ZN5laudc4cuda8gemm_mmaINS0_4HalfE{_SHAPE}NS0_9VoltaHalfEEEvNS0_10GemmParamsE"
_LOG = """ptxas info    : Compiling entry function '{name}' for 'sm_{sm}'
ptxas info    : Function properties for {name}
    0 bytes stack frame, {spill} bytes spill stores, 0 bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers, 400 bytes cmem[0]
"""


def _outcome(sm=70, name=_VOLTA, registers=138, spill=0):
    return check.Outcome(sm, "nvrtc", check.parse(_LOG.format(name=name, sm=sm, registers=registers, spill=spill)))


def test_a_kernel_is_read() -> None:
    (kernel,) = _outcome(spill=8).kernels
    assert (kernel.name, kernel.sm) == ("gemm_mma<half,VoltaHalf,128x64>", 70)
    assert (kernel.registers, kernel.spill_bytes, kernel.stack_bytes, kernel.shared_bytes) == (138, 8, 0, 0)


def test_what_is_wrong_is_named() -> None:
    assert check.complaints([_outcome()]) == []
    assert "spills 8 bytes" in check.complaints([_outcome(spill=8)])[0]
    assert check.complaints([_outcome(registers=4)]) == ["sm_70: no tensor-core kernel does anything"]
    assert check.complaints([_outcome(sm=53, registers=4)]) == []
    other = _outcome(75, _VOLTA.replace("9VoltaHalf", "10TuringHalf"))
    missing = check.complaints([_outcome(), other])
    assert "sm_70: gemm_mma<half,TuringHalf,128x64> is missing" in missing
    assert "does not compile" in check.complaints([check.Outcome(80, "nvcc", error="no")])[0]


def test_the_table_has_one_line_for_each_gpu() -> None:
    skipped, failed = check.Outcome(80, "nvcc", skipped="no nvcc"), check.Outcome(90, "nvcc", error="x")
    lines = check.table([_outcome(), skipped, failed])
    assert lines.splitlines()[1].split() == ["sm_70", "nvrtc", "1", "138", "0", "0"]
    assert [line.split()[-1] for line in lines.splitlines()[2:]] == ["skipped", "failed"]


@pytest.mark.parametrize(("listed", "compiler"), [("sm_75\nsm_90\n", "nvrtc"), ("sm_62\nsm_70\n", "nvcc")])
def test_nvrtc_takes_what_nvcc_does_not_know(tmp_path, monkeypatch, listed, compiler) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\nprintf '{listed}'\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(check, "with_nvrtc", lambda sm: check.Outcome(sm, "nvrtc"))
    monkeypatch.setattr(check, "with_nvcc", lambda sm, path: check.Outcome(sm, "nvcc"))
    assert check.compile_for(70).compiler == compiler

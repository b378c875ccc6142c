"""Measuring a GPU with our CUDA kernels, and fitting its device profile."""

from __future__ import annotations

from laudc.calibrate.cuda.run import calibrate_cuda

__all__ = ["calibrate_cuda"]

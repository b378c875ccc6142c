"""What a GPU says about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuRecord:
    """A GPU and the software around it: what a TensorRT engine is compiled with, and runs with only.

    `name` as the driver says it, `sm` the compute capability ("5.3"), `cuda` the version of the CUDA runtime, `driver`
    the newest CUDA version that the installed driver supports (the only driver version that every device tells).
    """

    name: str
    sm: str
    cuda: str
    driver: str

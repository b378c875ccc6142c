"""TensorRT through Polygraphy. Nothing is imported before it is used: neither exists on most machines."""

from __future__ import annotations

from laudc.backends.tensorrt.backend import TensorRt

__all__ = ["TensorRt"]

"""Latency of our own CPU kernels and of ONNX Runtime's dense path: terms, coefficients, prediction."""

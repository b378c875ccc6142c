"""Numerics and measurements of the CUDA kernels on a machine that has PyTorch and nothing else."""

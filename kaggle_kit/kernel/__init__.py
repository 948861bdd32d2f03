"""Kernels for Kaggle: built here, proved here, and what they run there.

Importing this package loads no torch; the functions do when they need it.
"""

from kaggle_kit.kernel.build import KernelBuild, build_kernel
from kaggle_kit.kernel.runtime import KernelResult, run_inference_kernel

__all__ = [
    "KernelBuild",
    "KernelResult",
    "build_kernel",
    "run_inference_kernel",
]

"""Kernels for Kaggle: built here, tested here, and what they run there.

Importing this package loads no torch; the functions do when they need it.
"""

from kaggle_kit.kernel.build import Address, Content, KernelBuild, build_kernel
from kaggle_kit.kernel.dataset import AutoPlan
from kaggle_kit.kernel.runtime import KernelResult, run_inference_kernel
from kaggle_kit.kernel.sandbox import KernelTest, test_kernel
from kaggle_kit.kernel.training import TrainingResult, run_training_kernel

__all__ = [
    "Address",
    "AutoPlan",
    "Content",
    "KernelBuild",
    "KernelResult",
    "KernelTest",
    "TrainingResult",
    "build_kernel",
    "run_inference_kernel",
    "run_training_kernel",
    "test_kernel",
]

"""Kaggle's session, imitated: an environment with the image's packages only, no network, inputs that cannot be changed."""

from kaggle_kit.kernel.sandbox.prove import KernelTest, test_kernel
from kaggle_kit.kernel.sandbox.session import Session

__all__ = ["KernelTest", "Session", "test_kernel"]

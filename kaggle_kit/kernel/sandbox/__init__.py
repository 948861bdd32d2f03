"""Kaggle's session, imitated: an environment with the image's packages only, no network, inputs that cannot be changed."""

from kaggle_kit.kernel.sandbox.session import Session
from kaggle_kit.kernel.sandbox.testing import KernelTest, test_kernel

__all__ = ["KernelTest", "Session", "test_kernel"]

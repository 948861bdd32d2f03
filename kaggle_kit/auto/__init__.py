"""``kk auto``: what a competitor would try next, done by the clock, each step a command that can be repeated by hand."""

from kaggle_kit.auto.desk import AutoOptions
from kaggle_kit.auto.result import AutoResult
from kaggle_kit.auto.search import run_auto
from kaggle_kit.auto.session import run_auto_kernel

__all__ = ["AutoOptions", "AutoResult", "run_auto", "run_auto_kernel"]

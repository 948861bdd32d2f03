"""``kk auto``: what a competitor would try next, done by the clock, each step a command that can be repeated by hand."""

from kaggle_kit.auto.result import AutoResult
from kaggle_kit.auto.search import AutoOptions, run_auto

__all__ = ["AutoOptions", "AutoResult", "run_auto"]

"""``kk tune``: searching settings with Optuna. The only package that imports it."""

from kaggle_kit.tune.reporter import TuneReporter, TuneTable, make_tune_reporter, tune_lines
from kaggle_kit.tune.result import TrialRow, TuneResult
from kaggle_kit.tune.search import TuneOptions, tune
from kaggle_kit.tune.storage import open_dashboard

__all__ = [
    "TrialRow",
    "TuneOptions",
    "TuneReporter",
    "TuneResult",
    "TuneTable",
    "make_tune_reporter",
    "open_dashboard",
    "tune",
    "tune_lines",
]

"""``kk tune``: searching settings with Optuna. The only package that imports it."""

from kaggle_kit.tune.dashboard import open_dashboard
from kaggle_kit.tune.reporter import TuneLines, TuneReporter, TuneTable, make_tune_reporter
from kaggle_kit.tune.result import TrialRow, TuneResult
from kaggle_kit.tune.search import TuneOptions, tune

__all__ = [
    "TrialRow",
    "TuneLines",
    "TuneOptions",
    "TuneReporter",
    "TuneResult",
    "TuneTable",
    "make_tune_reporter",
    "open_dashboard",
    "tune",
]

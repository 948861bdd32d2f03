"""``kk tune``: searching settings and blends with Optuna. The only package that imports it."""

from kaggle_kit.tune.blending import DEFAULT_TRIALS as DEFAULT_BLEND_TRIALS
from kaggle_kit.tune.blending import TuneBlendResult, tune_blend
from kaggle_kit.tune.dashboard import open_dashboard
from kaggle_kit.tune.reporter import TuneLines, TuneReporter, TuneTable, make_tune_reporter
from kaggle_kit.tune.result import TrialRow, TuneResult
from kaggle_kit.tune.search import TuneOptions, tune

__all__ = [
    "DEFAULT_BLEND_TRIALS",
    "TrialRow",
    "TuneBlendResult",
    "TuneLines",
    "TuneOptions",
    "TuneReporter",
    "TuneResult",
    "TuneTable",
    "make_tune_reporter",
    "open_dashboard",
    "tune",
    "tune_blend",
]

"""Training: ``train_run`` trains the folds of a run, ``train_fold`` one of them."""

from kaggle_kit.events import Reporter
from kaggle_kit.runs.history import EpochRow
from kaggle_kit.runs.record import FoldRecord
from kaggle_kit.runs.summary import RunSummary
from kaggle_kit.stop import Stop, StopRequested
from kaggle_kit.training.fold import train_fold
from kaggle_kit.training.job import FoldJob
from kaggle_kit.training.prepare import default_run_name, prepare_run
from kaggle_kit.training.run import Outcome, Trainer, TrainOptions, train_jobs, train_run

__all__ = [
    "EpochRow",
    "FoldJob",
    "FoldRecord",
    "Outcome",
    "Reporter",
    "RunSummary",
    "Stop",
    "StopRequested",
    "TrainOptions",
    "Trainer",
    "default_run_name",
    "prepare_run",
    "train_fold",
    "train_jobs",
    "train_run",
]

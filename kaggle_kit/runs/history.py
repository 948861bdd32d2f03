"""What happened in each epoch: the rows of ``history.csv``, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from kaggle_kit import files
from kaggle_kit.config import EarlyStoppingConfig
from kaggle_kit.errors import KaggleKitError
from kaggle_kit.metrics import METRICS, Metric

TIMINGS = ("seconds", "images_per_second")
"""The columns of ``history.csv`` that differ between two equal runs."""


@dataclass(frozen=True)
class EpochRow:
    """One epoch.

    Attributes:
        epoch: 0 is the model before training, which has no training loss.
        train_loss: mean over the epoch's images, of mixed and augmented batches in training mode.
        valid_loss: mean negative log likelihood of the validation rows.
        score: the competition's metric on the validation rows; NaN where it is not defined.
        lr: learning rate of the backbone in the last update.
        seconds: of training, without validation and without the time that a stopped run lay still.
        images_per_second: of training.
        stage: the stage of the run that it is of, from 1.
        train_accuracy: share of the epoch's images, augmented and in training mode, whose most probable class was theirs (of
            mixed images, that of the larger part); multi-label: share of labels on the right side of 0.5. NaN in histories of
            0.1.0.
    """

    epoch: int
    train_loss: float
    valid_loss: float
    score: float
    lr: float
    seconds: float
    images_per_second: float
    train_accuracy: float = math.nan
    stage: int = 1

    def to_list(self) -> list[float]:
        """Plain numbers, for a checkpoint."""
        return list(astuple(self))

    @classmethod
    def from_list(cls, values: Sequence[float]) -> EpochRow:
        """The opposite of :meth:`to_list`."""
        row = cls(int(values[0]), *values[1:])  # type: ignore[arg-type]  # the stage is no fraction
        return replace(row, stage=int(row.stage))

    def values(self, metric: str) -> dict[str, Any]:
        """The row under the names of ``history.csv``, the score under the metric's name."""
        return {metric if name == "score" else name: value for name, value in asdict(self).items()}


def write_history(path: Path, rows: Sequence[EpochRow], metric: str) -> None:
    """Write ``history.csv``; equal runs give equal bytes but for the columns of ``TIMINGS``. With one stage, none is named."""
    names = [field.name for field in fields(EpochRow) if field.name != "stage" or any(row.stage > 1 for row in rows)]
    columns = [metric if name == "score" else name for name in names]
    files.write_table(path, pd.DataFrame([row.values(metric) for row in rows], columns=columns))


def read_history(folder: Path) -> pd.DataFrame | None:
    """Return the table of a fold's ``history.csv`` as numbers; None where there is none that can be read."""
    try:
        table: pd.DataFrame = files.read_table(folder / "history.csv").apply(pd.to_numeric)
    except (KaggleKitError, ValueError):
        return None
    return table


def stale_epochs(rows: Sequence[EpochRow], metric: Metric, config: EarlyStoppingConfig) -> int:
    """Return the trained epochs since what is monitored last improved by more than ``config.min_delta``."""
    best, since = math.nan, 0
    by_loss = config.monitor == "valid_loss"
    judge = METRICS["log_loss"] if by_loss else metric
    for row in rows:
        if row.epoch == 0:
            continue
        value = row.valid_loss if by_loss else row.score
        bar = best + config.min_delta if judge.greater_is_better else best - config.min_delta
        if judge.better(value, bar):
            best, since = value, 0
        else:
            since += 1
    return since


def should_stop(rows: Sequence[EpochRow], metric: Metric, config: EarlyStoppingConfig) -> bool:
    """Whether early stopping ends a stage of these ``rows``. It looks at nothing but the history, so a resumed run agrees."""
    return config.patience > 0 and stale_epochs(rows, metric, config) >= config.patience


def describe(row: EpochRow, metric: str, *, epochs: int, best: bool) -> str:
    """One line of text."""
    before = row.epoch == 0
    parts = [f"epoch {row.epoch:>{len(str(epochs))}}/{epochs}"]
    if before:
        parts.append("before training  ")
    elif not math.isnan(row.train_loss):  # it is of several models in one
        parts.append(f"train loss {row.train_loss:.4f}")
    if not math.isnan(row.valid_loss):  # it is where there is nothing to validate on
        parts += [f"valid loss {row.valid_loss:.4f}", f"{metric} {row.score:.4f}{'*' if best else ' '}"]
    if not before:
        rate = [] if math.isnan(row.lr) else [f"lr {row.lr:.2e}"]  # a probe has none
        pace = [f"{row.images_per_second:.1f} img/s", f"{row.seconds:.0f} s"] if row.images_per_second > 0 else []
        parts += [*rate, *pace]
    return "  ".join(parts).rstrip()

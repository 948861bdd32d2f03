"""How a run came out: a row a fold, mean and spread, and the score over all out-of-fold rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kaggle_kit import figures, runs
from kaggle_kit.errors import DataError
from kaggle_kit.fold_names import FULL, fold_folders
from kaggle_kit.metrics import get_metric
from kaggle_kit.results import Result, plain
from kaggle_kit.runs.history import read_history
from kaggle_kit.runs.plots import Plots
from kaggle_kit.runs.record import FoldRecord
from kaggle_kit.runs.scored import Scored, scored_run
from kaggle_kit.stop import TIME_LIMIT
from kaggle_kit.tables import FoldTable
from kaggle_kit.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TERMINATED = 143
"""Exit code of training that was stopped from outside, as shells report SIGTERM; a script should not go on to predict."""


@dataclass(frozen=True, repr=False)
class RunSummary(Result, Plots):
    """What training a run ended with.

    Attributes:
        results: the finished folds among those asked for, those that were finished before included.
        trained: folds that this call finished.
        failed: fold -> why it could not be trained.
        stopped: why training ended early, or None.
        full: the model of all data, where it was asked for and is finished; it has no score.
        oof_score: the metric over the out-of-fold rows of all finished folds of the run; NaN when there are none.
        n_oof: their number.
    """

    run: str
    path: Path
    metric: str
    results: tuple[FoldRecord, ...]
    trained: tuple[int, ...]
    failed: Mapping[int, str]
    stopped: str | None
    oof_score: float
    n_oof: int
    full: FoldRecord | None = None
    _workspace: Workspace | None = field(default=None, compare=False)

    def scored(self) -> Scored:
        """Return the out-of-fold rows of the run's finished folds."""
        workspace = self._workspace or Workspace(self.path.parent.parent)
        return scored_run(workspace, runs.read_run(workspace, self.run))

    def plot_curves(self) -> Figure:
        """Return losses and scores over the epochs, a colour a fold; raises DataError before the first epoch has ended."""
        return figures.plot_curves(self._histories(), self.metric)

    def plot_schedule(self) -> Figure:
        """Return the learning rate over the epochs; raises DataError before the first epoch has ended."""
        return figures.plot_schedule(self._histories())

    def _histories(self) -> dict[int, pd.DataFrame]:
        found = {fold: read_history(path) for fold, path in fold_folders(self.path).items() if fold != FULL}
        known = {fold: history for fold, history in found.items() if history is not None}
        if not known:
            raise DataError(f"{self.path} holds no {runs.HISTORY}; an epoch must have ended first.")
        return known

    @property
    def cut_short(self) -> bool:
        """Whether somebody stopped the run; its own time limit is no such surprise."""
        return self.stopped not in (None, TIME_LIMIT)

    @property
    def exit_code(self) -> int:
        """What ``kk train`` ends with."""
        return TERMINATED if self.cut_short else 0

    @property
    def scores(self) -> list[float]:
        """Score of each result."""
        return [result.score for result in self.results]

    @property
    def mean(self) -> float:
        """Mean score over the folds; NaN when there are none."""
        return float(np.mean(self.scores)) if self.scores else math.nan

    @property
    def spread(self) -> float:
        """Standard deviation of the score over the folds (N - 1); NaN for fewer than two."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else math.nan

    def table(self) -> pd.DataFrame:
        """A row a fold: fold, score under the metric's name, epoch, n_train, n_valid, seconds, img/s."""
        facts = ("epoch", "n_train", "n_valid", "seconds")
        rows = [
            {
                "fold": result.fold,
                self.metric: result.score,
                **{name: getattr(result, name) for name in facts},
                "img/s": result.images_per_second,
            }
            for result in self.results
        ]
        return pd.DataFrame(rows, columns=["fold", self.metric, *facts, "img/s"])

    def describe(self) -> str:
        """Return mean, spread, and the score over all out-of-fold rows; and why training stopped, if it was stopped."""
        stopped = f"stopped early: {self.stopped}. The checkpoint is kept; the same command goes on from there."
        return self._scores_text() + (f"\n{stopped}" if self.stopped else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the run's scores and a row for each fold."""
        folds = plain(self.table().rename(columns={self.metric: "score", "img/s": "images_per_second"}))
        scores = {"metric": self.metric, "mean": self.mean, "spread": self.spread}
        oof = {"oof_score": self.oof_score, "n_oof": self.n_oof}
        ended = {"trained": self.trained, "failed": self.failed, "stopped": self.stopped}
        facts = {"full": self.full is not None, **scores, **oof, **ended}
        return {"run": self.run, "path": self.path.as_posix(), **plain(facts), "folds": folds}

    def _scores_text(self) -> str:
        if self.full is not None:
            of_folds = f"{self.metric} {self.oof_score:.4f} over {self.n_oof:,} out-of-fold rows"
            return (
                f"run {self.run}: a model of all {self.full.n_train or 0:,} images, trained for {self.full.epochs} epochs; "
                f"it has no score of its own, its folds have {of_folds}"
            )
        if not self.results:
            return f"run {self.run}: no fold is finished"
        spread = "" if math.isnan(self.spread) else f" ± {self.spread:.4f}"
        count = "1 fold" if len(self.results) == 1 else f"{len(self.results)} folds"
        return (
            f"run {self.run}: {self.metric} {self.mean:.4f}{spread} over {count}; "
            f"{self.oof_score:.4f} over {self.n_oof:,} out-of-fold rows"
        )


def summarize(
    workspace: Workspace,
    folds: FoldTable,
    run: str,
    results: Sequence[FoldRecord],
    *,
    trained: Sequence[int] = (),
    failed: Mapping[int, str] | None = None,
    stopped: str | None = None,
) -> RunSummary:
    """Gather what the folds left on disk."""
    record = runs.read_run(workspace, run)
    metric = get_metric(record.record.metric, workspace.root)
    score, n_oof = math.nan, 0
    if any(fold.finished for fold in record.folds):
        oof = runs.read_oof(record)
        score, n_oof = metric(folds.truth(folds.rows_of(oof.ids)), oof.probs), len(oof)
    of_folds = tuple(result for result in results if result.fold != FULL)
    full = next((result for result in results if result.fold == FULL), None)
    ended = of_folds, tuple(trained), dict(failed or {}), stopped
    return RunSummary(run, record.path, metric.name, *ended, score, n_oof, full, workspace)

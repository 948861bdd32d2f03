"""What a review of labels changes, said honestly.

Every score is of out-of-fold rows, that is cross-fitted. Labels were reviewed where a model disagreed with them, so that a
score on the labels as reviewed flatters that model; the score on rows that nobody reviewed is the one to go by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kaggle_kit.competition import Setup
from kaggle_kit.results import Result
from kaggle_kit.reviews import Review, taught_by
from kaggle_kit.runs import list_runs, read_oof, read_run
from kaggle_kit.tables import read_folds


@dataclass(frozen=True)
class RunScores:
    """Out-of-fold scores of a run.

    Attributes:
        trained_on: "reviewed" where the run was trained with a review, else "given".
        given: on all rows, by the labels as given, dropped rows among them.
        reviewed: by the labels as reviewed, without dropped rows.
        unreviewed: on rows that nobody reviewed; NaN where there are none.
    """

    run: str
    trained_on: str
    given: float
    reviewed: float
    unreviewed: float


@dataclass(frozen=True, repr=False)
class ReviewEffect(Result):
    """Scores of runs trained with and without a review."""

    metric: str
    n_reviewed: int
    n_unreviewed: int
    scores: tuple[RunScores, ...]

    def table(self) -> pd.DataFrame:
        """Return a row a run."""
        columns = ["run", "trained on", "labels as given", "labels as reviewed", "unreviewed rows"]
        rows = [(one.run, one.trained_on, one.given, one.reviewed, one.unreviewed) for one in self.scores]
        return pd.DataFrame(rows, columns=columns)

    def describe(self) -> str:
        """Return what the columns mean, and how to read them."""
        return (
            f"{self.metric} out of fold; {self.n_reviewed} rows are reviewed, {self.n_unreviewed} are not. Rows were reviewed "
            "where a model disagreed, so the column of reviewed labels flatters; compare runs on the unreviewed rows."
        )


def review_effect(setup: Setup, review: Review) -> ReviewEffect:
    """Return the scores of all runs with finished folds, on labels as given, as reviewed, and on unreviewed rows."""
    metric = setup.metric
    scores, unreviewed = [], 0
    for name in list_runs(setup.workspace):
        run = read_run(setup.workspace, name)
        if not any(fold.finished for fold in run.folds):
            continue
        folds = read_folds(setup.workspace.folds_path(run.record.folds))
        oof = read_oof(run)
        rows = folds.rows_of(oof.ids)
        taught, wanted = taught_by(review, folds)
        free = np.array([row_id not in review.entries for row_id in oof.ids], dtype=bool)
        kept, unreviewed = wanted[rows], int(free.sum())
        scores.append(
            RunScores(
                name,
                "given" if run.record.review is None else "reviewed",
                metric(folds.truth(rows), oof.probs),
                metric(taught.truth(rows[kept]), oof.probs[kept]) if kept.any() else float("nan"),
                metric(folds.truth(rows[free]), oof.probs[free]) if free.any() else float("nan"),
            )
        )
    return ReviewEffect(metric.name, len(review), unreviewed, tuple(scores))

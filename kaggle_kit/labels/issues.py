"""Which labels are likely to be wrong, by confident learning on out-of-fold rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kaggle_kit.blending.alignment import align_runs
from kaggle_kit.competition import Setup
from kaggle_kit.errors import DataError
from kaggle_kit.folds import rests_on_pairs
from kaggle_kit.label_quality import label_quality
from kaggle_kit.results import Result
from kaggle_kit.reviews import Review, Reviewed
from kaggle_kit.runs import choose_runs, read_oof
from kaggle_kit.tables import FoldTable, Labels, Predictions, read_folds

_SUGGESTED = 6
_TABLE = 40


@dataclass(frozen=True)
class Suspect:
    """A row whose label is to be reviewed.

    Attributes:
        quality: 0 to 1, how well the labels agree with what was predicted out of fold; the lowest first.
        issue: whether cleanlab takes the labels for wrong.
        suggestions: the most probable classes with their probabilities.
    """

    id: str
    path: Path
    labels: Labels
    quality: float
    issue: bool
    suggestions: tuple[tuple[str, float], ...]


@dataclass(frozen=True, repr=False)
class LabelIssues(Result):
    """Labels to review, the most suspect first.

    Attributes:
        runs: whose out-of-fold rows were used.
        n_issues: rows whose labels are likely to be wrong.
        suspects: all rows that have out-of-fold predictions.
        review: what was decided so far.
    """

    runs: tuple[str, ...]
    n_issues: int
    suspects: tuple[Suspect, ...] = field(repr=False)
    review: Review = field(default_factory=Review)

    def describe(self) -> str:
        """Return how many labels want a review, and how many had one."""
        done = ", ".join(f"{count} {name}" for name, count in self.review.counts.items() if count)
        return (
            f"{self.n_issues} of {len(self.suspects)} labels are likely to be wrong, by the out-of-fold rows of "
            f"{', '.join(self.runs)}; reviewed: {done or 'none yet'}."
        )

    def table(self) -> pd.DataFrame:
        """Return the rows that are likely to be wrong, at least the first forty."""
        return self._frame(max(self.n_issues, _TABLE))

    def _frame(self, count: int) -> pd.DataFrame:
        rows = [
            {
                "id": one.id,
                "label": " + ".join(one.labels),
                "predicted": one.suggestions[0][0],
                "probability": one.suggestions[0][1],
                "quality": one.quality,
                "issue": "yes" if one.issue else "",
                "decision": _said(self.review.entries.get(one.id)),
            }
            for one in self.suspects[:count]
        ]
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return runs, counts and a row for each label that has been predicted out of fold."""
        return {
            "runs": list(self.runs),
            "n_issues": self.n_issues,
            "reviewed": self.review.counts,
            "rows": self._frame(len(self.suspects)).to_dict("records"),
        }


def _said(entry: Reviewed | None) -> str:
    if entry is None:
        return ""
    return f"wrong: {' + '.join(entry.labels) or 'no label'}" if entry.decision == "wrong" else entry.decision


def find_issues(setup: Setup, runs: Sequence[str] = (), review: Review | None = None) -> LabelIssues:
    """Order all rows that runs have predicted out of fold by how little their labels agree with that.

    Args:
        runs: their mean is taken; none: all that have a finished fold.

    Raises:
        MissingFileError: there is no such run, or none.
        DataError: the runs rest on different fold tables.
        DependencyError: cleanlab is not installed; says how to install it.
    """
    names, oof, folds = out_of_fold(setup, runs)
    rows = folds.rows_of(oof.ids)
    truth = folds.truth(rows)
    quality, issue = label_quality(truth, oof.probs)
    paths = {row.id: row.path for row in setup.competition.train}
    suspects = []
    for row in np.lexsort((quality, ~issue)).tolist():
        best = np.argsort(-oof.probs[row], kind="stable")[:_SUGGESTED]
        suggestions = tuple(zip(folds.classes.decode(best), oof.probs[row, best].tolist(), strict=True))
        row_id = oof.ids[row]
        labels = folds.labels[rows[row]]
        suspects.append(Suspect(row_id, paths[row_id], labels, float(quality[row]), bool(issue[row]), suggestions))
    return LabelIssues(tuple(names), int(issue.sum()), tuple(suspects), review or Review())


def out_of_fold(setup: Setup, runs: Sequence[str] = ()) -> tuple[list[str], Predictions, FoldTable]:
    """Return names of runs, the mean of their out-of-fold rows on the ids that all have, and their fold table."""
    chosen = [run for run in choose_runs(setup.workspace, list(runs)) if runs or any(fold.finished for fold in run.folds)]
    if not chosen:
        raise DataError("no run has a finished fold. Run `kk train` first.")
    if not runs:
        chosen = [run for run in chosen if not rests_on_pairs(setup.workspace, run)] or chosen
    tables = {run.record.folds_fingerprint for run in chosen}
    if len(tables) > 1:
        raise DataError("the runs rest on different fold tables; name those of one table: kk labels --runs A,B.")
    folds = read_folds(setup.workspace.folds_path(chosen[0].record.folds))
    aligned = align_runs([(run.name, read_oof(run)) for run in chosen], folds.classes, common=True)
    mean = np.asarray(np.mean(aligned.stack, axis=0, dtype=np.float64), dtype=np.float32)
    return list(aligned.names), Predictions(aligned.ids, mean, folds.classes, {}), folds

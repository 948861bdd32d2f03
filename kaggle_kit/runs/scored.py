"""Predictions beside what is true: the out-of-fold rows of a run or a blend, as scores and figures want them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import diagnosis
from kaggle_kit.errors import DataError, FoldError
from kaggle_kit.metrics import Metric, get_metric, predicted_labels
from kaggle_kit.runs.blend_record import read_blend_record
from kaggle_kit.runs.files import Run, read_oof
from kaggle_kit.tables import Classes, FoldTable, Predictions, read_folds, read_predictions
from kaggle_kit.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Scored:
    """N rows with their predictions and their truth.

    Attributes:
        truth: (N,) class positions, or (N, C) 0/1 for multi-label.
        probs: (N, C).
        folds: (N,) the fold that validates on the row in the first repeat; -1 where there is none.
        groups: (N,) rows of one group, such as duplicates, are not independent.
        threshold: a number or (C,), from which on a label of a multi-label row counts as predicted.
    """

    ids: tuple[str, ...]
    truth: Array
    probs: Array
    classes: Classes
    metric: Metric
    folds: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    threshold: npt.ArrayLike = field(default=0.5)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def multilabel(self) -> bool:
        """Whether rows have any number of labels."""
        return self.truth.ndim == 2

    @cached_property
    def labels(self) -> Array:
        """What was predicted, of the shape of ``truth``."""
        return predicted_labels(self.probs, threshold=self.threshold, multilabel=self.multilabel)

    @cached_property
    def score(self) -> float:
        """The metric over all rows."""
        return self.metric(self.truth, self.probs, threshold=self.threshold)

    @cached_property
    def fold_scores(self) -> dict[int, float]:
        """Fold -> the metric over its rows."""
        found = {}
        for fold in np.unique(self.folds[self.folds >= 0]).tolist():
            own = self.folds == fold
            found[fold] = self.metric(self.truth[own], self.probs[own], threshold=self.threshold)
        return found

    @cached_property
    def interval(self) -> diagnosis.Interval | None:
        """Where the score lies, see :func:`~kaggle_kit.diagnosis.score_interval`."""
        groups = self.groups if len(np.unique(self.groups)) < len(self) else None
        return diagnosis.score_interval(self.metric, self.truth, self.probs, groups=groups, threshold=self.threshold)

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """The confusion matrix (C, C).

        Raises:
            DataError: rows may have several labels, or classes are too many.
        """
        if self.multilabel:
            raise DataError("a confusion matrix needs one label a row; these rows may have several. See the table of classes.")
        return diagnosis.confusion_counts(self.truth, self.labels, len(self.classes))

    @cached_property
    def class_table(self) -> pd.DataFrame:
        """Precision, recall and F1 of each class, the worst first."""
        return diagnosis.class_table(self.truth, self.labels, self.classes)

    @cached_property
    def sureness(self) -> tuple[Array, Array]:
        """Whether each row is right, and how sure the model was, (N,) each."""
        return diagnosis.sureness(self.truth, self.probs, self.labels)

    def labels_of(self, row: int, *, predicted: bool = False) -> list[str]:
        """Return the true classes of a row, or the predicted ones."""
        cell = (self.labels if predicted else self.truth)[row]
        return self.classes.decode(np.flatnonzero(cell) if self.multilabel else [int(cell)])

    def names(self, row: int, *, predicted: bool = False) -> str:
        """Return :meth:`labels_of` with commas between them."""
        return ", ".join(self.labels_of(row, predicted=predicted))

    def take(self, rows: Array) -> Scored:
        """Return some of the rows, by position."""
        ids = tuple(self.ids[row] for row in rows.tolist())
        cells = self.truth[rows], self.probs[rows]
        return Scored(ids, *cells, self.classes, self.metric, self.folds[rows], self.groups[rows], self.threshold)


def scored_run(workspace: Workspace, run: Run, *, tta: str = "none", threshold: npt.ArrayLike = 0.5) -> Scored:
    """Return the out-of-fold rows of a run's finished folds.

    Raises:
        DataError, MissingFileError: no fold is finished, or a file is missing or damaged.
        FoldError: the fold table is not the one that the run was trained on.
    """
    folds = _table_of(workspace, run.record.folds, run.record.folds_fingerprint, f"run {run.name}")
    return score(read_oof(run, tta=tta), folds, get_metric(run.record.metric, workspace.root), threshold=threshold)


def scored_blend(workspace: Workspace, name: str) -> Scored:
    """Return the cross-fitted out-of-fold rows of a blend.

    Raises:
        DataError, MissingFileError: there is no such blend, or a file of it is missing or damaged.
        FoldError: the fold table is not the one that its runs were trained on.
    """
    path = workspace.submission_path(name)
    record = read_blend_record(path)
    if record.folds is None or record.folds_fingerprint is None or record.scores is None:
        raise DataError(f"the record of {path} does not say what it was scored by. Run `kk blend --name {name}` again.")
    default = record.form.get("threshold", 0.5) if record.form.get("form") == "labels" else 0.5
    threshold = np.asarray(default if record.thresholds is None else record.thresholds, dtype=np.float64)
    folds, metric = _table_of(workspace, record.folds, record.folds_fingerprint, f"blend {name}"), record.scores.metric
    oof = read_predictions(path.with_suffix(".oof.parquet"))
    return score(oof, folds, get_metric(metric, workspace.root), threshold=threshold)


def score(oof: Predictions, folds: FoldTable, metric: Metric, *, threshold: npt.ArrayLike = 0.5) -> Scored:
    """Return predictions of training rows beside what the fold table says of them.

    Raises:
        FoldError: the table lacks rows.
    """
    rows = folds.rows_of(oof.ids)
    probs = oof.align(folds.classes, here="the fold table").probs
    return Scored(
        oof.ids, folds.truth(rows), probs, folds.classes, metric, folds.assignments[0, rows], folds.groups[rows], threshold
    )


def _table_of(workspace: Workspace, name: str, fingerprint: str, whose: str) -> FoldTable:
    folds = read_folds(workspace.folds_path(name))
    if folds.fingerprint != fingerprint:
        raise FoldError(
            f"folds/{name}.csv is not the table that {whose} was trained on: its fingerprint is {folds.fingerprint[:8]}, "
            f"expected {fingerprint[:8]}. Put the old table back, which `kk folds --force` kept beside it, or train again."
        )
    return folds

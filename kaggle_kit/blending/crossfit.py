"""Honest scores: every row is blended by parameters that were found without its fold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kaggle_kit.blending.base import Array, Blender, RowsOf, Stack
from kaggle_kit.diagnosis import deal_groups
from kaggle_kit.errors import DataError
from kaggle_kit.metrics import Metric
from kaggle_kit.sparse import arranged
from kaggle_kit.tables import FoldTable

MIN_POSITIVES = 5
_GRID = np.round(np.arange(0.05, 0.96, 0.05), 2)
_PARTS = 5


@dataclass(frozen=True)
class CrossFit:
    """Probabilities (N, C) of rows blended without their own fold, and their score."""

    probs: npt.NDArray[np.float32]
    score: float
    n_parts: int


def cross_fit(
    blender: Blender,
    oof: Stack,
    truth: Array,
    parts: npt.NDArray[np.int64],
    metric: Metric,
    *,
    seed: int = 0,
    threshold: npt.ArrayLike = 0.5,
) -> CrossFit:
    """Fit on all parts but one, apply to that one, for each part; score the whole.

    Args:
        oof: M arrays (N, C) of out-of-fold probabilities.
        parts: (N,) the part of each row, as :func:`parts_of` makes it from the fold table.

    Raises:
        DataError: fewer than two parts.
    """
    truth, parts = np.asarray(truth), np.asarray(parts)
    values = np.unique(parts)
    if len(values) < 2:
        raise DataError(f"cross-fitting needs rows of at least 2 folds, found {len(values)}.")
    blended = []
    for value in values:
        inside, outside = np.flatnonzero(parts == value), np.flatnonzero(parts != value)
        fitted = blender.fit(RowsOf(oof, outside), truth[outside], metric, seed=seed, threshold=threshold)
        blended.append((inside, fitted.apply(RowsOf(oof, inside))))
    probs = arranged(blended)
    return CrossFit(probs, metric(truth, probs, threshold=threshold), len(values))


def parts_of(folds: FoldTable, rows: npt.NDArray[np.int64], *, seed: int = 0) -> npt.NDArray[np.int64]:
    """Parts for cross-fitting rows of a fold table: their folds, or for a single hold-out its groups dealt at random.

    Groups stay whole. With repeats, a row's fold in the first repeat that validates on it counts.
    """
    parts = np.full(len(rows), -1, dtype=np.int64)
    for assignment in folds.assignments[:, rows]:
        parts = np.where(parts < 0, assignment, parts)
    if len(np.unique(parts)) > 1:
        return parts
    return deal_groups(folds.groups[rows], _PARTS, seed=seed)


def tune_thresholds(probs: Array, truth: Array, metric: Metric) -> npt.NDArray[np.float64]:
    """Thresholds (C,) at which multi-label rows score best, never worse on these rows than 0.5.

    Tried are 0.5, each common threshold of a grid, and for each class the one of its best F1; classes with fewer than five
    positive rows keep the common one, since theirs would be read off noise.

    Raises:
        DataError: the rows are not multi-label.
    """
    truth, probs = np.asarray(truth), np.asarray(probs, dtype=np.float64)
    if truth.ndim != 2:
        raise DataError("thresholds are for multi-label rows; a single-label row gets its most probable class.")
    best = np.full(probs.shape[1], 0.5)
    score = metric(truth, probs, threshold=best)
    shared = best
    for value in _GRID:
        trial = np.full(probs.shape[1], value)
        trial_score = metric(truth, probs, threshold=trial)
        if metric.better(trial_score, score):
            best, score, shared = trial, trial_score, trial
    enough = truth.sum(axis=0) >= MIN_POSITIVES
    own = [_best_f1(probs[:, column], truth[:, column]) if enough[column] else shared[column] for column in range(len(shared))]
    return np.array(own) if metric.better(metric(truth, probs, threshold=own), score) else best


def cross_fit_thresholds(probs: Array, truth: Array, parts: npt.NDArray[np.int64], metric: Metric) -> float:
    """Score of ``probs`` when the thresholds of each part are tuned on the other parts."""
    truth = np.asarray(truth)
    chosen = np.empty(probs.shape, dtype=np.float64)
    for value in np.unique(parts):
        inside, outside = parts == value, parts != value
        # Moved so that 0.5 is each class's own threshold, the metric can score rows of different thresholds at once.
        thresholds = tune_thresholds(probs[outside], truth[outside], metric)
        chosen[inside] = (probs[inside] >= thresholds).astype(np.float64)
    return metric(truth, chosen, threshold=0.5)


def _best_f1(probs: Array, truth: Array) -> float:
    """The midpoint between two neighbouring probabilities that gives the best F1."""
    order = np.argsort(-probs, kind="stable")
    values, hits = probs[order], np.cumsum(truth[order])
    f1 = 2.0 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
    ends = np.append(values[:-1] > values[1:], True)  # equal probabilities are chosen together or not at all
    at = int(np.flatnonzero(ends & (f1 == f1[ends].max()))[0])
    below = values[at + 1] if at + 1 < len(values) else 0.0
    return float((values[at] + below) / 2.0)

"""Scores by their formulas. :mod:`kaggle_kit.metrics` gives them names.

A blend is scored some ten thousand times in a search, where scikit-learn takes milliseconds to look at its arguments. So what
counts right rows, or orders two kinds of rows, is counted here; scikit-learn is what the tests compare with.

``truth`` is (N,) int class positions, or (N, C) 0/1 for multi-label; ``labels`` has its shape; ``probs`` is (N, C).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kaggle_kit.errors import DataError

Array = npt.NDArray[Any]


def accuracy(truth: Array, labels: Array) -> float:
    """Share of rows that are right; of multi-label rows, in all their labels."""
    right = truth == labels
    return float(np.mean(right if truth.ndim == 1 else right.all(axis=1)))


def balanced_accuracy(truth: Array, labels: Array) -> float:
    """Mean recall of the classes that occur; for multi-label the mean over classes of the binary balanced accuracy."""
    if truth.ndim == 2:
        columns = zip(truth.T.astype(bool), labels.T.astype(bool), strict=True)
        return float(np.mean([balanced_accuracy(*column) for column in columns]))
    counts = _counts(truth, labels)
    occurs = counts.true > 0
    return float(np.mean(counts.hit[occurs] / counts.true[occurs]))


class _Counts(NamedTuple):
    """How many rows are of each class and predicted to be (``hit``), are predicted to be, and are of it."""

    hit: Array
    said: Array
    true: Array


def _counts(truth: Array, labels: Array, *, average: str = "macro") -> _Counts:
    """The counts of each class that occurs or is predicted, and of each column of multi-label rows; with ``average`` "samples"
    of each such row, and with "micro" of all together."""
    if truth.ndim == 2:
        of_row, true, said = average == "samples", truth.astype(bool), labels.astype(bool)
        counts = _Counts(*(cells.sum(axis=int(of_row)) for cells in (true & said, said, true)))
    else:
        width = int(max(truth.max(), labels.max())) + 1
        hit, said, true = (np.bincount(some, minlength=width) for some in (truth[truth == labels], labels, truth))
        there = said + true > 0
        counts = _Counts(hit[there], said[there], true[there])
    return _Counts(*(count.sum(keepdims=True) for count in counts)) if average == "micro" else counts


def _ratio(part: Array, whole: Array, *, empty: float) -> Array:
    """``part`` / ``whole``, and ``empty`` where that is 0 / 0."""
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), empty), where=whole > 0))


def f_beta(truth: Array, labels: Array, *, average: str, beta: float = 1.0) -> float:
    """F-beta, the weighted harmonic mean of precision and recall, where recall counts ``beta`` times as much.

    What neither occurs nor is predicted, be it a class or the labels of a row, counts as predicted rightly.
    """
    counts = _counts(truth, labels, average=average)
    each = _ratio((1 + beta**2) * counts.hit, counts.said + beta**2 * counts.true, empty=1.0)
    return float(np.average(each, weights=counts.true if average == "weighted" and counts.true.any() else None))


def precision(truth: Array, labels: Array) -> float:
    """Macro precision over the classes that occur or are predicted; 0 for one that is never predicted."""
    counts = _counts(truth, labels)
    return float(_ratio(counts.hit, counts.said, empty=0.0).mean())


def recall(truth: Array, labels: Array) -> float:
    """Macro recall over the classes that occur or are predicted; 0 for one that never occurs."""
    counts = _counts(truth, labels)
    return float(_ratio(counts.hit, counts.true, empty=0.0).mean())


def log_loss(truth: Array, probs: Array) -> float:
    """Mean negative log likelihood, clipped at 1e-15 as Kaggle does; multi-label is the mean over columns of the binary one."""
    clipped = np.clip(probs, 1e-15, 1 - 1e-15)
    if truth.ndim == 2:
        return float(-np.mean(truth * np.log(clipped) + (1 - truth) * np.log(1 - clipped)))
    # Kaggle rescales each row before it takes the logarithm.
    clipped = clipped / clipped.sum(axis=1, keepdims=True)
    return float(-np.mean(np.log(clipped[np.arange(len(truth)), truth])))


def one_hot(truth: Array, n_classes: int) -> Array:
    """Return (N, C) of 0 and 1: of class positions (N,), or ``truth`` itself where it is such a matrix."""
    return truth if truth.ndim == 2 else np.eye(n_classes, dtype=np.uint8)[truth]


def mean_over_columns(score: Callable[[Array, Array], float], truth: Array, probs: Array) -> float:
    """Mean of ``score`` over the columns that hold both outcomes; NaN when none does."""
    hot = one_hot(truth, probs.shape[1])
    usable = [column for column in range(hot.shape[1]) if 0 < hot[:, column].sum() < len(hot)]
    if not usable:
        return float("nan")
    return float(np.mean([score(hot[:, column], probs[:, column]) for column in usable]))


def roc_auc_columns(truth: Array, probs: Array) -> float:
    """Mean column-wise ROC AUC, one class against the rest, as in Plant Pathology 2020."""
    return mean_over_columns(lambda hot, column: _above(column[hot == 1], column[hot == 0]), truth, probs)


def _above(positive: Array, negative: Array) -> float:
    """Area under the ROC curve: in how many of all pairs the positive one is the larger, where equal ones count half."""
    among = np.sort(negative)
    below, up_to = (int(np.searchsorted(among, positive, side).sum()) for side in ("left", "right"))
    return (below + up_to) / (2 * len(positive) * len(negative))


def roc_auc_binary(truth: Array, probs: Array) -> float:
    """ROC AUC of the second, positive class."""
    if probs.shape[1] != 2:
        raise DataError(f"metric roc_auc is for two classes, got {probs.shape[1]}; use roc_auc_macro or roc_auc_columns.")
    return float("nan") if len(np.unique(truth)) < 2 else _above(probs[truth == 1, 1], probs[truth == 0, 1])


def roc_auc_macro(truth: Array, probs: Array) -> float:
    """Unweighted mean over pairs of classes (one against one, Hand & Till 2001); for multi-label the column-wise mean.

    Rows are rescaled to sum to 1 for it; classes that do not occur are left out.
    """
    if truth.ndim == 2 or probs.shape[1] == 2:
        return roc_auc_columns(truth, probs)
    present = np.unique(truth)
    if len(present) < 2:
        return float("nan")
    kept = probs[:, present] + 1e-12
    kept = kept / kept.sum(axis=1, keepdims=True)
    of_class = [kept[truth == label] for label in present]
    pairs = permutations(range(len(present)), 2)
    return float(np.mean([_above(of_class[one][:, one], of_class[other][:, one]) for one, other in pairs]))


def average_precision(truth: Array, probs: Array) -> float:
    from sklearn.metrics import average_precision_score

    return mean_over_columns(average_precision_score, truth, probs)


def quadratic_kappa(truth: Array, labels: Array) -> float:
    """Cohen's kappa with quadratic weights; meaningful when the order of the classes is that of the grades."""
    # In whole numbers of any size: N² times the squared distance of truths and labels, as they are paired and as if at random.
    n, true, said = len(truth), truth.astype(np.int64), labels.astype(np.int64)
    paired = n * int(((true - said) ** 2).sum())
    at_random = n * (int((true**2).sum()) + int((said**2).sum())) - 2 * int(true.sum()) * int(said.sum())
    return 1.0 - paired / at_random if at_random else 1.0


def top_k(truth: Array, probs: Array, *, k: int) -> float:
    """Share of rows whose class is among the ``k`` most probable."""
    return float(np.mean(_ranks(truth, probs) <= k))


def top_k_error(truth: Array, probs: Array, *, k: int) -> float:
    """Share of rows whose class is not among the ``k`` most probable."""
    return 1.0 - top_k(truth, probs, k=k)


def map_at_k(truth: Array, probs: Array, *, k: int) -> float:
    """Mean average precision of the first ``k`` guesses where one is right: the mean of 1/rank, 0 beyond rank ``k``."""
    ranks = _ranks(truth, probs)
    return float(np.mean(np.where(ranks <= k, 1 / ranks, 0.0)))


def _ranks(truth: Array, probs: Array) -> Array:
    """(N,) the place of each row's class, from 1; ties count against the row: a constant prediction must not score."""
    own = probs[np.arange(len(truth)), truth]
    return np.asarray((probs >= own[:, None]).sum(axis=1))


def probabilistic_f1(truth: Array, probs: Array) -> float:
    """F1 of the second of two classes, where a probability counts as that share of a row (pF1 of RSNA 2022)."""
    positive = _positive(truth, probs, "pf1")
    hit, said, true = float(positive[truth == 1].sum()), float(positive.sum()), int((truth == 1).sum())
    return 2 * hit / (said + true) if said + true else 0.0


def weighted_auc(truth: Array, probs: Array) -> float:
    """Area under the ROC curve of two classes where the part below a true positive rate of 0.4 counts twice (ALASKA2)."""
    from sklearn.metrics import roc_curve

    positive = _positive(truth, probs, "weighted_auc")
    if len(np.unique(truth)) < 2:
        return float("nan")
    fpr, tpr, _ = roc_curve(truth == 1, positive, drop_intermediate=False)
    return (2 * _area_between(fpr, tpr, 0.0, 0.4) + _area_between(fpr, tpr, 0.4, 1.0)) / (2 * 0.4 + 0.6)


def partial_auc(truth: Array, probs: Array, *, above: float) -> float:
    """Area under the ROC curve of two classes and above a true positive rate, 0 to 1 - ``above`` (ISIC 2024)."""
    from sklearn.metrics import roc_curve

    positive = _positive(truth, probs, "partial AUC")
    if len(np.unique(truth)) < 2:
        return float("nan")
    fpr, tpr, _ = roc_curve(truth == 1, positive, drop_intermediate=False)
    return _area_between(fpr, tpr, above, 1.0)


def _area_between(fpr: Array, tpr: Array, low: float, high: float) -> float:
    """The area under a ROC curve between two true positive rates."""
    # Corners where the curve crosses a rate keep the straight lines between its points.
    crossings = np.interp([low, high], tpr, fpr)
    at = np.sort(np.concatenate([fpr, crossings]), kind="stable")
    heights = np.sort(np.concatenate([tpr, [low, high]]), kind="stable")
    inside = heights.clip(low, high) - low
    return float(((inside[1:] + inside[:-1]) / 2 * np.diff(at)).sum())


def _positive(truth: Array, probs: Array, name: str) -> Array:
    """The probabilities (N,) of the second of two classes."""
    if probs.shape[1] != 2 or truth.ndim != 1:
        raise DataError(f"metric {name} is for two classes, got {probs.shape[1]}.")
    return np.asarray(probs[:, 1])


def matthews(truth: Array, labels: Array) -> float:
    """Matthews' correlation coefficient, for any number of classes."""
    rows = float(len(truth))
    hit, said, true = (count.astype(np.float64) for count in _counts(truth, labels))
    covariance = rows * hit.sum() - said @ true
    of_said, of_true = rows**2 - said @ said, rows**2 - true @ true  # 0 where all rows are of one class
    return float(covariance / np.sqrt(of_said * of_true)) if of_said and of_true else 0.0


def jaccard(truth: Array, labels: Array, *, average: str) -> float:
    """Intersection over union of what is true and what is predicted, the mean over classes or rows."""
    counts = _counts(truth, labels, average=average)
    return float(_ratio(counts.hit, counts.said + counts.true - counts.hit, empty=1.0).mean())


def hamming(truth: Array, labels: Array) -> float:
    """Share of cells of a multi-label table, or of rows of a single-label one, that are wrong."""
    return float(np.mean(truth != labels))

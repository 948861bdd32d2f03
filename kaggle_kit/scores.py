"""Scores by their formulas; scikit-learn underneath. :mod:`kaggle_kit.metrics` gives them names.

``truth`` is (N,) int class positions, or (N, C) 0/1 for multi-label; ``labels`` has its shape; ``probs`` is (N, C).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.errors import DataError

Array = npt.NDArray[Any]


def accuracy(truth: Array, labels: Array) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(truth, labels))


def balanced_accuracy(truth: Array, labels: Array) -> float:
    """Mean recall of the classes that occur; for multi-label the mean over classes of the binary balanced accuracy."""
    if truth.ndim == 2:
        return float(np.mean([balanced_accuracy(*columns) for columns in zip(truth.T, labels.T, strict=True)]))
    recalls = [np.mean(labels[truth == label] == label) for label in np.unique(truth)]
    return float(np.mean(recalls))


def f_beta(truth: Array, labels: Array, *, average: str, beta: float = 1.0) -> float:
    """F-beta, the weighted harmonic mean of precision and recall, where recall counts ``beta`` times as much.

    What neither occurs nor is predicted, be it a class or the labels of a row, counts as predicted rightly.
    """
    from sklearn.metrics import f1_score, fbeta_score

    if beta == 1:
        return float(f1_score(truth, labels, average=average, zero_division=1))
    return float(fbeta_score(truth, labels, beta=beta, average=average, zero_division=1))


def precision(truth: Array, labels: Array) -> float:
    """Macro precision over the classes that occur or are predicted; 0 for one that is never predicted."""
    from sklearn.metrics import precision_score

    return float(precision_score(truth, labels, average="macro", zero_division=0))


def recall(truth: Array, labels: Array) -> float:
    """Macro recall over the classes that occur or are predicted; 0 for one that never occurs."""
    from sklearn.metrics import recall_score

    return float(recall_score(truth, labels, average="macro", zero_division=0))


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
    from sklearn.metrics import roc_auc_score

    return mean_over_columns(roc_auc_score, truth, probs)


def roc_auc_binary(truth: Array, probs: Array) -> float:
    """ROC AUC of the second, positive class."""
    from sklearn.metrics import roc_auc_score

    if probs.shape[1] != 2:
        raise DataError(f"metric roc_auc is for two classes, got {probs.shape[1]}; use roc_auc_macro or roc_auc_columns.")
    return float("nan") if len(np.unique(truth)) < 2 else float(roc_auc_score(truth == 1, probs[:, 1]))


def roc_auc_macro(truth: Array, probs: Array) -> float:
    """Unweighted mean over pairs of classes (one against one, Hand & Till 2001); for multi-label the column-wise mean.

    Rows are rescaled to sum to 1 for it; classes that do not occur are left out.
    """
    from sklearn.metrics import roc_auc_score

    if truth.ndim == 2 or probs.shape[1] == 2:
        return roc_auc_columns(truth, probs)
    present = np.unique(truth)
    if len(present) < 2:
        return float("nan")
    kept = probs[:, present] + 1e-12
    kept = kept / kept.sum(axis=1, keepdims=True)
    codes = np.searchsorted(present, truth)
    scores = kept[:, 1] if len(present) == 2 else kept
    return float(roc_auc_score(codes, scores, multi_class="ovo", average="macro"))


def average_precision(truth: Array, probs: Array) -> float:
    from sklearn.metrics import average_precision_score

    return mean_over_columns(average_precision_score, truth, probs)


def quadratic_kappa(truth: Array, labels: Array) -> float:
    """Cohen's kappa with quadratic weights; meaningful when the order of the classes is that of the grades."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(np.concatenate([truth, labels]))) == 1:
        return 1.0
    # All grades are named, since the weights are differences of positions: a grade that does not occur still lies between.
    grades = np.arange(max(truth.max(), labels.max()) + 1)
    return float(cohen_kappa_score(truth, labels, labels=grades, weights="quadratic"))


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
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(truth, labels))


def jaccard(truth: Array, labels: Array, *, average: str) -> float:
    """Intersection over union of what is true and what is predicted, the mean over classes or rows."""
    from sklearn.metrics import jaccard_score

    return float(jaccard_score(truth, labels, average=average, zero_division=1))


def hamming(truth: Array, labels: Array) -> float:
    """Share of cells of a multi-label table, or of rows of a single-label one, that are wrong."""
    return float(np.mean(truth != labels))

"""Numbers that show where predictions are right and wrong: confusion, classes, calibration, the error of a score, mistakes.

``truth`` and ``probs`` are as :mod:`kaggle_kit.metrics` takes them: (N,) class positions or (N, C) 0/1, and (N, C).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit.errors import DataError
from kaggle_kit.metrics import Metric
from kaggle_kit.scores import one_hot
from kaggle_kit.sparse import kept_columns
from kaggle_kit.tables import Classes

Array = npt.NDArray[Any]
LEVEL = 0.95
_DRAWS = 400
_MOST_CELLS = 2_000_000_000
"""Cells, rows times classes times draws, beyond which fewer samples are drawn: a page should not take minutes for its error."""
_FEWEST_DRAWS = 50


@dataclass(frozen=True)
class Interval:
    """Between which values a score would lie in 95 of 100 equally large samples; ``how`` says by which method."""

    low: float
    high: float
    how: str

    def __str__(self) -> str:
        return f"{self.low:.4f} to {self.high:.4f}"


def score_interval(
    metric: Metric, truth: Array, probs: Array, *, groups: Array | None = None, threshold: npt.ArrayLike = 0.5, seed: int = 0
) -> Interval | None:
    """Return the 95 % interval of a score; None where it cannot be known from these rows.

    The accuracy of independent rows has the exact interval of Clopper and Pearson (1934), since every sample drawn from a few
    rows that are all right would be perfect. Other scores are bootstrapped: rows are drawn anew, whole groups together.

    Args:
        groups: (N,) rows of one group, such as duplicates, are drawn together.
    """
    units = np.arange(len(truth)) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_units = int(units.max()) + 1 if len(units) else 0
    if n_units < 2:
        return None
    if metric.name == "accuracy" and truth.ndim == 1 and n_units == len(truth):
        return _clopper_pearson(int((probs.argmax(axis=1) == truth).sum()), len(truth))
    rng = np.random.default_rng(seed)
    values = row_values(metric, truth, probs)
    if values is not None:
        sums, sizes, draws = np.bincount(units, values), np.bincount(units), _DRAWS
        drawn = (rng.integers(0, n_units, n_units) for _ in range(draws))
        scores = [float(sums[some].sum() / sizes[some].sum()) for some in drawn]
    else:
        order = np.argsort(units, kind="stable")
        starts = np.searchsorted(units[order], np.arange(n_units + 1))
        draws = int(np.clip(_MOST_CELLS // max(probs.size, 1), _FEWEST_DRAWS, _DRAWS))
        scores = []
        for _ in range(draws):
            some = rng.integers(0, n_units, n_units)
            rows = order[_ranges(starts[some], starts[some + 1])]
            scores.append(metric(truth[rows], probs[rows], threshold=threshold))
    ends = _middle(scores)
    if ends is None or ends[0] == ends[1]:
        return None
    return Interval(*ends, f"bootstrap, {draws} samples" + ("" if groups is None else " of whole groups"))


def row_values(metric: Metric, truth: Array, probs: Array) -> Array | None:
    """Return (N,) numbers whose mean is the score of rows with one label; None for metrics that are no mean over rows."""
    if truth.ndim == 2:
        return None
    if metric.name == "accuracy":
        return np.asarray(probs.argmax(axis=1) == truth, dtype=np.float64)
    if metric.name == "log_loss":
        clipped = np.clip(probs.astype(np.float64), 1e-15, 1 - 1e-15)
        return np.asarray(-np.log(clipped[np.arange(len(truth)), truth] / clipped.sum(axis=1)))
    return None


def _middle(scores: list[float]) -> tuple[float, float] | None:
    """Return the ends of the middle 95 % of drawn scores; None where most are not defined."""
    known = np.array(scores)[np.isfinite(scores)]
    if len(known) < len(scores) / 2:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _ranges(starts: Array, stops: Array) -> Array:
    """Return the numbers from each of ``starts`` to below its one of ``stops``, one range after the other."""
    lengths = stops - starts
    offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return np.asarray(np.arange(int(lengths.sum())) + offsets)


def _clopper_pearson(right: int, n: int) -> Interval:
    from scipy.stats import beta

    tail = (1 - LEVEL) / 2
    low = 0.0 if right == 0 else float(beta.ppf(tail, right, n - right + 1))
    high = 1.0 if right == n else float(beta.ppf(1 - tail, right + 1, n - right))
    return Interval(low, high, "Clopper and Pearson")


def confusion_counts(truth: Array, predicted: Array, n_classes: int) -> npt.NDArray[np.int64]:
    """Return (C, C): how many rows of each true class (row) were taken for each class (column).

    >>> confusion_counts(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2).tolist()
    [[1, 1], [0, 2]]

    Raises:
        DataError: classes are too many for a matrix.
    """
    if kept_columns(n_classes):
        raise DataError(
            f"a confusion matrix of {n_classes:,} classes is larger than memory should hold. The table of classes says what "
            "each is mostly taken for."
        )
    return np.bincount(truth * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def most_confused(counts: Array, most: int) -> npt.NDArray[np.int64]:
    """Return up to ``most`` classes that take part in a confusion, those in the largest ones first, partners side by side."""
    both = counts + counts.T
    np.fill_diagonal(both, 0)
    upper = np.triu(both)
    pairs = np.argsort(-upper, axis=None, kind="stable")
    chosen: dict[int, None] = {}
    for pair in pairs[: most * most]:
        first, second = divmod(int(pair), len(counts))
        if upper[first, second] == 0 or len(chosen) >= most:
            break
        chosen |= {first: None, second: None}
    return np.array(list(chosen)[:most], dtype=np.int64)


def confused_groups(truth: Array, probs: Array, *, largest: int, least: float) -> list[list[int]]:
    """Return groups of classes that are taken for each other, those that are most confused first.

    Two classes are as confused as the mean probability that their rows give to the other one; classes are joined by average
    linkage over that (Sokal and Michener 1958).

    Args:
        truth: (N,) class positions, or (N, C) of 0 and 1.
        probs: (N, C), of rows that the model had not seen.
        largest: classes of a group, at most.
        least: how confused groups must be to be joined, 0 to 1.

    Raises:
        DataError: classes are too many to compare all pairs of them.
    """
    from scipy.cluster.hierarchy import linkage

    n_classes = probs.shape[1]
    if kept_columns(n_classes):
        raise DataError(f"which of {n_classes:,} classes are confused needs all pairs; name specialists.groups instead.")
    has = one_hot(truth, n_classes).astype(np.float64)
    given = has.T @ (probs * (1 - has))  # (C, C): by rows of a class to a class that they have not
    rows = has.sum(axis=0)
    mutual = (given + given.T) / np.maximum(rows[:, None] + rows, 1)
    apart = 1 - mutual[np.triu_indices(n_classes, 1)]
    groups: dict[int, list[int]] = {position: [position] for position in range(n_classes)}
    for number, (one, other, distance, size) in enumerate(linkage(apart, "average") if n_classes > 1 else (), n_classes):
        # A group that would be too large stays apart, and so does all that would be joined to it.
        if size <= largest and 1 - distance >= least and {one, other} <= groups.keys():
            groups[number] = sorted([*groups.pop(int(one)), *groups.pop(int(other))])
    found = [group for group in groups.values() if len(group) > 1]
    return sorted(found, key=lambda group: -float(given[np.ix_(group, group)].sum()))


def confused_pairs(counts: Array, most: int) -> list[tuple[int, int, int]]:
    """Return (true class, taken for, rows) of the ``most`` largest cells off the diagonal of ``counts``."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    cells = np.argsort(-wrong, axis=None, kind="stable")[:most]
    found = [(*divmod(int(cell), len(counts)), int(wrong.flat[cell])) for cell in cells]
    return [pair for pair in found if pair[2]]


def class_table(truth: Array, labels: Array, classes: Classes) -> pd.DataFrame:
    """Return a row a class, the worst first: class, rows, precision, recall, F1, missed, false alarms, and mostly taken for.

    Precision is NaN for a class that was never predicted, recall for one that never occurs; such a class comes last.

    Args:
        labels: what was predicted, of the shape of ``truth``.
    """
    if truth.ndim == 2:
        right, occurs, predicted = (matrix.sum(axis=0, dtype=np.int64) for matrix in (truth & labels, truth, labels))
    else:
        cells = (truth[truth == labels], truth, labels)
        right, occurs, predicted = (np.bincount(some, minlength=len(classes)) for some in cells)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall, f1 = right / predicted, right / occurs, 2 * right / (occurs + predicted)
    frame = pd.DataFrame(
        {
            "class": list(classes),
            "rows": occurs,
            "precision": precision,
            "recall": recall,
            "F1": np.where(occurs > 0, f1, np.nan),
            "missed": occurs - right,
            "false alarms": predicted - right,
        }
    )
    if truth.ndim == 1:
        frame["mostly taken for"] = _mostly_taken_for(truth, labels, classes)
    return frame.sort_values(["F1", "rows"], ascending=[True, False], kind="stable").reset_index(drop=True)


def _mostly_taken_for(truth: Array, labels: Array, classes: Classes) -> list[str]:
    """Return for each class the other one that most of its rows were taken for, with their number; "" where none was."""
    wrong = truth != labels
    pairs, counts = np.unique(np.stack([truth[wrong], labels[wrong]]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -counts))
    found = [""] * len(classes)
    true, first = np.unique(pairs[0][order], return_index=True)
    for position, at in zip(true.tolist(), order[first].tolist(), strict=True):
        found[position] = f"{classes.decode([int(pairs[1, at])])[0]} ({counts[at]})"
    return found


@dataclass(frozen=True)
class Calibration:
    """How often rows are right by how sure the model was, in bins of equal width.

    Attributes:
        edges: (B + 1,) of the bins, from 0 to 1.
        confidence, accuracy: (B,) mean of each bin; NaN where it is empty.
        counts: (B,) rows, or for multi-label cells, of each bin.
        error: expected calibration error, the mean distance of the two by rows (Naeini et al. 2015).
    """

    edges: Array
    confidence: Array
    accuracy: Array
    counts: Array
    error: float

    def describe(self) -> str:
        """Return the error, and whether the model is too sure of itself or not sure enough."""
        known = self.counts > 0
        gap = float((self.counts[known] * (self.confidence[known] - self.accuracy[known])).sum() / self.counts.sum())
        word = "too sure of itself" if gap > 0 else "less sure than it could be"
        tends = f"; on the whole the model is {word}, by {abs(gap):.3f}" if abs(gap) >= 0.005 else ""
        return f"expected calibration error {self.error:.4f} in {len(self.counts)} bins{tends}"


def calibrate(truth: Array, probs: Array, *, bins: int = 15) -> Calibration:
    """Return the calibration of the most probable class; for multi-label and two classes that of each probability's class.

    Of two classes the second, positive one counts, since the more probable of two says nothing below 0.5.
    """
    if truth.ndim == 2:
        said, happened = probs.ravel(), truth.ravel().astype(bool)
    elif probs.shape[1] == 2:
        said, happened = probs[:, 1], truth == 1
    else:
        said, happened = probs.max(axis=1), probs.argmax(axis=1) == truth
    said = np.clip(said.astype(np.float64), 0, 1)
    edges = np.linspace(0, 1, bins + 1)
    place = np.minimum((said * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, said, minlength=bins) / counts
        accuracy = np.bincount(place, happened, minlength=bins) / counts
    error = float(np.nansum(counts * np.abs(confidence - accuracy)) / max(len(said), 1))
    return Calibration(edges, confidence, accuracy, counts, error)


def sureness(truth: Array, probs: Array, labels: Array) -> tuple[Array, Array]:
    """Return for each row whether all its labels are right, and how sure the model was of what it said, (N,) each.

    Multi-label: of a wrong row the probability of its surest wrong label, of a right row that of its least sure label.
    """
    if truth.ndim == 1:
        return labels == truth, probs[np.arange(len(probs)), labels]
    wrong = labels != truth
    of_label = np.where(labels > 0, probs, 1 - probs)
    right = ~wrong.any(axis=1)
    surest_wrong = np.where(wrong, of_label, -np.inf).max(axis=1)
    return right, np.where(right, of_label.min(axis=1), surest_wrong)


def surest_mistakes(right: Array, sure: Array, most: int) -> npt.NDArray[np.int64]:
    """Return up to ``most`` rows that are wrong, the surest first."""
    wrong = np.flatnonzero(~right)
    return wrong[np.argsort(-sure[wrong], kind="stable")][:most]


def least_sure_right(right: Array, sure: Array, most: int) -> npt.NDArray[np.int64]:
    """Return up to ``most`` rows that are right, the least sure first."""
    found = np.flatnonzero(right)
    return found[np.argsort(sure[found], kind="stable")][:most]


def paired_difference(
    metric: Metric, truth: Array, first: Array, second: Array, *, seed: int = 0
) -> tuple[float, float, float]:
    """Return how much ``second`` probabilities score above ``first`` ones on the same rows, and its bootstrapped 95 % interval.

    Both are scored on the same drawn rows each time, so that what is hard for both cancels. Ends that are unknown are NaN.
    """
    gap = metric(truth, second) - metric(truth, first)
    rng = np.random.default_rng(seed)
    before, after = row_values(metric, truth, first), row_values(metric, truth, second)
    draws = int(np.clip(_MOST_CELLS // max(2 * first.size, 1), _FEWEST_DRAWS, _DRAWS))
    gaps = []
    for _ in range(draws):
        rows = rng.integers(0, len(truth), len(truth))
        if before is not None and after is not None:
            gaps.append(float((after[rows] - before[rows]).mean()))
        else:
            gaps.append(metric(truth[rows], second[rows]) - metric(truth[rows], first[rows]))
    return (gap, *(_middle(gaps) or (math.nan, math.nan)))


def deal_groups(groups: Array, parts: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """Deal the groups of rows at random to parts of about as many groups, (N,) the part of each row."""
    found, owner = np.unique(groups, return_inverse=True)
    return np.asarray((np.random.default_rng(seed).permutation(len(found)) % parts)[owner], dtype=np.int64)


def jackknife_error(statistic: Callable[[npt.NDArray[np.int64]], float], parts: Array) -> float:
    """Return the standard error of a statistic, from its values without each of ``parts`` (N,) in turn (Tukey 1958).

    Args:
        statistic: of the rows at some positions.

    Returns:
        infinity where it cannot be known: of a single part, or where a value is not finite.
    """
    values = np.array([statistic(np.flatnonzero(parts != part)) for part in np.unique(parts)])
    if len(values) < 2 or not np.isfinite(values).all():
        return math.inf
    return float(np.sqrt((len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum()))


def votes(each: Array, mean: Array, threshold: npt.ArrayLike, *, multilabel: bool) -> Array:
    """Return (N, C), 1 for the labels that most of the M models name: ``each`` (M, N, C), and ``mean`` (N, C) decides ties."""
    if multilabel:
        share = (each >= np.asarray(threshold)).mean(axis=0)
        return np.where(share == 0.5, mean >= np.asarray(threshold), share > 0.5).astype(np.float64)
    named = np.eye(each.shape[2])[each.argmax(axis=2)].sum(axis=0)  # (N, C)
    chosen = np.where(named == named.max(axis=1, keepdims=True), mean, -1).argmax(axis=1)
    return np.asarray(np.eye(each.shape[2])[chosen])

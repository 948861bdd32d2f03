"""Competition metrics by name; scikit-learn underneath.

Every metric takes ``truth`` and ``probs`` and returns a float. ``truth`` is (N,) int class positions, or (N, C) 0/1 for
multi-label. ``probs`` is (N, C). A metric that wants labels gets the most probable class, or for multi-label what reaches 0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kaggle_kit import own_code
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.registry import Entry, Registry

Array = npt.NDArray[Any]
Needs = Literal["labels", "probs"]


@dataclass(frozen=True)
class Metric:
    """A scoring function with what it needs to know about itself.

    Attributes:
        function: ``(truth, values) -> float`` where values are labels of the shape of ``truth``, or probabilities (N, C).
        greater_is_better: the direction.
        needs: whether ``values`` are labels or probabilities.
        multilabel, single_label: the tasks that it is defined for.
    """

    name: str
    function: Callable[[Array, Array], float]
    greater_is_better: bool
    needs: Needs
    multilabel: bool = True
    single_label: bool = True

    def __call__(self, truth: npt.ArrayLike, probs: npt.ArrayLike, *, threshold: npt.ArrayLike = 0.5) -> float:
        """Score ``probs`` (N, C) against ``truth``; ``threshold`` (a number or (C,)) makes labels of multi-label rows.

        Returns NaN where the metric is not defined on these rows, as ROC AUC is when only one class is present, and where a
        probability is NaN or infinite.

        Raises:
            DataError: shapes do not fit each other, there are no rows, or the metric is not for this task.
        """
        truth, probs = np.asarray(truth), np.asarray(probs, dtype=np.float64)
        if probs.ndim != 2 or len(truth) != len(probs) or len(truth) == 0:
            raise DataError(
                f"metric {self.name}: expected N truths and (N, C) probabilities, got {truth.shape} and {probs.shape}."
            )
        multilabel = truth.ndim == 2
        self._require_fitting(truth, probs)
        if not np.isfinite(probs).all():
            return float("nan")  # argmax and thresholds would take NaN for an answer
        if not (self.multilabel if multilabel else self.single_label):
            raise DataError(
                f"metric {self.name} is not defined for {'multi-label' if multilabel else 'single-label'} rows; choose another."
            )
        if self.needs == "probs":
            return float(self.function(truth, probs))
        return float(
            self.function(truth, (probs >= np.asarray(threshold)).astype(np.uint8) if multilabel else probs.argmax(axis=1))
        )

    def _require_fitting(self, truth: Array, probs: Array) -> None:
        """Refuse truths that are not among the columns of ``probs``; raises DataError."""
        if truth.ndim == 2 and truth.shape != probs.shape:
            raise DataError(f"metric {self.name}: expected 0/1 truths of shape {probs.shape}, got {truth.shape}.")
        if truth.ndim == 1 and not (truth.min() >= 0 and truth.max() < probs.shape[1]):
            raise DataError(
                f"metric {self.name}: expected class positions in 0..{probs.shape[1] - 1}, got {truth.min()} to {truth.max()}."
            )

    def better(self, score: float, than: float) -> bool:
        """Whether ``score`` beats ``than``; NaN beats nothing and is beaten by any number."""
        if np.isnan(score) or np.isnan(than):
            return not np.isnan(score)
        return score > than if self.greater_is_better else score < than

    @property
    def worst(self) -> float:
        """A score that any other beats."""
        return -np.inf if self.greater_is_better else np.inf


def _accuracy(truth: Array, labels: Array) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(truth, labels))


def _balanced_accuracy(truth: Array, labels: Array) -> float:
    """Mean recall of the classes that occur; for multi-label the mean over classes of the binary balanced accuracy."""
    if truth.ndim == 2:
        return float(np.mean([_balanced_accuracy(*columns) for columns in zip(truth.T, labels.T, strict=True)]))
    recalls = [np.mean(labels[truth == label] == label) for label in np.unique(truth)]
    return float(np.mean(recalls))


def _f1(truth: Array, labels: Array, *, average: str) -> float:
    """F1; what neither occurs nor is predicted, be it a class or the labels of a row, counts as predicted rightly."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, labels, average=average, zero_division=1))


def _precision(truth: Array, labels: Array) -> float:
    """Macro precision over the classes that occur or are predicted; 0 for one that is never predicted."""
    from sklearn.metrics import precision_score

    return float(precision_score(truth, labels, average="macro", zero_division=0))


def _recall(truth: Array, labels: Array) -> float:
    """Macro recall over the classes that occur or are predicted; 0 for one that never occurs."""
    from sklearn.metrics import recall_score

    return float(recall_score(truth, labels, average="macro", zero_division=0))


def _log_loss(truth: Array, probs: Array) -> float:
    """Mean negative log likelihood, clipped at 1e-15 as Kaggle does; multi-label is the mean over columns of the binary one."""
    clipped = np.clip(probs, 1e-15, 1 - 1e-15)
    if truth.ndim == 2:
        return float(-np.mean(truth * np.log(clipped) + (1 - truth) * np.log(1 - clipped)))
    # Kaggle rescales each row before it takes the logarithm.
    clipped = clipped / clipped.sum(axis=1, keepdims=True)
    return float(-np.mean(np.log(clipped[np.arange(len(truth)), truth])))


def _one_hot(truth: Array, n_classes: int) -> Array:
    return truth if truth.ndim == 2 else np.eye(n_classes, dtype=np.uint8)[truth]


def _mean_over_columns(score: Callable[[Array, Array], float], truth: Array, probs: Array) -> float:
    """Mean of ``score`` over the columns that hold both outcomes; NaN when none does."""
    hot = _one_hot(truth, probs.shape[1])
    usable = [column for column in range(hot.shape[1]) if 0 < hot[:, column].sum() < len(hot)]
    if not usable:
        return float("nan")
    return float(np.mean([score(hot[:, column], probs[:, column]) for column in usable]))


def _roc_auc_columns(truth: Array, probs: Array) -> float:
    """Mean column-wise ROC AUC, one class against the rest, as in Plant Pathology 2020."""
    from sklearn.metrics import roc_auc_score

    return _mean_over_columns(roc_auc_score, truth, probs)


def _roc_auc_binary(truth: Array, probs: Array) -> float:
    """ROC AUC of the second, positive class."""
    from sklearn.metrics import roc_auc_score

    if probs.shape[1] != 2:
        raise DataError(f"metric roc_auc is for two classes, got {probs.shape[1]}; use roc_auc_macro or roc_auc_columns.")
    return float("nan") if len(np.unique(truth)) < 2 else float(roc_auc_score(truth == 1, probs[:, 1]))


def _roc_auc_macro(truth: Array, probs: Array) -> float:
    """Unweighted mean over pairs of classes (one against one, Hand & Till 2001); for multi-label the column-wise mean.

    Rows are rescaled to sum to 1 for it; classes that do not occur are left out.
    """
    from sklearn.metrics import roc_auc_score

    if truth.ndim == 2 or probs.shape[1] == 2:
        return _roc_auc_columns(truth, probs)
    present = np.unique(truth)
    if len(present) < 2:
        return float("nan")
    kept = probs[:, present] + 1e-12
    kept = kept / kept.sum(axis=1, keepdims=True)
    codes = np.searchsorted(present, truth)
    scores = kept[:, 1] if len(present) == 2 else kept
    return float(roc_auc_score(codes, scores, multi_class="ovo", average="macro"))


def _average_precision(truth: Array, probs: Array) -> float:
    from sklearn.metrics import average_precision_score

    return _mean_over_columns(average_precision_score, truth, probs)


def _quadratic_kappa(truth: Array, labels: Array) -> float:
    """Cohen's kappa with quadratic weights; meaningful when the order of the classes is that of the grades."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(np.concatenate([truth, labels]))) == 1:
        return 1.0
    # All grades are named, since the weights are differences of positions: a grade that does not occur still lies between.
    grades = np.arange(max(truth.max(), labels.max()) + 1)
    return float(cohen_kappa_score(truth, labels, labels=grades, weights="quadratic"))


def _top_k(truth: Array, probs: Array, *, k: int) -> float:
    """Share of rows whose class is among the ``k`` most probable."""
    own = probs[np.arange(len(truth)), truth]
    # Ties count against the row: a constant prediction must not score.
    rank = (probs >= own[:, None]).sum(axis=1)
    return float(np.mean(rank <= k))


def _registry(*metrics: tuple[str, Metric]) -> Registry[Metric]:
    return Registry("metric", [Entry(metric.name, help, metric) for help, metric in metrics])


METRICS: Registry[Metric] = _registry(
    ("share of rows whose class is right", Metric("accuracy", _accuracy, True, "labels")),
    ("mean share of right rows over the classes", Metric("balanced_accuracy", _balanced_accuracy, True, "labels")),
    ("F1, the mean over classes", Metric("f1_macro", partial(_f1, average="macro"), True, "labels")),
    ("F1 of all labels together", Metric("f1_micro", partial(_f1, average="micro"), True, "labels")),
    ("F1, the mean over classes by their size", Metric("f1_weighted", partial(_f1, average="weighted"), True, "labels")),
    (
        "F1 of each row's labels, the mean over rows",
        Metric("f1_samples", partial(_f1, average="samples"), True, "labels", single_label=False),
    ),
    (
        "share of each predicted class that is right, the mean over classes",
        Metric("precision_macro", _precision, True, "labels"),
    ),
    ("share of each class that is found, the mean over classes", Metric("recall_macro", _recall, True, "labels")),
    ("mean negative log likelihood, clipped and rescaled as Kaggle does", Metric("log_loss", _log_loss, False, "probs")),
    (
        "area under the ROC curve of the second of two classes",
        Metric("roc_auc", _roc_auc_binary, True, "probs", multilabel=False),
    ),
    ("area under the ROC curve, the mean over pairs of classes", Metric("roc_auc_macro", _roc_auc_macro, True, "probs")),
    ("area under the ROC curve, the mean over columns", Metric("roc_auc_columns", _roc_auc_columns, True, "probs")),
    ("average precision, the mean over columns", Metric("average_precision", _average_precision, True, "probs")),
    (
        "Cohen's kappa with quadratic weights, for classes in the order of grades",
        Metric("quadratic_kappa", _quadratic_kappa, True, "labels", multilabel=False),
    ),
    (
        "share of rows whose class is among the 3 most probable",
        Metric("top_3", partial(_top_k, k=3), True, "probs", multilabel=False),
    ),
    (
        "share of rows whose class is among the 5 most probable",
        Metric("top_5", partial(_top_k, k=5), True, "probs", multilabel=False),
    ),
)


def require_metric(name: str) -> str:
    """Return ``name`` if it is a metric's, or has the form of an own one; no code of it is run.

    Raises:
        ConfigError: it is neither.
    """
    return own_code.require_form(name, "metric") if ":" in name else METRICS.require(name)


def get_metric(name: str, root: Path = Path()) -> Metric:
    """Return the metric called ``name``, or an own one given as ``file.py:function``.

    An own function takes ``(truth, probs)`` and may set the attributes ``greater_is_better`` (default True) and ``needs``
    ("probs" by default, or "labels").

    Args:
        root: the workspace that holds the file.

    Raises:
        ConfigError: no such metric, file or function.
    """
    if ":" not in name:
        return METRICS.lookup(name)
    function = own_code.load_function(name, "metric", root)
    needs: Any = getattr(function, "needs", "probs")
    if not callable(function) or needs not in ("labels", "probs"):
        raise ConfigError(
            f"metric {name!r} must be a function whose `needs` is 'labels' or 'probs', got {function!r}, {needs!r}."
        )
    return Metric(name, function, bool(getattr(function, "greater_is_better", True)), needs)

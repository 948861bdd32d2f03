"""Competition metrics by name; scikit-learn underneath.

Every metric takes ``truth`` and ``probs`` and returns a float. ``truth`` is (N,) int class positions, or (N, C) 0/1 for
multi-label. ``probs`` is (N, C). A metric that wants labels gets the most probable class, or for multi-label what reaches 0.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from kaggle_kit import own_code, scores
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.registry import Entry, Registry
from kaggle_kit.results import Result
from kaggle_kit.sparse import SparseRows

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]
Needs = Literal["labels", "probs"]


def predicted_labels(probs: Array, *, threshold: npt.ArrayLike = 0.5, multilabel: bool) -> Array:
    """Return what is predicted: (N,) the most probable class, or for multi-label (N, C) 0/1, what reaches ``threshold``.

    >>> probs = np.array([[0.2, 0.8], [0.6, 0.7]])
    >>> predicted_labels(probs, multilabel=False).tolist()
    [1, 1]
    >>> predicted_labels(probs, threshold=0.5, multilabel=True).tolist()
    [[0, 1], [1, 1]]
    """
    if multilabel:
        return np.asarray(probs >= np.asarray(threshold), dtype=np.uint8)
    return np.asarray(probs.argmax(axis=1))


def _in_float64(probs: Any) -> Any:
    return probs.astype(np.float64) if isinstance(probs, SparseRows) else np.asarray(probs, dtype=np.float64)


@dataclass(frozen=True)
class Metric:
    """A scoring function with what it needs to know about itself.

    Attributes:
        function: ``(truth, values) -> float`` where values are labels of the shape of ``truth``, or probabilities (N, C).
        greater_is_better: the direction.
        needs: whether ``values`` are labels or probabilities.
        multilabel, single_label: the tasks that it is defined for.
        two_classes: whether it scores the second of two classes only.
        guesses: how many guesses a row may have, of a metric of ranked guesses; else 0.
        by_row: whether probabilities are looked at row by row, so that of many classes the largest of a row will do.
        ordered: whether the order of the classes counts.
    """

    name: str
    function: Callable[[Array, Array], float]
    greater_is_better: bool
    needs: Needs
    multilabel: bool = True
    single_label: bool = True
    two_classes: bool = False
    guesses: int = 0
    by_row: bool = False
    ordered: bool = False

    def __call__(self, truth: npt.ArrayLike, probs: Any, *, threshold: npt.ArrayLike = 0.5) -> float:
        """Score ``probs`` (N, C) against ``truth``; ``threshold`` (a number or (C,)) makes labels of multi-label rows.

        Returns NaN where the metric is not defined on these rows, as ROC AUC is when only one class is present, and where a
        probability is NaN or infinite.

        Raises:
            DataError: shapes do not fit each other, there are no rows, or the metric is not for this task.
        """
        truth, probs = np.asarray(truth), _in_float64(probs)
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
            return float(self.function(truth, probs if self.by_row else np.asarray(probs)))
        return float(self.function(truth, predicted_labels(probs, threshold=threshold, multilabel=multilabel)))

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


def _registry(*metrics: tuple[str, Metric]) -> Registry[Metric]:
    return Registry("metric", [Entry(metric.name, help, metric) for help, metric in metrics])


def _f(name: str, *, average: str, beta: float = 1.0, **options: Any) -> Metric:
    return Metric(name, partial(scores.f_beta, average=average, beta=beta), True, "labels", **options)


def _guesses(name: str, function: Any, k: int, *, greater_is_better: bool = True) -> Metric:
    return Metric(name, partial(function, k=k), greater_is_better, "probs", multilabel=False, guesses=k, by_row=True)


def _of_two(name: str, function: Any) -> Metric:
    return Metric(name, function, True, "probs", multilabel=False, two_classes=True)


METRICS: Registry[Metric] = _registry(
    ("share of rows whose class is right", Metric("accuracy", scores.accuracy, True, "labels")),
    ("mean share of right rows over the classes", Metric("balanced_accuracy", scores.balanced_accuracy, True, "labels")),
    ("F1, the mean over classes", _f("f1_macro", average="macro")),
    ("F1 of all labels together", _f("f1_micro", average="micro")),
    ("F1, the mean over classes by their size", _f("f1_weighted", average="weighted")),
    ("F1 of each row's labels, the mean over rows", _f("f1_samples", average="samples", single_label=False)),
    (
        "share of each predicted class that is right, the mean over classes",
        Metric("precision_macro", scores.precision, True, "labels"),
    ),
    ("share of each class that is found, the mean over classes", Metric("recall_macro", scores.recall, True, "labels")),
    ("F2 of each row's labels, the mean over rows", _f("f2_samples", average="samples", beta=2.0, single_label=False)),
    ("F2, the mean over classes", _f("f2_macro", average="macro", beta=2.0)),
    (
        "intersection over union of each row's labels, the mean over rows",
        Metric("jaccard_samples", partial(scores.jaccard, average="samples"), True, "labels", single_label=False),
    ),
    (
        "intersection over union, the mean over classes",
        Metric("jaccard_macro", partial(scores.jaccard, average="macro"), True, "labels"),
    ),
    ("share of labels that are wrong", Metric("hamming", scores.hamming, False, "labels")),
    ("Matthews' correlation coefficient", Metric("mcc", scores.matthews, True, "labels", multilabel=False)),
    (
        "Cohen's kappa with quadratic weights, for classes in the order of grades",
        Metric("quadratic_kappa", scores.quadratic_kappa, True, "labels", multilabel=False, ordered=True),
    ),
    (
        "mean negative log likelihood, clipped and rescaled as Kaggle does",
        Metric("log_loss", scores.log_loss, False, "probs", by_row=True),
    ),
    ("area under the ROC curve of the second of two classes", _of_two("roc_auc", scores.roc_auc_binary)),
    ("area under the ROC curve, the mean over pairs of classes", Metric("roc_auc_macro", scores.roc_auc_macro, True, "probs")),
    ("area under the ROC curve, the mean over columns", Metric("roc_auc_columns", scores.roc_auc_columns, True, "probs")),
    (
        "area under the ROC curve where true positive rates below 0.4 count twice",
        _of_two("weighted_auc", scores.weighted_auc),
    ),
    (
        "area under the ROC curve above a true positive rate of 0.8",
        _of_two("pauc_80", partial(scores.partial_auc, above=0.8)),
    ),
    ("F1 where a probability counts as that share of a row", _of_two("pf1", scores.probabilistic_f1)),
    ("average precision, the mean over columns", Metric("average_precision", scores.average_precision, True, "probs")),
    ("mean of 1/rank of the right one of 3 guesses", _guesses("map_3", scores.map_at_k, 3)),
    ("mean of 1/rank of the right one of 5 guesses", _guesses("map_5", scores.map_at_k, 5)),
    ("share of rows whose class is among the 3 most probable", _guesses("top_3", scores.top_k, 3)),
    ("share of rows whose class is among the 5 most probable", _guesses("top_5", scores.top_k, 5)),
    ("share of rows whose class is wrong", Metric("top_1_error", scores.hamming, False, "labels", multilabel=False)),
    (
        "share of rows whose class is not among the 5 most probable",
        _guesses("top_5_error", scores.top_k_error, 5, greater_is_better=False),
    ),
)

FAMILIES: tuple[tuple[str, Callable[[re.Match[str]], Metric]], ...] = (
    (r"map_?@?([1-9]\d*)", lambda found: _guesses(f"map_{found[1]}", scores.map_at_k, int(found[1]))),
    (r"top_?([1-9]\d*)", lambda found: _guesses(f"top_{found[1]}", scores.top_k, int(found[1]))),
    (
        r"top_?([1-9]\d*)_?error",
        lambda found: _guesses(f"top_{found[1]}_error", scores.top_k_error, int(found[1]), greater_is_better=False),
    ),
    (
        r"pauc_?([1-9]\d?)",
        lambda found: _of_two(f"pauc_{found[1]}", partial(scores.partial_auc, above=int(found[1]) / 100)),
    ),
    (
        r"f(\d+(?:\.\d+)?)_?(macro|micro|samples)",
        lambda found: _f(f"f{found[1]}_{found[2]}", average=found[2], beta=float(found[1]), single_label=found[2] != "samples"),
    ),
)
"""Metrics with a number in their name that METRICS does not list: pattern -> the metric of a match."""

ALIASES: dict[str, tuple[str, ...]] = {
    "accuracy": ("categorization accuracy", "multiclass accuracy", "acc", "mean accuracy"),
    "balanced_accuracy": ("mean recall", "average class accuracy"),
    "f1_macro": ("macro F1", "macro F1 score", "macro F-score", "macro-averaged F1"),
    "f1_micro": ("micro F1", "micro F1 score", "micro F-score", "mean F-score (micro)", "micro-averaged F1"),
    "f1_weighted": ("weighted F1", "weighted F1 score"),
    "f1_samples": ("mean F1", "mean F1 score", "mean F-score", "samples F1", "F1 per row"),
    "f2_samples": ("mean F2", "mean F2 score", "F2", "F2 score", "FBeta 2"),
    "quadratic_kappa": ("qwk", "quadratic weighted kappa", "quadratic kappa", "weighted kappa"),
    "log_loss": ("logloss", "multiclass loss", "multi class log loss", "mean columnwise log loss", "cross entropy"),
    "roc_auc": ("auc", "area under the ROC curve", "ROC AUC", "area under receiver operating characteristic curve"),
    "roc_auc_columns": ("mean column-wise ROC AUC", "mean columnwise AUC", "mean AUC", "average AUC"),
    "weighted_auc": ("alaska weighted AUC", "wAUC"),
    "pauc_80": ("partial AUC", "pAUC", "pAUC above 80% TPR"),
    "pf1": ("probabilistic F1", "pF1 score"),
    "mcc": ("Matthews", "Matthews correlation coefficient"),
    "jaccard_samples": ("Jaccard", "mean Jaccard", "mean IoU of labels"),
    "hamming": ("hamming loss",),
    "top_1_error": ("top-1 error", "error rate", "classification error", "top-1 classification error"),
    "average_precision": ("mAP", "mean average precision", "average precision score"),
}
"""Metric -> what pages of competitions call it; blanks, case and signs do not count."""
_REGRESSION = ("rmse", "mse", "mae", "rmsle", "r2", "root mean squared error", "mean absolute error", "mean squared error")


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "", name.casefold())


_BY_ALIAS = {_bare(name): metric for metric, names in ALIASES.items() for name in (metric, *names)}
_OF_NUMBERS = frozenset(map(_bare, _REGRESSION))


def require_metric(name: str) -> str:
    """Return the name of the metric that ``name`` means: its own, an alias, or that of an own function; no code of it is run.

    Raises:
        ConfigError: it is none of them.
    """
    if ":" in name:
        return own_code.require_form(name, "metric")
    if name in METRICS:
        return name
    if _bare(name) in _BY_ALIAS:
        return _BY_ALIAS[_bare(name)]
    found = _of_family(name)
    if found is not None:
        return found.name if found.name not in METRICS else METRICS[found.name].name
    if is_of_numbers(name):
        raise ConfigError(
            f"metric {name!r} scores numbers: that is regression, and kaggle_kit classifies images. Choose one of: "
            f"{', '.join(METRICS)}."
        )
    return METRICS.require(name)


@dataclass(frozen=True, repr=False)
class KnownMetrics(Result):
    """All metrics: name -> its help, and what pages call it."""

    metrics: Mapping[str, str]
    aliases: Mapping[str, tuple[str, ...]]

    def table(self) -> pd.DataFrame:
        """Return a row a metric."""
        import pandas as pd

        rows = [(name, help, ", ".join(self.aliases.get(name, ()))) for name, help in self.metrics.items()]
        frame = pd.DataFrame(rows, columns=["metric", "what it is", "also called"])
        frame.attrs["optional"] = ["also called"]
        return frame

    def describe(self) -> str:
        """Return what else may be written."""
        return "Also map_K, top_K, top_K_error, pauc_PERCENT, fBETA_macro, fBETA_micro, fBETA_samples, and file.py:function."


def known_metrics() -> KnownMetrics:
    """Return all metrics with what they are, for ``kk init --list-metrics``."""
    return KnownMetrics(METRICS.helps, ALIASES)


def is_of_numbers(name: str) -> bool:
    """Return whether a metric scores numbers, as of a regression."""
    return _bare(name) in _OF_NUMBERS


def _of_family(name: str) -> Metric | None:
    """The metric of a name with a number in it, such as map_7 or mAP@7; None when it is none."""
    text = re.sub(r"[\s@-]+", "_", name.casefold())
    for pattern, make in FAMILIES:
        found = re.fullmatch(pattern, text)
        if found:
            return make(found)
    return None


def get_metric(name: str, root: Path = Path()) -> Metric:
    """Return the metric called ``name`` (or an alias of it), or an own one given as ``file.py:function``.

    An own function takes ``(truth, probs)`` and may set the attributes ``greater_is_better`` (default True) and ``needs``
    ("probs" by default, or "labels").

    >>> truth, probs = [0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
    >>> round(get_metric("accuracy")(truth, probs), 4), round(get_metric("log_loss")(truth, probs), 4)
    (0.6667, 0.4149)
    >>> get_metric("MAP@5").name
    'map_5'

    Args:
        root: the workspace that holds the file.

    Raises:
        ConfigError: no such metric, file or function.
    """
    if ":" not in name:
        known = require_metric(name)
        return METRICS[known] if known in METRICS else cast(Metric, _of_family(known))
    function = own_code.load_function(name, "metric", root)
    needs: Any = getattr(function, "needs", "probs")
    if not callable(function) or needs not in ("labels", "probs"):
        raise ConfigError(
            f"metric {name!r} must be a function whose `needs` is 'labels' or 'probs', got {function!r}, {needs!r}."
        )
    return Metric(name, function, bool(getattr(function, "greater_is_better", True)), needs)

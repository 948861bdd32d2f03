"""Every metric against its direction, range, best value, scikit-learn, and rows in another order."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.metrics import METRICS, Metric, get_metric

UNBOUNDED = {"log_loss"}
LOWEST = {"quadratic_kappa": -1.0, "mcc": -1.0}
"""Metrics that may be negative; all others lie in 0..1."""
BEST = {"log_loss": 0.0, "hamming": 0.0, "top_1_error": 0.0, "top_5_error": 0.0, "pauc_80": 0.2}
"""What perfect predictions score, where it is not 1."""


def columns_mean(score: Callable[..., float]) -> Callable[..., float]:
    return lambda hot, probs: np.mean([score(hot[:, column], probs[:, column]) for column in range(hot.shape[1])])


def one_hot(truth: np.ndarray, n_classes: int) -> np.ndarray:
    return truth if truth.ndim == 2 else np.eye(n_classes, dtype=int)[truth]


def hard(truth: np.ndarray, probs: np.ndarray) -> np.ndarray:
    return probs >= 0.5 if truth.ndim == 2 else probs.argmax(axis=1)


def below(truth: np.ndarray, probs: np.ndarray, low: float, high: float) -> float:
    """Area between two true positive rates, as the difference of areas of the ROC curve cut at each."""
    fpr, tpr, _ = sk.roc_curve(truth, probs[:, 1], drop_intermediate=False)

    def cut(at: float) -> float:
        x, y = fpr, np.minimum(tpr, at)
        crossing = np.interp(at, tpr, fpr)
        order = np.lexsort((np.r_[y, at], np.r_[x, crossing]))
        return sk.auc(np.r_[x, crossing][order], np.r_[y, at][order])

    return cut(high) - cut(low)


def reciprocal(truth: np.ndarray, probs: np.ndarray, k: int) -> float:
    places = np.argsort(np.argsort(-probs, axis=1), axis=1)[np.arange(len(truth)), truth] + 1
    return float(np.mean(np.where(places <= k, 1 / places, 0)))


REFERENCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda t, p: sk.accuracy_score(t, hard(t, p)),
    "balanced_accuracy": lambda t, p: (
        columns_mean(sk.balanced_accuracy_score)(t, hard(t, p)) if t.ndim == 2 else sk.balanced_accuracy_score(t, hard(t, p))
    ),
    "precision_macro": lambda t, p: sk.precision_score(t, hard(t, p), average="macro", zero_division=0),
    "recall_macro": lambda t, p: sk.recall_score(t, hard(t, p), average="macro", zero_division=0),
    "f1_macro": lambda t, p: sk.f1_score(t, hard(t, p), average="macro"),
    "f1_micro": lambda t, p: sk.f1_score(t, hard(t, p), average="micro"),
    "f1_weighted": lambda t, p: sk.f1_score(t, hard(t, p), average="weighted"),
    "f1_samples": lambda t, p: sk.f1_score(t, hard(t, p), average="samples", zero_division=1),
    "log_loss": lambda t, p: (
        columns_mean(sk.log_loss)(t, p) if t.ndim == 2 else sk.log_loss(t, p, labels=np.arange(p.shape[1]))
    ),
    "roc_auc": lambda t, p: sk.roc_auc_score(t, p[:, 1]),
    "roc_auc_macro": lambda t, p: (
        columns_mean(sk.roc_auc_score)(t, p)
        if t.ndim == 2
        else sk.roc_auc_score(t, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovo")
    ),
    "roc_auc_columns": lambda t, p: columns_mean(sk.roc_auc_score)(one_hot(t, p.shape[1]), p),
    "average_precision": lambda t, p: columns_mean(sk.average_precision_score)(one_hot(t, p.shape[1]), p),
    "quadratic_kappa": lambda t, p: sk.cohen_kappa_score(t, hard(t, p), weights="quadratic"),
    "f2_samples": lambda t, p: sk.fbeta_score(t, hard(t, p), beta=2, average="samples", zero_division=1),
    "f2_macro": lambda t, p: sk.fbeta_score(t, hard(t, p), beta=2, average="macro"),
    "jaccard_samples": lambda t, p: sk.jaccard_score(t, hard(t, p), average="samples", zero_division=1),
    "jaccard_macro": lambda t, p: sk.jaccard_score(t, hard(t, p), average="macro"),
    "hamming": lambda t, p: sk.hamming_loss(t, hard(t, p)),
    "mcc": lambda t, p: sk.matthews_corrcoef(t, hard(t, p)),
    "weighted_auc": lambda t, p: (2 * below(t, p, 0.0, 0.4) + below(t, p, 0.4, 1.0)) / 1.4,
    "pauc_80": lambda t, p: below(t, p, 0.8, 1.0),
    "pf1": lambda t, p: 2 * p[t == 1, 1].sum() / (p[:, 1].sum() + t.sum()),
    "map_3": lambda t, p: reciprocal(t, p, 3),
    "map_5": lambda t, p: reciprocal(t, p, 5),
    "top_1_error": lambda t, p: sk.zero_one_loss(t, hard(t, p)),
    "top_5_error": lambda t, p: 1 - sk.top_k_accuracy_score(t, p, k=5) if p.shape[1] > 5 else 0.0,
    "top_3": lambda t, p: sk.top_k_accuracy_score(t, p, k=3) if p.shape[1] > 3 else 1.0,
    "top_5": lambda t, p: sk.top_k_accuracy_score(t, p, k=5) if p.shape[1] > 5 else 1.0,
}


def rows(n_classes: int, *, multilabel: bool, seed: int = 0, count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Truths with every class, and probabilities that are better than chance."""
    rng = np.random.default_rng(seed)
    if multilabel:
        truth = (rng.random((count, n_classes)) < 0.4).astype(int)
        truth[:2] = [[0] * n_classes, [1] * n_classes]
        return truth, np.clip(rng.normal(0.35 + 0.3 * truth, 0.25), 0.01, 0.99)
    truth = rng.permutation(np.arange(count) % n_classes)
    probs = rng.dirichlet(np.ones(n_classes), count) + 0.5 * np.eye(n_classes)[truth]
    return truth, probs / probs.sum(axis=1, keepdims=True)


def cases() -> list:
    found = []
    for metric in METRICS.values():
        sizes = [2] if metric.two_classes else [2, 4, 7]
        for multilabel in (False, True):
            if metric.multilabel if multilabel else metric.single_label:
                found += [pytest.param(metric, n, multilabel, id=f"{metric.name}-{n}-{'multi' * multilabel}") for n in sizes]
    return found


def test_every_metric_has_a_reference() -> None:
    assert set(REFERENCES) == set(METRICS)
    assert all(name == metric.name for name, metric in METRICS.items())


@pytest.mark.parametrize(("metric", "n_classes", "multilabel"), cases())
class TestConformance:
    def test_agrees_with_scikit_learn(self, metric: Metric, n_classes: int, multilabel: bool) -> None:
        for seed in range(3):
            truth, probs = rows(n_classes, multilabel=multilabel, seed=seed)
            assert metric(truth, probs) == pytest.approx(REFERENCES[metric.name](truth, probs), abs=1e-9)

    def test_perfect_predictions_are_best_and_wrong_ones_worse(self, metric: Metric, n_classes: int, multilabel: bool) -> None:
        truth, probs = rows(n_classes, multilabel=multilabel)
        perfect = one_hot(truth, n_classes).astype(float)
        best = metric(truth, perfect)
        assert best == pytest.approx(BEST.get(metric.name, 1.0), abs=1e-9)
        for worse in (probs, 1 - perfect if multilabel or n_classes == 2 else np.roll(perfect, 1, axis=1)):
            assert metric.better(best, metric(truth, worse)) or metric(truth, worse) == best
            assert not metric.better(metric(truth, worse), best)

    def test_better_predictions_score_better(self, metric: Metric, n_classes: int, multilabel: bool) -> None:
        if metric.name.startswith("top_") and n_classes <= metric.guesses:
            pytest.skip("all classes are among the top k")
        truth, probs = rows(n_classes, multilabel=multilabel)
        other, _ = rows(n_classes, multilabel=multilabel, seed=9)
        assert metric.better(metric(truth, probs), metric(other, probs))

    def test_range_and_type(self, metric: Metric, n_classes: int, multilabel: bool) -> None:
        truth, probs = rows(n_classes, multilabel=multilabel)
        for candidate in (probs, 1 - probs, np.full_like(probs, 1 / n_classes), np.zeros_like(probs)):
            score = metric(truth, candidate)
            assert type(score) is float
            assert score >= LOWEST.get(metric.name, 0.0)
            assert metric.name in UNBOUNDED or score <= 1
            assert metric.better(score, metric.worst)

    def test_order_of_rows_does_not_matter(self, metric: Metric, n_classes: int, multilabel: bool) -> None:
        truth, probs = rows(n_classes, multilabel=multilabel)
        order = np.random.default_rng(1).permutation(len(truth))
        assert metric(truth[order], probs[order]) == pytest.approx(metric(truth, probs), abs=1e-12)

    def test_truths_of_any_number_type_will_do(self, metric: Metric, n_classes: int, multilabel: bool) -> None:
        truth, probs = rows(n_classes, multilabel=multilabel)
        for kind in (np.uint8, np.int32, *((bool, np.float32) if multilabel else ())):
            assert metric(truth.astype(kind), probs) == metric(truth, probs)

    def test_inputs_are_left_alone_and_lists_will_do(self, metric: Metric, n_classes: int, multilabel: bool) -> None:
        truth, probs = rows(n_classes, multilabel=multilabel)
        before = truth.copy(), probs.copy()
        assert metric(truth.tolist(), probs.tolist()) == metric(truth, probs)
        np.testing.assert_array_equal(truth, before[0])
        np.testing.assert_array_equal(probs, before[1])

    def test_nan_probabilities_give_nan(self, metric: Metric, n_classes: int, multilabel: bool) -> None:
        truth, probs = rows(n_classes, multilabel=multilabel)
        probs[3, 1] = np.nan
        assert np.isnan(metric(truth, probs))

    def test_no_warnings(self, metric: Metric, n_classes: int, multilabel: bool) -> None:
        """Neither on usual rows nor where a class does not occur, as in a fold of rare classes."""
        truth, probs = rows(n_classes, multilabel=multilabel)
        few = truth[:3] * 0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            metric(truth, probs)
            metric(few, probs[:3])

    def test_misfits_are_refused(self, metric: Metric, n_classes: int, multilabel: bool) -> None:
        truth, probs = rows(n_classes, multilabel=multilabel)
        wrong = [(truth[:-1], probs), (truth[:0], probs[:0]), (truth, probs[:, 0])]
        wrong.append((truth[:, :-1], probs) if multilabel else (truth + 1, probs))
        for bad_truth, bad_probs in wrong:
            with pytest.raises(DataError, match=f"metric {metric.name}"):
                metric(bad_truth, bad_probs)


COUNTED: dict[str, Callable[..., float]] = {
    "accuracy": sk.accuracy_score,
    "precision_macro": partial(sk.precision_score, average="macro", zero_division=0),
    "recall_macro": partial(sk.recall_score, average="macro", zero_division=0),
    "f1_macro": partial(sk.f1_score, average="macro", zero_division=1),
    "f1_micro": partial(sk.f1_score, average="micro", zero_division=1),
    "f1_weighted": partial(sk.f1_score, average="weighted", zero_division=1),
    "f2_macro": partial(sk.fbeta_score, beta=2, average="macro", zero_division=1),
    "jaccard_macro": partial(sk.jaccard_score, average="macro", zero_division=1),
}
"""What scikit-learn says of truths and labels, where the package counts by itself."""
CELLS = st.tuples(st.integers(0, 4), st.integers(0, 4))
TABLES = st.integers(2, 5).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1))
"""Of some rows and columns what is true and what is said, in quarters, so that much is equal."""


@settings(max_examples=60)
@given(table=TABLES)
def test_ties_and_classes_that_hardly_occur_count_as_in_scikit_learn(table: list[list[tuple[int, int]]]) -> None:
    true, probs = np.moveaxis(np.array(table), 2, 0) / 4
    single, several = true.argmax(axis=1), (true >= 0.5).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of classes that do not occur
        for truth in (single, several):
            for name, reference in COUNTED.items():
                assert METRICS[name](truth, probs) == pytest.approx(reference(truth, hard(truth, probs))), name
            hot = one_hot(truth, probs.shape[1])
            pairs = [(hot[:, at], probs[:, at]) for at in range(hot.shape[1]) if 0 < hot[:, at].sum() < len(hot)]
            areas = [sk.roc_auc_score(*pair) for pair in pairs]
            assert METRICS["roc_auc_columns"](truth, probs) == pytest.approx(np.mean(areas) if areas else np.nan, nan_ok=True)
        assert METRICS["mcc"](single, probs) == pytest.approx(sk.matthews_corrcoef(single, hard(single, probs)))
        present = np.unique(single)
        if len(present) > 2:
            kept = probs[:, present] + 1e-12
            area = sk.roc_auc_score(single, kept / kept.sum(axis=1, keepdims=True), multi_class="ovo", labels=present)
            assert METRICS["roc_auc_macro"](single, probs) == pytest.approx(area)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
class TestDirection:
    def test_better_and_nan(self, metric: Metric) -> None:
        high, low = (0.9, 0.1) if metric.greater_is_better else (0.1, 0.9)
        assert metric.better(high, low)
        assert not metric.better(low, high)
        assert not metric.better(high, high)
        assert metric.better(low, float("nan"))
        assert not metric.better(float("nan"), low)
        assert not metric.better(float("nan"), float("nan"))

    def test_refuses_tasks_that_it_is_not_for(self, metric: Metric) -> None:
        for multilabel, fits in ((False, metric.single_label), (True, metric.multilabel)):
            if not fits:
                with pytest.raises(DataError, match="is not defined for"):
                    metric(*rows(2, multilabel=multilabel))


def test_only_losses_and_errors_are_to_be_small() -> None:
    small = {name for name, metric in METRICS.items() if not metric.greater_is_better}
    assert small == {"log_loss", "hamming", "top_1_error", "top_5_error"}


@pytest.mark.parametrize("name", ["roc_auc", "roc_auc_macro", "roc_auc_columns", "average_precision"])
def test_ranking_metrics_are_undefined_for_one_outcome(name: str) -> None:
    assert np.isnan(METRICS[name](np.ones(5, dtype=int), np.full((5, 2), 0.5)))


def test_classes_that_do_not_occur_are_left_out_of_the_mean() -> None:
    truth, probs = rows(3, multilabel=False)
    wider = np.concatenate([probs * 0.9, np.full((len(probs), 1), 0.1)], axis=1)
    for name in ("roc_auc_columns", "average_precision", "roc_auc_macro", "balanced_accuracy", "f1_macro"):
        assert METRICS[name](truth, wider) == pytest.approx(METRICS[name](truth, probs))


def test_roc_auc_is_of_the_second_class_and_of_two_only() -> None:
    assert METRICS["roc_auc"]([0, 0, 1], [[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]]) == 1.0
    with pytest.raises(DataError, match="for two classes, got 3"):
        METRICS["roc_auc"](*rows(3, multilabel=False))


def test_a_row_without_labels_predicted_so_is_right() -> None:
    truth = np.array([[0, 0], [1, 0]])
    assert METRICS["f1_samples"](truth, truth.astype(float)) == 1.0
    assert METRICS["f1_samples"](truth, [[0.9, 0.1], [0.9, 0.1]]) == 0.5


def test_kappa_counts_grades_that_do_not_occur() -> None:
    """Grades 0, 1 and 4: without the empty grades 2 and 3 between them the distance from 1 to 4 would be that from 0 to 1."""
    truth, labels = np.array([0, 1, 4, 4, 0, 1]), np.array([0, 4, 4, 1, 0, 1])
    disagreement = ((truth - labels) ** 2).mean()
    expected = ((truth[:, None] - labels[None, :]) ** 2).mean()
    assert METRICS["quadratic_kappa"](truth, np.eye(5)[labels]) == pytest.approx(1 - disagreement / expected)


def test_kappa_of_one_grade_predicted_rightly() -> None:
    assert METRICS["quadratic_kappa"]([2, 2], np.eye(4)[[2, 2]]) == 1.0


def test_log_loss_of_a_sure_error_is_finite() -> None:
    assert METRICS["log_loss"]([0], [[0.0, 1.0]]) == pytest.approx(-np.log(1e-15), rel=1e-3)


def test_constant_predictions_do_not_count_as_top_k() -> None:
    assert METRICS["top_3"](np.arange(8) % 4, np.full((8, 4), 0.25)) == 0.0


def test_threshold_per_class() -> None:
    truth, probs = [[1, 0], [1, 1]], [[0.4, 0.6], [0.3, 0.8]]
    assert METRICS["accuracy"](truth, probs) == 0.0
    assert METRICS["accuracy"](truth, probs, threshold=[0.3, 0.7]) == 1.0


class TestGetMetric:
    def test_by_name(self) -> None:
        assert get_metric("log_loss") is METRICS["log_loss"]

    def test_unknown(self) -> None:
        with pytest.raises(ConfigError, match=r"unknown metric 'log_los'\. Did you mean 'log_loss'"):
            get_metric("log_los")

    @pytest.fixture
    def module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """A module beside kk.yaml, as seen by an installed command: the current folder is not on the path."""
        name = f"own_metric_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(
            "def cost(truth, labels):\n    return (truth != labels).mean()\n"
            "cost.greater_is_better = False\ncost.needs = 'labels'\n"
            "def plain(truth, probs):\n    return probs.mean()\n"
            "def odd(truth, probs):\n    return 0\nodd.needs = 'logits'\nnumber = 3\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
        return name

    def test_own_function(self, module: str) -> None:
        before = list(sys.path)
        metric = get_metric(f"{module}:cost")
        assert not metric.greater_is_better
        assert metric([0, 1], [[0.9, 0.1], [0.8, 0.2]]) == 0.5
        assert get_metric(f"{module}:plain").greater_is_better
        assert get_metric(f"{module}:plain")([0, 1], [[0.9, 0.1], [0.8, 0.2]]) == 0.5
        assert sys.path == before

    @pytest.mark.parametrize("name", ["{}:nothing", "no_such_module:cost", ":cost", "{}:"])
    def test_own_function_that_is_not_there(self, module: str, name: str) -> None:
        with pytest.raises(ConfigError, match=r"Expected file\.py:function"):
            get_metric(name.format(module))

    def test_own_function_that_is_unfit(self, module: str) -> None:
        with pytest.raises(ConfigError, match="'labels' or 'probs'"):
            get_metric(f"{module}:odd")
        with pytest.raises(ConfigError, match="must be a function"):
            get_metric(f"{module}:number")

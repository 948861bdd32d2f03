from __future__ import annotations

import numpy as np
import pytest
from factories import fake_probabilities

from kaggle_kit.blending import cross_fit, cross_fit_thresholds, get_blender, parts_of, tune_thresholds
from kaggle_kit.blending.base import Blender
from kaggle_kit.choices import BLENDERS
from kaggle_kit.errors import DataError
from kaggle_kit.metrics import get_metric
from kaggle_kit.tables import Classes, FoldTable

CLASSES = Classes(("a", "b", "c"))


def runs_of(truth, accuracies, *, seed=0, multilabel=False):
    rng = np.random.default_rng(seed)
    return np.stack([fake_probabilities(truth, 3, each, multilabel=multilabel, rng=rng) for each in accuracies])


def table(assignments, groups=None):
    rows = np.atleast_2d(assignments).shape[1]
    groups = np.arange(rows) if groups is None else np.asarray(groups)
    labels = [(CLASSES.names[row % 3],) for row in range(rows)]
    n_folds = int(np.max(assignments)) + 1
    return FoldTable(tuple(map(str, range(rows))), tuple(labels), groups, np.atleast_2d(assignments), n_folds, CLASSES)


@pytest.mark.parametrize("name", list(BLENDERS))
def test_no_row_is_blended_by_a_fit_that_saw_it(name):
    """Labels of one fold may be anything: the probabilities of that fold stay the same."""
    truth = np.arange(120) % 3
    stack, parts = runs_of(truth, (0.6, 0.8)), np.arange(120) // 40
    metric = get_metric("accuracy")
    straight = cross_fit(get_blender(name), stack, truth, parts, metric)
    turned = np.where(parts == 1, (truth + 1) % 3, truth)
    np.testing.assert_array_equal(
        cross_fit(get_blender(name), stack, turned, parts, metric).probs[parts == 1], straight.probs[parts == 1]
    )


def test_for_a_mean_the_cross_fitted_score_is_the_in_sample_one():
    truth = np.arange(90) % 3
    stack, metric = runs_of(truth, (0.6, 0.8)), get_metric("log_loss")
    fitted = cross_fit(get_blender("mean"), stack, truth, np.arange(90) % 3, metric)
    assert fitted.score == pytest.approx(metric(truth, stack.mean(axis=0)), abs=1e-6)
    assert fitted.n_parts == 3


def test_a_fit_that_remembers_is_found_out():
    """A blender that learns the labels by heart looks perfect in sample; cross-fitted it scores as chance."""
    truth = np.arange(300) % 3
    stack = np.random.default_rng(0).dirichlet(np.ones(3), size=(1, 300)).astype(np.float32)

    def learn(problem):
        rows = {tuple(row): int(label) for row, label in zip(problem.stack[0].tolist(), problem.truth, strict=True)}
        return {"rows": rows}

    def combine(probs, parameters, multilabel):
        found = [parameters["rows"].get(tuple(row), 0) for row in np.asarray(probs[0]).tolist()]
        return np.eye(3)[found]

    cheat, metric = Blender("cheat", combine, learn), get_metric("accuracy")
    assert metric(truth, cheat.fit(stack, truth, metric).apply(stack)) == 1.0
    assert cross_fit(cheat, stack, truth, np.arange(300) % 5, metric).score < 0.45


def test_one_part_is_refused():
    truth = np.arange(30) % 3
    with pytest.raises(DataError, match="at least 2 folds, found 1"):
        cross_fit(get_blender("mean"), runs_of(truth, (0.8,)), truth, np.zeros(30, dtype=int), get_metric("accuracy"))


def test_parts_are_the_folds():
    assignment = np.arange(30) % 4
    rows = np.array([3, 1, 20])
    np.testing.assert_array_equal(parts_of(table(assignment), rows), assignment[rows])


def test_parts_of_repeats_take_the_first_that_validates():
    folds = table(np.array([[0, -1, 1, -1], [1, 1, 0, 0]]))
    np.testing.assert_array_equal(parts_of(folds, np.arange(4)), [0, 1, 1, 0])


def test_a_hold_out_is_dealt_by_groups():
    assignment = np.where(np.arange(60) < 40, 0, -1)
    groups = np.arange(60) // 3
    parts = parts_of(table(assignment, groups), np.arange(40))
    assert len(np.unique(parts)) == 5
    for group in range(13):
        assert len(np.unique(parts[groups[:40] == group])) == 1


def multilabel_problem(rows=400):
    rng = np.random.default_rng(1)
    truth = (rng.random((rows, 3)) < 0.3).astype(np.uint8)
    probs = runs_of(truth, (0.9,), multilabel=True)[0]
    return probs**3, truth  # timid: 0.5 is far too high a threshold


@pytest.mark.parametrize("name", ["f1_macro", "f1_micro", "f1_samples", "accuracy"])
def test_tuned_thresholds_never_lose_on_their_rows(name):
    probs, truth = multilabel_problem()
    metric = get_metric(name)
    tuned = tune_thresholds(probs, truth, metric)
    assert tuned.shape == (3,)
    assert metric(truth, probs, threshold=tuned) > metric(truth, probs)


def test_tuned_thresholds_are_the_best_a_search_finds():
    probs, truth = multilabel_problem(120)
    metric = get_metric("f1_macro")
    tuned = metric(truth, probs, threshold=tune_thresholds(probs, truth, metric))
    grid = np.linspace(0.01, 0.99, 197)
    best = np.mean([max(_f1(truth[:, c], probs[:, c] >= value) for value in grid) for c in range(3)])
    assert tuned >= best - 1e-9


def _f1(truth, chosen):
    hits = np.sum(truth * chosen)
    return 2 * hits / max(truth.sum() + chosen.sum(), 1)


def test_a_rare_class_keeps_the_common_threshold():
    probs, truth = multilabel_problem()
    truth[:, 2] = 0
    truth[:2, 2] = 1
    tuned = tune_thresholds(probs, truth, get_metric("f1_micro"))
    assert tuned[2] == pytest.approx(round(tuned[2] * 20) / 20)


def test_cross_fitted_thresholds_score_between_untuned_and_in_sample():
    probs, truth = multilabel_problem()
    metric = get_metric("f1_macro")
    honest = cross_fit_thresholds(probs, truth, np.arange(len(truth)) % 5, metric)
    in_sample = metric(truth, probs, threshold=tune_thresholds(probs, truth, metric))
    assert metric(truth, probs) < honest <= in_sample


def test_thresholds_need_multilabel_rows():
    with pytest.raises(DataError, match="multi-label"):
        tune_thresholds(np.ones((3, 2)), np.array([0, 1, 0]), get_metric("accuracy"))

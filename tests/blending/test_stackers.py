"""What is special to boosted trees, scaling by class, and the choice of a method; the rest is tested with all blenders."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from factories import fake_probabilities
from scipy.special import softmax

from kaggle_kit.blending import cross_fit, fitted_from_dict, get_blender
from kaggle_kit.blending.base import Problem
from kaggle_kit.blending.best import gains
from kaggle_kit.errors import DependencyError
from kaggle_kit.metrics import get_metric

ACCURACY, LOSS = get_metric("accuracy"), get_metric("log_loss")


def runs_of(truth, accuracies, *, seed=0, n_classes=4):
    rng = np.random.default_rng(seed)
    return np.stack([fake_probabilities(truth, n_classes, each, multilabel=False, rng=rng) for each in accuracies])


def crossed(rows=1200, seed=0):
    """Two runs that each say nothing, but the product of whose opinions is the class: no weighted mean finds it."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, rows))
    truth = (a * b > 0).astype(np.int64)
    return np.stack([softmax(np.stack([-x, x], axis=1), axis=1) for x in (a, b)]).astype(np.float32), truth


def honest(rows, seed=0):
    """Two runs that are as right as they are sure and say nearly the same: their mean cannot be bettered."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, 4))
    truth = np.array([rng.choice(4, p=row) for row in softmax(logits, axis=1)])
    return softmax(logits + rng.normal(0, 0.05, (2, rows, 4)), axis=2).astype(np.float32), truth


def test_trees_learn_what_no_mean_of_the_runs_holds():
    stack, truth = crossed()
    parts = np.arange(len(truth)) % 5
    trees, logistic = (cross_fit(get_blender(name), stack, truth, parts, ACCURACY).score for name in ("trees", "stack"))
    assert logistic < 0.6
    assert trees > 0.85


def test_without_anything_to_learn_trees_stay_at_the_mean():
    stack, truth = honest(600)
    fitted = get_blender("trees").fit(stack, truth, ACCURACY)
    assert fitted.parameters["rounds"] <= 10
    fresh, labels = honest(4000, seed=1)
    assert LOSS(labels, fitted.apply(fresh)) < LOSS(labels, fresh.mean(axis=0)) + 0.01


def test_few_rows_grow_no_trees():
    truth = np.arange(40) % 4
    stack = runs_of(truth, (0.6, 0.7))
    fitted = get_blender("trees").fit(stack, truth, ACCURACY)
    assert fitted.parameters["trees"] == []
    np.testing.assert_allclose(fitted.apply(stack), stack.mean(axis=0), atol=1e-5)


def test_trees_are_kept_as_text_and_say_their_rounds():
    stack, truth = crossed()
    fitted = get_blender("trees").fit(stack, truth, ACCURACY)
    assert all(text.startswith("tree\n") for text in fitted.parameters["trees"])
    assert fitted.describe() == f"trees of 2 runs (rounds {fitted.parameters['rounds']})"
    assert fitted.weights is None


def test_the_package_is_asked_for_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"method trees needs the package lightgbm: pip install 'kaggle-kit\[trees\]'"):
        get_blender("trees")
    assert get_blender("mean").name == "mean"


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro"])
def test_auto_takes_a_method_that_is_better_beyond_noise(metric):
    stack, truth = crossed(600)
    fitted = get_blender("auto").fit(stack, truth, get_metric(metric))
    assert fitted.parameters["chosen"] == "trees"
    assert fitted.parameters["scores"]["trees"] > fitted.parameters["scores"]["mean"] + 0.2
    assert fitted.describe().endswith("chosen trees)")
    np.testing.assert_array_equal(fitted_from_dict(fitted.to_dict()).apply(stack), fitted.apply(stack))


def test_auto_gives_a_useless_run_little_weight():
    truth = np.arange(900) % 4
    stack, fresh = (runs_of(truth, (0.9, 0.25, 0.25), seed=seed) for seed in (0, 1))
    fitted = get_blender("auto").fit(stack, truth, ACCURACY)
    assert fitted.parameters["chosen"] != "mean"
    assert ACCURACY(truth, fitted.apply(fresh)) > ACCURACY(truth, fresh.mean(axis=0)) + 0.03


def test_auto_stays_at_the_mean_where_nothing_is_better():
    taken = [get_blender("auto").fit(*honest(200, seed), ACCURACY).parameters["chosen"] for seed in range(10)]
    assert taken.count("mean") >= 9


def test_auto_goes_without_trees_where_their_package_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    stack, truth = crossed(200)
    assert "trees" not in get_blender("auto").fit(stack, truth, ACCURACY).parameters["scores"]


def test_the_score_of_auto_is_nested():
    """Labels of a fold may be anything: the method that blends it was chosen and fitted without them."""
    truth = np.arange(150) % 3
    stack, parts = runs_of(truth, (0.5, 0.8), n_classes=3), np.arange(150) // 50
    straight = cross_fit(get_blender("auto"), stack, truth, parts, ACCURACY).probs
    turned = np.where(parts == 1, (truth + 1) % 3, truth)
    np.testing.assert_array_equal(
        cross_fit(get_blender("auto"), stack, turned, parts, ACCURACY).probs[parts == 1], straight[parts == 1]
    )


@pytest.mark.parametrize("name", ["accuracy", "log_loss", "f1_macro", "roc_auc_columns"])
def test_gains_are_told_from_noise(name):
    metric = get_metric(name)
    truth = np.random.default_rng(0).integers(0, 4, 400)
    good, worse = runs_of(truth, (0.9, 0.6))
    problem = Problem([good, worse], truth, metric)
    assert gains(problem, good, worse)
    assert not gains(problem, worse, good)
    assert not gains(problem, good, good)


def test_scaling_by_class_undoes_what_one_temperature_cannot():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (6000, 3))
    honest = softmax(logits, axis=1)
    truth = np.array([rng.choice(3, p=row) for row in honest])
    warped = softmax(np.log(honest) * [1.0, 2.0, 0.5] + [0.0, 1.0, -1.0], axis=1)
    vector, temperature = (get_blender(name).fit([warped], truth, LOSS).apply([warped]) for name in ("vector", "temperature"))
    assert np.abs(vector - honest).mean() < 0.35 * np.abs(temperature - honest).mean()
    assert LOSS(truth, vector) < LOSS(truth, temperature) - 0.02


def test_scaling_of_several_labels_is_platts():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (5000, 2))
    truth = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    sure = 1 / (1 + np.exp(-(logits * [3.0, 0.5] + [1.0, 0.0])))
    fitted = get_blender("vector").fit([sure], truth, LOSS)
    np.testing.assert_allclose(fitted.parameters["scales"], [1 / 3, 2.0], rtol=0.15)
    np.testing.assert_allclose(fitted.parameters["biases"], [-1 / 3, 0.0], atol=0.1)

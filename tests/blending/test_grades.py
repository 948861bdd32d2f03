"""Classes in an order: the mean grade of a row, cut where the metric is best."""

from __future__ import annotations

import numpy as np
import pytest

from kaggle_kit.blending import cross_fit, get_blender
from kaggle_kit.blending.grades import cut, mean_grades
from kaggle_kit.metrics import get_metric

KAPPA = get_metric("quadratic_kappa")


def shrunken(rows: int = 800, seed: int = 0):
    """Probabilities that shrink towards the middle, as of a model that is unsure, and skewed grades 0 to 4."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(5, rows, p=[0.5, 0.1, 0.25, 0.08, 0.07])
    seen = 0.6 * truth + 0.8 + rng.normal(0, 0.4, rows)
    logits = -1.2 * (seen[:, None] - np.arange(5)) ** 2
    probs = np.exp(logits)
    return (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32), truth


def test_a_row_gets_the_grade_between_two_cuts():
    cuts = np.array([0.3, 1.4, 2.0, 3.9])
    grades = np.linspace(0, 4, 101)
    probs = cut(grades, cuts)
    clear = np.abs(grades[:, None] - cuts).min(axis=1) > 1e-9
    assert (probs.argmax(axis=1)[clear] == np.searchsorted(cuts, grades)[clear]).all()
    assert probs.sum(axis=1) == pytest.approx(np.ones(101))
    assert (np.diff(mean_grades(probs)) >= 0).all()  # rows keep their order


@pytest.mark.parametrize("cuts", [[-0.5, 0.2], [0.0, 2.0], [2.1, 2.5]])
def test_cuts_beyond_the_ends_are_no_obstacle(cuts):
    probs = cut(np.array([0.0, 1.0, 2.0]), np.array(cuts))
    assert np.isfinite(probs).all()
    assert probs.sum(axis=1) == pytest.approx(np.ones(3))


def test_kappa_is_better_than_by_the_most_probable_class_also_on_other_rows():
    probs, truth = shrunken()
    plain = KAPPA(truth, probs)
    honest = cross_fit(get_blender("grades"), [probs], truth, np.arange(len(truth)) % 5, KAPPA).score
    assert honest > plain + 0.03


def test_without_an_order_the_mean_is_kept():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 300)
    probs = rng.dirichlet(np.ones(4), 300).astype(np.float32)
    probs[np.arange(300), truth] += 1
    probs /= probs.sum(axis=1, keepdims=True)
    fitted = get_blender("grades").fit([probs], truth, get_metric("accuracy"))
    assert "cuts" not in fitted.parameters
    assert fitted.apply([probs]) == pytest.approx(probs, abs=1e-6)


def test_many_grades_take_no_time():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 60, 500)
    probs = np.exp(-0.05 * (truth[:, None] + rng.normal(0, 3, (500, 1)) - np.arange(60)) ** 2)
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
    fitted = get_blender("grades").fit([probs], truth, KAPPA)
    assert KAPPA(truth, fitted.apply([probs])) >= KAPPA(truth, probs)

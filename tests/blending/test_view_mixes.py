"""Which views are kept: those that pay, and nothing where there is only noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from kaggle_kit.blending.views import ViewRows, beyond_noise, choose_mix
from kaggle_kit.metrics import get_metric


def rows(noises, *, n=600, seed=0, shared=0.0, metric="accuracy", names=None):
    """Views that see the truth through noise of their own, and through some that is common to all."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 4
    common = rng.normal(0, shared, (n, 4)) + 2.0 * np.eye(4)[truth]
    stack = np.stack([softmax(common + rng.normal(0, noise, (n, 4)), axis=1) for noise in noises]).astype(np.float32)
    names = names or ("none", *(f"v{number}" for number in range(1, len(noises))))
    return ViewRows(names, stack, truth, np.arange(n) // 4 % 5, np.arange(n), get_metric(metric))


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "f1_macro"])
def test_views_with_errors_of_their_own_pay(metric):
    mix = choose_mix(rows([1.5, 1.5, 1.5], metric=metric))
    assert sum(mix.values()) == pytest.approx(1)
    assert min(mix.values()) > 0.2
    assert len(mix) == 3


def test_a_better_view_takes_the_place_of_the_plain_image():
    mix = choose_mix(rows([3.0, 0.3]))
    assert mix["v1"] > 0.8


def test_views_that_say_the_same_are_not_kept():
    given = rows([1.5])
    same = ViewRows(("none", "v1"), np.repeat(given.stack, 2, axis=0), given.truth, given.parts, given.groups, given.metric)
    assert choose_mix(same) == {"none": 1.0}


def test_a_worse_view_is_not_kept():
    assert choose_mix(rows([0.3, 6.0])) == {"none": 1.0}


def test_noise_is_seldom_kept():
    """Views that only change the probabilities a little, at random."""
    kept = 0
    for seed in range(40):
        given = rows([1.5], n=300, seed=seed)
        rng = np.random.default_rng(seed + 1000)
        logits = np.log(given.stack) + rng.normal(0, 0.05, (4, *given.stack.shape[1:]))
        stack = np.concatenate([given.stack, softmax(logits, axis=2)]).astype(np.float32)
        names = ("none", "a", "b", "c", "d")
        found = choose_mix(ViewRows(names, stack, given.truth, given.parts, given.groups, given.metric))
        kept += set(found) != {"none"}
    assert kept <= 8


def test_one_view_and_few_rows_stay_as_they_are():
    assert choose_mix(rows([1.0])) == {"none": 1.0}
    assert choose_mix(rows([3.0, 0.1], n=4)) == {"none": 1.0}


def test_several_labels_a_row():
    rng = np.random.default_rng(0)
    truth = (rng.random((500, 3)) < 0.4).astype(np.uint8)
    stack = 1 / (1 + np.exp(-(2 * truth - 1 + rng.normal(0, 1.5, (3, 500, 3)))))
    given = ViewRows(
        ("none", "a", "b"), stack.astype(np.float32), truth, np.arange(500) % 5, np.arange(500), get_metric("f1_macro")
    )
    assert min(choose_mix(given).values()) > 0.2


def test_rows_of_a_group_are_not_taken_for_independent():
    rng = np.random.default_rng(3)
    gains = rng.normal(0.11, 1.0, 400)
    assert beyond_noise(gains, np.arange(400))
    assert not beyond_noise(np.repeat(gains[:20], 20), np.repeat(np.arange(20), 20))


def test_the_rest_of_two_folds_is_dealt_anew():
    given = rows([1.0, 1.0])
    half = given.take(np.flatnonzero(given.parts == 1))
    assert len(np.unique(half.parts)) == 5
    assert len(half.truth) == 120

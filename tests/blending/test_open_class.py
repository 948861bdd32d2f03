"""A class without an appearance of its own: ranked by one threshold, found by the metric on rows that were not fitted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kaggle_kit.blending import cross_fit, fitted_from_dict, get_blender
from kaggle_kit.blending.open_class import THRESHOLD, opened
from kaggle_kit.choices import BLENDERS
from kaggle_kit.metrics import get_metric

MAP = get_metric("map_5")
OPEN = 2


def whales(rows: int = 600, share: float = 0.3, seed: int = 0):
    """Probabilities of 12 classes, sure of whales that are known and unsure of new ones, which no model names."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([kind for kind in range(12) if kind != OPEN], rows)
    logits = rng.normal(0, 1, (rows, 12))
    logits[np.arange(rows), truth] += 5
    new = rng.random(rows) < share
    logits[new] = rng.normal(0, 1, (new.sum(), 12))
    truth[new] = OPEN
    logits[:, OPEN] = -12
    probs = np.exp(logits)
    return (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32), truth


def test_a_threshold_ranks_new_whales_before_unsure_guesses():
    probs, truth = whales()
    assert MAP(truth, probs) < 0.75
    found = cross_fit(opened(get_blender("mean"), OPEN), [probs], truth, np.arange(len(truth)) % 5, MAP)
    assert found.score > 0.95


@pytest.mark.parametrize("name", BLENDERS)
def test_every_method_can_have_it_and_comes_back_from_its_record(name):
    probs, truth = whales(200)
    stack = [probs, np.roll(probs, 1, axis=1)[:, ::-1][:, ::-1]]
    fitted = opened(get_blender(name), OPEN).fit(stack, truth, MAP)
    blended = fitted.apply(stack)
    assert blended.sum(axis=1) == pytest.approx(np.ones(200), abs=1e-5)
    shares = blended[:, OPEN] / (1 - blended[:, OPEN])
    assert shares == pytest.approx(np.full(200, fitted.parameters[THRESHOLD]), abs=1e-4)  # one number for all rows
    again = fitted_from_dict(json.loads(json.dumps(fitted.to_dict())))
    np.testing.assert_array_equal(again.apply(stack), blended)


def test_without_new_whales_it_comes_last():
    probs, truth = whales(share=0.0)
    fitted = opened(get_blender("mean"), OPEN).fit([probs], truth, get_metric("accuracy"))
    assert (fitted.apply([probs]).argmax(axis=1) != OPEN).all()

"""Temperature and hard votes: what is special to them; the rest is tested with all blenders."""

from __future__ import annotations

import numpy as np
import pytest

from kaggle_kit.blending import get_blender
from kaggle_kit.metrics import get_metric


def fitted(name, stack, truth):
    return get_blender(name).fit(np.asarray(stack), truth, get_metric("log_loss"))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_that_of_the_runs(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (6000, 4))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(4, p=row) for row in honest])
    sure = np.exp(logits * temperature) / np.exp(logits * temperature).sum(axis=1, keepdims=True)
    blend = fitted("temperature", [sure], truth)
    assert blend.parameters["temperature"] == pytest.approx(temperature, rel=0.1)
    probs = blend.apply(np.asarray([sure]))
    assert np.array_equal(probs.argmax(axis=1), sure.argmax(axis=1))
    assert np.abs(probs - honest).max() < 0.05


def test_the_temperature_of_several_labels():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (4000, 3))
    truth = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    sure = 1 / (1 + np.exp(-2 * logits))
    assert fitted("temperature", [sure], truth).parameters["temperature"] == pytest.approx(2, rel=0.1)


def test_most_runs_win_however_sure_the_others_are():
    stack = np.array([[[0.4, 0.3, 0.3]], [[0.5, 0.2, 0.3]], [[0.0, 0.0, 1.0]]])
    probs = fitted("vote", stack, np.array([0])).apply(stack)
    np.testing.assert_allclose(probs, [[0.45, 0.25, 0.3]], atol=1e-6)
    assert fitted("mean", stack, np.array([0])).apply(stack).argmax() == 2


def test_of_equal_votes_the_surer_side_wins():
    stack = np.array([[[0.6, 0.4]], [[0.1, 0.9]]])
    np.testing.assert_allclose(fitted("vote", stack, np.array([0])).apply(stack), [[0.1, 0.9]], atol=1e-6)
    cells = np.array([[[0.6, 0.8]], [[0.1, 0.45]]])
    probs = fitted("vote", cells, np.array([[0, 1]])).apply(cells)
    np.testing.assert_allclose(probs, [[0.1, 0.8]], atol=1e-6)


def test_votes_of_several_labels_are_by_cell():
    stack = np.array([[[0.9, 0.2]], [[0.6, 0.7]], [[0.1, 0.1]]])
    probs = fitted("vote", stack, np.array([[1, 0]])).apply(stack)
    np.testing.assert_allclose(probs, [[0.75, 0.15]], atol=1e-6)

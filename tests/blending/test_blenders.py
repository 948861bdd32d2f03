"""Conformance: what every entry of BLENDERS must do, so that a new one is tested as soon as it is entered."""

from __future__ import annotations

import json

import numpy as np
import pytest
from factories import fake_probabilities

from kaggle_kit.blending import fitted_from_dict, get_blender
from kaggle_kit.choices import BLENDERS
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.metrics import get_metric

TASKS = ("binary", "multiclass", "multilabel")
METRIC = {"binary": "roc_auc", "multiclass": "accuracy", "multilabel": "roc_auc_columns"}
CLASSES = {"binary": 2, "multiclass": 4, "multilabel": 3}


def problem(task, *, accuracies=(0.6, 0.75, 0.8), rows=240, seed=0):
    """(stack (M, N, C), truth, metric) of runs that are wrong on different rows."""
    rng = np.random.default_rng(seed)
    n_classes = CLASSES[task]
    if task == "multilabel":
        truth = (rng.random((rows, n_classes)) < 0.4).astype(np.uint8)
    else:
        truth = np.arange(rows) % n_classes
    runs = [fake_probabilities(truth, n_classes, each, multilabel=task == "multilabel", rng=rng) for each in accuracies]
    return np.stack(runs), truth, get_metric(METRIC[task])


blenders = pytest.mark.parametrize("blender", list(BLENDERS.values()), ids=list(BLENDERS))
tasks = pytest.mark.parametrize("task", TASKS)


@blenders
@tasks
def test_gives_valid_probabilities_of_the_same_shape(blender, task):
    stack, truth, metric = problem(task)
    probs = blender.fit(stack, truth, metric).apply(stack[:, :50])
    assert probs.shape == stack[0, :50].shape
    assert probs.dtype == np.float32
    assert np.isfinite(probs).all()
    assert probs.min() >= 0
    assert probs.max() <= 1
    if task != "multilabel":
        np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)


@blenders
@tasks
def test_survives_certainty_and_rows_without_evidence(blender, task):
    stack, truth, metric = problem(task)
    certain = np.round(stack)
    certain[:, 0] = 0
    probs = blender.fit(certain, truth, metric).apply(certain)
    assert np.isfinite(probs).all()
    assert probs.min() >= 0
    assert probs.max() <= 1


@blenders
@tasks
def test_classes_may_come_in_any_order(blender, task):
    stack, truth, metric = problem(task)
    order = np.roll(np.arange(stack.shape[2])[::-1], 1)
    # Position p of the permuted problem holds class order[p].
    moved_truth = truth[:, order] if truth.ndim == 2 else np.argsort(order)[truth]
    if task == "binary":  # its metric names the second class
        metric = get_metric("log_loss")
    straight = blender.fit(stack, truth, metric).apply(stack)
    moved = blender.fit(stack[:, :, order], moved_truth, metric).apply(stack[:, :, order])
    np.testing.assert_allclose(moved, straight[:, order], atol=2e-3 if blender.learns_scale else 1e-5)


@blenders
@tasks
def test_identical_runs_are_as_one_run(blender, task):
    stack, truth, metric = problem(task)
    alone, thrice = stack[-1:], stack[[-1, -1, -1]]
    expected = blender.fit(alone, truth, metric).apply(alone) if blender.learns_scale else alone[0]
    np.testing.assert_allclose(
        blender.fit(thrice, truth, metric).apply(thrice), expected, atol=0.02 if blender.learns_scale else 1e-5
    )


@blenders
@tasks
def test_a_single_run_keeps_its_answer(blender, task):
    stack, truth, metric = problem(task)
    alone = stack[-1:]
    blended = blender.fit(alone, truth, metric).apply(alone)
    if not blender.learns_scale:
        np.testing.assert_allclose(blended, alone[0], atol=1e-5)
    assert metric(truth, blended) >= metric(truth, alone[0]) - 0.05


@blenders
@tasks
def test_beats_the_worst_run_and_comes_near_the_best(blender, task):
    stack, truth, metric = problem(task, accuracies=(0.6, 0.8, 0.8), rows=600)
    scores = [metric(truth, run) for run in stack]
    blended = metric(truth, blender.fit(stack, truth, metric).apply(stack))
    assert blended > min(scores)
    assert blended >= max(scores) - 0.02


@blenders
@tasks
def test_survives_json(blender, task):
    stack, truth, metric = problem(task)
    fitted = blender.fit(stack, truth, metric)
    again = fitted_from_dict(json.loads(json.dumps(fitted.to_dict())))
    np.testing.assert_array_equal(again.apply(stack), fitted.apply(stack))
    assert again.describe() == fitted.describe()
    assert again.weights == fitted.weights


@blenders
def test_same_seed_same_blend(blender):
    stack, truth, metric = problem("multiclass", accuracies=(0.5, 0.6, 0.7, 0.7, 0.8))
    first, second = (blender.fit(stack, truth, metric, seed=3).to_dict() for _ in range(2))
    assert first == second


@blenders
def test_weights_are_shares(blender):
    stack, truth, metric = problem("multiclass")
    weights = blender.fit(stack, truth, metric).weights
    if weights is not None:
        assert len(weights) == 3
        assert min(weights) >= 0
        assert sum(weights) == pytest.approx(1)


@blenders
def test_does_not_change_its_input_and_takes_any_sequence(blender):
    stack, truth, metric = problem("multiclass")
    before = stack.copy()
    fitted = blender.fit(list(stack), truth, metric)
    from_list, from_array = fitted.apply(list(stack)), fitted.apply(stack)
    np.testing.assert_array_equal(stack, before)
    np.testing.assert_array_equal(from_list, from_array)


@blenders
def test_refuses_another_number_of_runs_or_classes(blender):
    stack, truth, metric = problem("multiclass")
    fitted = blender.fit(stack, truth, metric)
    with pytest.raises(DataError, match="this blend is of 3 runs"):
        fitted.apply(stack[:2])
    with pytest.raises(DataError, match=r"shape \(N, 4\)"):
        fitted.apply(stack[:, :, :3])


@blenders
def test_a_class_without_rows_is_no_obstacle(blender):
    stack, truth, metric = problem("multiclass")
    truth = np.where(truth == 3, 0, truth)
    probs = blender.fit(stack, truth, metric).apply(stack)
    assert np.isfinite(probs).all()


@pytest.mark.parametrize("name", ["weights", "coordinate", "hill-climb", "pool"])
def test_a_useless_run_gets_little_weight(name):
    stack, truth, metric = problem("multiclass", accuracies=(0.85, 0.85, 0.25), rows=800)
    weights = get_blender(name).fit(stack, truth, metric).weights
    assert weights[2] < 0.25
    assert min(weights[:2]) > 0.2


def test_log_loss_weights_are_the_best_on_a_grid():
    stack, truth, metric = problem("multiclass", accuracies=(0.7, 0.85), rows=500)
    loss = get_metric("log_loss")
    found = loss(truth, get_blender("weights").fit(stack, truth, metric).apply(stack))
    grid = [loss(truth, share * stack[0] + (1 - share) * stack[1]) for share in np.linspace(0, 1, 21)]
    assert found <= min(grid) + 1e-4


def test_hill_climb_with_many_runs_is_no_worse_than_its_best_run():
    stack, truth, metric = problem("multiclass", accuracies=(0.5, 0.55, 0.6, 0.65, 0.7, 0.75), rows=600)
    fitted = get_blender("hill-climb").fit(stack, truth, metric)
    assert metric(truth, fitted.apply(stack)) >= max(metric(truth, run) for run in stack)


def test_rank_ignores_the_scale_of_a_run():
    stack, truth, _ = problem("binary")
    squeezed = stack.copy()
    squeezed[1] = 0.5 + (stack[1] - 0.5) * 0.01  # the same order within each column
    auc, blender = get_metric("roc_auc"), get_blender("rank")
    first, second = (auc(truth, blender.fit(each, truth, auc).apply(each)) for each in (stack, squeezed))
    assert second == pytest.approx(first, abs=1e-9)


def test_gmean_of_two_outcomes_treats_no_as_yes():
    stack, truth, metric = problem("multilabel")
    fitted = get_blender("gmean").fit(stack, truth, metric)
    np.testing.assert_allclose(fitted.apply(1 - stack), 1 - fitted.apply(stack), atol=1e-3)


def test_stack_learns_which_classes_a_run_swaps():
    stack, truth, metric = problem("multiclass", accuracies=(0.9,), rows=600)
    swapped = stack[:, :, [1, 0, 2, 3]]
    assert metric(truth, swapped[0]) < 0.6
    assert metric(truth, get_blender("stack").fit(swapped, truth, metric).apply(swapped)) > 0.8


def test_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown blending method 'hillclimb'.*Did you mean 'hill-climb'"):
        get_blender("hillclimb")


def test_fit_refuses_shapes_that_differ():
    stack, truth, metric = problem("multiclass")
    with pytest.raises(DataError, match="one shape"):
        get_blender("mean").fit([stack[0], stack[1][:-1]], truth, metric)
    with pytest.raises(DataError, match="one shape"):
        get_blender("mean").fit(stack, truth[:-1], metric)


@pytest.mark.parametrize("content", [{}, {"method": "mean"}, {"method": "mean", "n_runs": "x"}])
def test_a_damaged_record_is_refused(content):
    with pytest.raises(ConfigError, match="Run `kk blend` again"):
        fitted_from_dict(content)

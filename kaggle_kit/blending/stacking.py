"""Blends that are models of their own: they are fitted on log probabilities of the runs and may recalibrate.

Both are regularised, and the strength is chosen by cross-validation inside the rows that they are fitted on; how well they do
on new rows is for :func:`kaggle_kit.blending.cross_fit` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kaggle_kit.blending.base import FLOOR, Array, Parameters, Problem, Stack, evidence, from_evidence, likelihood
from kaggle_kit.scores import one_hot

POOL_PENALTIES = (1.0, 0.1, 0.01, 0.001)
STACK_STRENGTHS = (0.001, 0.01, 0.1)
INNER_FOLDS = 3
_STACK_WORK = 100_000_000  # rows x features x classes of one logistic fit: some seconds on a core


def pool(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:
    """Weighted sum of log probabilities (multi-label: logits) plus a bias of each class."""
    total = np.tile(np.asarray(parameters["biases"], dtype=np.float64), (len(stack[0]), 1))
    for weight, probs in zip(parameters["pool"], stack, strict=True):
        total += weight * evidence(probs, multilabel=multilabel)
    return from_evidence(total, multilabel=multilabel)


def learn_pool(problem: Problem) -> Parameters:
    """Logarithmic opinion pool: a weight a run and a bias a class, M + C numbers, by penalised maximum likelihood.

    The penalty pulls towards the geometric mean (weights 1/M, no bias). Weights need not sum to 1: their sum is a temperature.
    """
    penalty = choose(problem, POOL_PENALTIES, _fit_pool, pool)
    return {**_fit_pool(problem, penalty), "penalty": penalty}


def _fit_pool(problem: Problem, penalty: float) -> Parameters:
    from scipy.optimize import minimize

    n_runs, n_classes, multilabel = len(problem.stack), problem.n_classes, problem.multilabel
    inputs = np.stack([evidence(probs, multilabel=multilabel) for probs in problem.stack])  # (M, N, C)
    outcomes = one_hot(problem.truth, n_classes)
    cells = len(problem.truth) * (n_classes if multilabel else 1)

    def loss(numbers: Array) -> tuple[float, Array]:
        weights, biases = numbers[:n_runs], numbers[n_runs:]
        probs = from_evidence(np.tensordot(weights, inputs, axes=1) + biases, multilabel=multilabel)
        residual = (probs - outcomes) / cells
        away = weights - 1.0 / n_runs
        # Scaled by M: a run given twice then shares its weight and leaves the optimum where it was.
        value = -np.log(likelihood(probs, problem.truth)).sum() / cells
        value += penalty * (n_runs * away @ away + biases @ biases / n_classes)
        slope = np.tensordot(inputs, residual, axes=2) + 2.0 * penalty * n_runs * away
        return float(value), np.concatenate([slope, residual.sum(axis=0) + 2.0 * penalty * biases / n_classes])

    start = np.concatenate([np.full(n_runs, 1.0 / n_runs), np.zeros(n_classes)])
    bounds = [(0.0, None)] * n_runs + [(None, None)] * n_classes
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    numbers = found.x if np.isfinite(found.x).all() else start
    total = float(numbers[:n_runs].sum())
    return {
        "pool": numbers[:n_runs].tolist(),
        "weights": (numbers[:n_runs] / total if total > 0 else start[:n_runs]).tolist(),
        "biases": numbers[n_runs:].tolist(),
    }


def logistic(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:
    """Apply what :func:`learn_logistic` found, run by run. Classes that it never saw keep the mean of the runs."""
    n_classes = stack[0].shape[1]
    scores = np.tile(np.asarray(parameters["intercepts"], dtype=np.float64), (len(stack[0]), 1))
    average = np.zeros(stack[0].shape)
    for coefficients, probs in zip(parameters["coefficients"], stack, strict=True):  # coefficients of a run: (C, C)
        scores += evidence(probs, multilabel=multilabel) @ np.asarray(coefficients, dtype=np.float64)
        average += np.asarray(probs, dtype=np.float64) / len(stack)
    seen = np.asarray(parameters["seen"], dtype=np.int64)
    unseen = np.setdiff1d(np.arange(n_classes), seen)
    result = average
    if len(seen):
        share = 1.0 if multilabel else 1.0 - average[:, unseen].sum(axis=1, keepdims=True)
        result[:, seen] = share * from_evidence(scores[:, seen], multilabel=multilabel)
    return result


def learn_logistic(problem: Problem) -> Parameters:
    """Stacking (Wolpert 1992) by scikit-learn's logistic regression on the runs' log probabilities of all classes.

    It has M x C weights a class, and so can learn that one run mistakes rust for scab; it wants many rows. For multi-label
    there is one regression a class. Strong regularisation is tried first and kept unless weaker is better.
    """
    work = len(problem.stack) * problem.n_classes**2
    problem = problem.thinned(max(_STACK_WORK // work, 200) * len(problem.stack) * problem.n_classes)
    strength = choose(problem, STACK_STRENGTHS, _fit_logistic, logistic)
    return {**_fit_logistic(problem, strength), "strength": strength}


def _fit_logistic(problem: Problem, strength: float) -> Parameters:
    n_runs, n_classes = len(problem.stack), problem.n_classes
    features = np.concatenate([evidence(probs, multilabel=problem.multilabel) for probs in problem.stack], axis=1)
    coefficients, intercepts = np.zeros((n_runs * n_classes, n_classes)), np.zeros(n_classes)
    if problem.multilabel:
        seen = np.flatnonzero((problem.truth.min(axis=0) == 0) & (problem.truth.max(axis=0) == 1))
        for column in seen:
            model = _regression(features, problem.truth[:, column], strength / n_runs)
            coefficients[:, column], intercepts[column] = model.coef_[0], model.intercept_[0]
    else:
        seen = np.unique(problem.truth)
        if len(seen) == 2:  # scikit-learn holds one row for two classes: the second against the first
            model = _regression(features, problem.truth == seen[1], strength / n_runs)
            # Half to each side, so that the order of the two classes makes no difference.
            halves = np.array([-0.5, 0.5])
            coefficients[:, seen], intercepts[seen] = np.outer(model.coef_[0], halves), model.intercept_[0] * halves
        elif len(seen) > 2:
            model = _regression(features, problem.truth, strength / n_runs)
            coefficients[:, seen], intercepts[seen] = model.coef_.T, model.intercept_
    return {
        "coefficients": coefficients.reshape(n_runs, n_classes, n_classes).tolist(),
        "intercepts": intercepts.tolist(),
        "seen": seen.tolist(),
    }


def _regression(features: Array, truth: Array, strength: float) -> Any:
    """An L2-regularised fit. ``strength`` is divided by the number of runs by the caller: M equal runs then act as one."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # A fit stopped early is more regularised, no more; cross-fitting judges it as it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=200).fit(features, truth)


def choose(
    problem: Problem,
    options: Sequence[float],
    fit: Callable[[Problem, float], Parameters],
    combine: Callable[[Stack, Parameters, bool], Array],
) -> float:
    """The option of least log loss on held-out parts of the rows; the first, most regularised one when nothing is better."""
    losses = np.zeros(len(options))
    if len(problem.truth) < 2 * INNER_FOLDS:
        return options[0]
    for part, held_out in problem.split(INNER_FOLDS):
        for at, option in enumerate(options):
            probs = combine(held_out.stack, fit(part, option), problem.multilabel)
            losses[at] -= np.log(np.maximum(likelihood(probs, held_out.truth), FLOOR)).mean()
    best = losses.min() + 1e-9
    return float(next(option for option, loss in zip(options, losses, strict=True) if loss <= best))

"""Calibration: how sure a blend is, fitted to how often it is right."""

from __future__ import annotations

import numpy as np

from kaggle_kit.blending.base import Array, Parameters, Problem, Stack, evidence, from_evidence, likelihood
from kaggle_kit.blending.means import average
from kaggle_kit.blending.stacking import POOL_PENALTIES, choose
from kaggle_kit.scores import one_hot

COOLEST, HOTTEST = 0.05, 20.0


def tempered(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:
    """Mean of probabilities with its log probabilities (multi-label: logits) divided by ``temperature`` (Guo et al. 2017).

    Above 1 it is less sure, below 1 surer; the order of the classes of a row stays.
    """
    blended = average(stack, multilabel=multilabel)
    return from_evidence(evidence(blended, multilabel=multilabel) / float(parameters["temperature"]), multilabel=multilabel)


def learn_temperature(problem: Problem) -> Parameters:
    """The temperature of least log loss."""
    from scipy.optimize import minimize_scalar

    blended = average(problem.stack, multilabel=problem.multilabel)

    def loss(logarithm: float) -> float:
        probs = tempered([blended], {"temperature": np.exp(logarithm)}, problem.multilabel)
        return float(-np.mean(np.log(likelihood(probs, problem.truth))))

    found = minimize_scalar(loss, bounds=(np.log(COOLEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-5})
    return {"temperature": float(np.exp(found.x))}


def scaled_by_class(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:
    """Mean of probabilities whose log probabilities (multi-label: logits) each class scales and shifts (vector scaling: Guo et
    al. 2017; for multi-label Platt's scaling of each class)."""
    blended = average(stack, multilabel=multilabel)
    scales, biases = (np.asarray(parameters[key], dtype=np.float64) for key in ("scales", "biases"))
    return from_evidence(evidence(blended, multilabel=multilabel) * scales + biases, multilabel=multilabel)


def learn_vector(problem: Problem) -> Parameters:
    """A scale and a bias a class by penalised maximum likelihood; the penalty pulls towards the plain mean."""
    penalty = choose(problem, POOL_PENALTIES, _fit_vector, scaled_by_class)
    return {**_fit_vector(problem, penalty), "penalty": penalty}


def _fit_vector(problem: Problem, penalty: float) -> Parameters:
    from scipy.optimize import minimize

    n_classes, multilabel = problem.n_classes, problem.multilabel
    inputs = evidence(average(problem.stack, multilabel=multilabel), multilabel=multilabel)
    outcomes = one_hot(problem.truth, n_classes)
    cells = len(problem.truth) * (n_classes if multilabel else 1)

    def loss(numbers: Array) -> tuple[float, Array]:
        scales, biases = numbers[:n_classes], numbers[n_classes:]
        probs = from_evidence(inputs * scales + biases, multilabel=multilabel)
        residual, away = (probs - outcomes) / cells, scales - 1.0
        value = -np.log(likelihood(probs, problem.truth)).sum() / cells
        value += penalty * (away @ away + biases @ biases) / n_classes
        slope = np.concatenate([(residual * inputs).sum(axis=0), residual.sum(axis=0)])
        return float(value), slope + 2.0 * penalty / n_classes * np.concatenate([away, biases])

    start = np.concatenate([np.ones(n_classes), np.zeros(n_classes)])
    bounds = [(0.0, None)] * n_classes + [(None, None)] * n_classes
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    numbers = found.x if np.isfinite(found.x).all() else start
    return {"scales": numbers[:n_classes].tolist(), "biases": numbers[n_classes:].tolist()}

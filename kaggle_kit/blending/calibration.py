"""Calibration: how sure a blend is, fitted to how often it is right."""

from __future__ import annotations

import numpy as np

from kaggle_kit.blending.base import Array, Parameters, Problem, Stack, as_probabilities, evidence, from_evidence, likelihood
from kaggle_kit.blending.means import mean

COOLEST, HOTTEST = 0.05, 20.0


def tempered(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:
    """Mean of probabilities with its log probabilities (multi-label: logits) divided by ``temperature`` (Guo et al. 2017).

    Above 1 it is less sure, below 1 surer; the order of the classes of a row stays.
    """
    blended = as_probabilities(mean(stack, {}, multilabel), multilabel=multilabel)
    return from_evidence(evidence(blended, multilabel=multilabel) / float(parameters["temperature"]), multilabel=multilabel)


def learn_temperature(problem: Problem) -> Parameters:
    """The temperature of least log loss."""
    from scipy.optimize import minimize_scalar

    blended = as_probabilities(mean(problem.stack, {}, problem.multilabel), multilabel=problem.multilabel)

    def loss(logarithm: float) -> float:
        probs = tempered([blended], {"temperature": np.exp(logarithm)}, problem.multilabel)
        return float(-np.mean(np.log(likelihood(probs, problem.truth))))

    found = minimize_scalar(loss, bounds=(np.log(COOLEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-5})
    return {"temperature": float(np.exp(found.x))}

"""A stacker of gradient-boosted trees (LightGBM) on the runs' log probabilities, kept as LightGBM's own text.

Boosting begins at the mean of the runs, so that no tree at all is the mean. How many rounds pay, none included, is found on
held-out parts of the rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kaggle_kit.blending.base import Array, Parameters, Problem, Stack, as_probabilities, evidence, from_evidence, likelihood
from kaggle_kit.blending.means import average

ROUNDS = (0, 10, 20, 40, 80)
INNER_FOLDS = 3
_SETTINGS = {
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_data_in_leaf": 20,
    "lambda_l2": 1.0,
    "max_bin": 63,
    "num_threads": 1,  # sums in one order: the same trees everywhere
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


def boosted(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:
    """Apply what :func:`learn_boosted` found. Classes that it never saw keep the mean of the runs."""
    import lightgbm

    mean = average(stack, multilabel=multilabel)
    features = _features(stack, multilabel)
    seen = np.asarray(parameters["seen"], dtype=np.int64)
    start = evidence(mean, multilabel=multilabel)[:, seen]  # (N, S)
    for number, text in enumerate(parameters["trees"]):
        raw = np.asarray(lightgbm.Booster(model_str=text).predict(features, raw_score=True), dtype=np.float64)
        if multilabel or raw.ndim == 1:  # a model for each class; of two classes the second against the first
            start[:, number if multilabel else 1] += raw
        else:
            start += raw
    return _scattered(start, mean, seen, multilabel)


def learn_boosted(problem: Problem) -> Parameters:
    """Trees, a set a class, on the log probabilities of all runs and classes; their number by held-out log loss."""
    most = _fit(problem, max(ROUNDS))
    losses = dict.fromkeys(ROUNDS, 0.0)
    if len(problem.truth) < 2 * INNER_FOLDS * _SETTINGS["min_data_in_leaf"]:
        return {**_cut(most, 0), "rounds": 0}
    for part, held_out in problem.split(INNER_FOLDS):
        fitted = _fit(part, max(ROUNDS))
        for rounds in ROUNDS:
            probs = boosted(held_out.stack, _cut(fitted, rounds), problem.multilabel)
            probs = as_probabilities(probs, multilabel=problem.multilabel)
            losses[rounds] -= float(np.log(likelihood(probs, held_out.truth)).mean())
    rounds = min(ROUNDS, key=lambda rounds: (round(losses[rounds], 9), rounds))
    return {**_cut(most, rounds), "rounds": rounds}


def _fit(problem: Problem, rounds: int) -> dict[str, Any]:
    """Boost ``rounds`` rounds; ``boosters`` stand in the order of ``seen``, or there is one for all classes."""
    multilabel, truth = problem.multilabel, problem.truth
    mean = average(problem.stack, multilabel=multilabel)
    features, start = _features(problem.stack, multilabel), evidence(mean, multilabel=multilabel)
    if multilabel:
        seen = np.flatnonzero((truth.min(axis=0) == 0) & (truth.max(axis=0) == 1))
        boosters = [
            _boost(features, np.ascontiguousarray(truth[:, column]), start[:, column], rounds, problem.seed) for column in seen
        ]
        return {"seen": seen.tolist(), "boosters": boosters}
    seen, labels = np.unique(truth, return_inverse=True)
    if len(seen) < 2:
        return {"seen": seen.tolist(), "boosters": []}
    start = start[:, seen]
    if len(seen) == 2:
        boosters = [_boost(features, labels, start[:, 1] - start[:, 0], rounds, problem.seed)]
    else:
        boosters = [_boost(features, labels, start, rounds, problem.seed, n_classes=len(seen))]
    return {"seen": seen.tolist(), "boosters": boosters}


def _boost(features: Array, labels: Array, start: Array, rounds: int, seed: int, *, n_classes: int = 1) -> Any:
    import lightgbm

    kind = {"objective": "multiclass", "num_class": n_classes} if n_classes > 1 else {"objective": "binary"}
    start, settings = np.ascontiguousarray(start), {**_SETTINGS, **kind, "seed": seed}
    data = lightgbm.Dataset(features, labels.astype(np.int64), init_score=start, params={"verbosity": -1}, free_raw_data=False)
    return lightgbm.train(settings, data, num_boost_round=rounds)


def _cut(fitted: dict[str, Any], rounds: int) -> Parameters:
    """Return the parameters of a fit with its first ``rounds`` rounds."""
    boosters = fitted["boosters"] if rounds else []
    return {"seen": fitted["seen"], "trees": [one.model_to_string(num_iteration=rounds) for one in boosters]}


def _features(stack: Stack, multilabel: bool) -> Array:
    """(N, M * C) float32: log probabilities of all runs."""
    return np.concatenate([evidence(probs, multilabel=multilabel) for probs in stack], axis=1).astype(np.float32)


def _scattered(scores: Array, mean: Array, seen: Array, multilabel: bool) -> Array:
    """Put the probabilities of seen classes beside the means of the others."""
    result = mean.astype(np.float64)
    if len(seen):
        unseen = np.setdiff1d(np.arange(mean.shape[1]), seen)
        share = 1.0 if multilabel else 1.0 - result[:, unseen].sum(axis=1, keepdims=True)
        result[:, seen] = share * from_evidence(scores, multilabel=multilabel)
    return result

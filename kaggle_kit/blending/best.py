"""The method that is best on rows that it was not fitted on, or the plain mean where none is beyond noise."""

from __future__ import annotations

import importlib.util

import numpy as np
import numpy.typing as npt

from kaggle_kit.blending.base import Array, Blender, Parameters, Problem, Stack, as_probabilities
from kaggle_kit.blending.crossfit import cross_fit
from kaggle_kit.blending.views import BEYOND_NOISE, beyond_noise
from kaggle_kit.choices import BLENDERS
from kaggle_kit.diagnosis import deal_groups, jackknife_error, row_values
from kaggle_kit.sparse import SparseRows

TRIED = ("mean", "gmean", "power", "rank", "grades", "vector", "weights", "hill-climb", "pool", "stack", "trees")
"""Those that cost least to be wrong about come first; what is fitted longest comes last."""
_PARTS = 3
_BLOCKS = 20


def chosen(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:
    """Blend by the method that was chosen."""
    blender: Blender = BLENDERS[parameters["chosen"]]
    return blender.combine(stack, parameters, multilabel)


def learn_best(problem: Problem) -> Parameters:
    """Cross-fit each method on the rows given, and fit the best of those whose gain over the mean is beyond noise.

    ``scores`` of the parameters are those cross-fitted scores; that of the choice itself is for
    :func:`kaggle_kit.blending.cross_fit` to say.
    """
    methods = [BLENDERS[name] for name in TRIED if _fits(name, problem)]
    n_rows = len(problem.truth)
    parts = np.random.default_rng(problem.seed).permutation(n_rows) % min(_PARTS, n_rows)
    best, found, scores = methods[0], None, {}
    for blender in methods if n_rows > 1 else methods[:1]:
        options = {"seed": problem.seed, "threshold": problem.threshold}
        probs = cross_fit(blender, problem.stack, problem.truth, parts, problem.metric, **options).probs  # type: ignore[arg-type]
        key = problem.key(probs)
        scores[blender.name] = problem.metric(problem.truth, probs, threshold=problem.threshold)
        if found is None:
            plain, found = probs, key
        elif key > found and gains(problem, probs, plain):
            best, found = blender, key
    learnt = best.fit(problem.stack, problem.truth, problem.metric, seed=problem.seed, threshold=problem.threshold)
    return {**learnt.parameters, "chosen": best.name, "scores": {name: float(score) for name, score in scores.items()}}


def _fits(name: str, problem: Problem) -> bool:
    """Whether a method can be tried: its package is there, classes are in an order where it needs one, and not too many."""
    if BLENDERS[name].by_class and any(isinstance(probs, SparseRows) for probs in problem.stack):
        return False
    if name == "grades":
        return problem.metric.ordered and not problem.multilabel
    return name != "trees" or importlib.util.find_spec("lightgbm") is not None


def gains(problem: Problem, probs: Array, instead_of: Array) -> bool:
    """Return whether the metric is better beyond noise, both being scored on the same rows.

    For a metric that is a mean over rows the error is that of the rows' differences, else the jackknife's over blocks of rows.
    """
    metric, truth = problem.metric, problem.truth
    sign = 1.0 if metric.greater_is_better else -1.0
    now, before = (row_values(metric, truth, as_probabilities(one, multilabel=truth.ndim == 2)) for one in (probs, instead_of))
    if now is not None and before is not None:
        return beyond_noise(sign * (now - before), np.arange(len(truth)))

    def gain(rows: npt.NDArray[np.int64]) -> float:
        now, before = (metric(truth[rows], one[rows], threshold=problem.threshold) for one in (probs, instead_of))
        return sign * (now - before)

    everything = np.arange(len(truth))
    error = jackknife_error(gain, deal_groups(everything, _BLOCKS, seed=problem.seed))
    return bool(gain(everything) > BEYOND_NOISE * max(error, 1e-9))

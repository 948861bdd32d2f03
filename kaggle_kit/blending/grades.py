"""Classes in the order of grades: the mean grade of a row, cut where the metric is best out of fold.

The most probable class is the best answer to accuracy. Where being off by two grades counts more than being off by one, as for
quadratic kappa, the mean grade is nearer to the truth, and cuts between grades that are found out of fold are better than the
middles, since models shrink towards the middle.
"""

from __future__ import annotations

import numpy as np

from kaggle_kit.blending.base import Array, Parameters, Problem, Stack
from kaggle_kit.blending.means import average

_TRIED = 24
"""Places that are tried for a cut, between its neighbours."""
_SWEEPS = 4
_MANY = 20
"""From so many cuts on they are moved once only."""


def mean_grades(probs: Array) -> Array:
    """Return (N,) the mean position of the class, 0 to C - 1, of probabilities (N, C)."""
    return np.asarray(probs @ np.arange(probs.shape[1], dtype=np.float64))


def cut(grades: Array, cuts: Array) -> Array:
    """Return probabilities (N, C) of which the largest is the grade between two of C - 1 rising ``cuts``.

    A grade on its way from one cut to the next passes evenly from a half below a class to a half above it, and is shared by the
    two classes next to it, so that rows keep their order.
    """
    top = len(cuts)
    knots = np.array([min(0.0, cuts[0] - 1e-6), *cuts, max(float(top), cuts[-1] + 1e-6)])
    moved = np.interp(grades, knots, [0.0, *(np.arange(top) + 0.5), float(top)])
    below = np.minimum(moved.astype(np.int64), top - 1)
    rows, probs = np.arange(len(grades)), np.zeros((len(grades), top + 1))
    probs[rows, below] = 1 - (moved - below)
    probs[rows, below + 1] = moved - below
    return probs


def graded(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:
    """Mean of probabilities, with the mean grade cut at ``cuts``; without cuts the mean as it is."""
    blended = average(stack, multilabel=multilabel)
    cuts = parameters.get("cuts")
    return blended if not cuts else cut(mean_grades(blended), np.asarray(cuts))


def learn_cuts(problem: Problem) -> Parameters:
    """Cuts that do best by the metric; none where the most probable class does as well, as where classes are in no order.

    Two starts, the middles between grades and the cuts that give each grade its share of the rows, are improved one cut at a
    time.
    """
    blended = average(problem.stack, multilabel=problem.multilabel)
    if problem.multilabel:
        return {}
    grades = mean_grades(blended)
    shares = np.cumsum(np.bincount(problem.truth, minlength=problem.n_classes))[:-1] / len(problem.truth)
    starts = [np.arange(problem.n_classes - 1) + 0.5, _rising(np.quantile(grades, shares))]
    best = max((_improved(problem, grades, start) for start in starts), key=lambda found: found[0])
    plain = problem.metric(problem.truth, blended)
    better = problem.metric.better(_score(problem, grades, best[1]), plain)
    return {"cuts": best[1].tolist()} if better else {}


def _improved(problem: Problem, grades: Array, cuts: Array) -> tuple[float, Array]:
    """Return how good moved cuts are, greater is better, and the cuts."""
    sign = 1.0 if problem.metric.greater_is_better else -1.0
    best, cuts = sign * _score(problem, grades, cuts), cuts.copy()
    for _ in range(1 if len(cuts) > _MANY else _SWEEPS):
        before = best
        for at in range(len(cuts)):
            low = cuts[at - 1] if at else min(0.0, grades.min())
            high = cuts[at + 1] if at + 1 < len(cuts) else max(len(cuts), grades.max())
            places = np.linspace(low, high, _TRIED + 2)[1:-1]
            found = np.array([sign * _score(problem, grades, _with(cuts, at, place)) for place in places])
            if found.max() > best + 1e-12:
                top = np.flatnonzero(found == found.max())
                best, cuts = float(found.max()), _with(cuts, at, places[top[len(top) // 2]])  # the middle of a plateau
        if best == before:
            break
    return best, cuts


def _with(cuts: Array, at: int, place: float) -> Array:
    moved = cuts.copy()
    moved[at] = place
    return moved


def _rising(cuts: Array) -> Array:
    """``cuts`` a little apart where they are equal."""
    return np.asarray(np.maximum.accumulate(cuts) + 1e-6 * np.arange(len(cuts)))


def _score(problem: Problem, grades: Array, cuts: Array) -> float:
    score = problem.metric(problem.truth, cut(grades, cuts), threshold=problem.threshold)
    return -np.inf if np.isnan(score) else score

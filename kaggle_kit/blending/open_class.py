"""A class without an appearance of its own, such as that of all animals nobody has seen before.

No model learns it. Its probability is one number for all rows, the threshold: the classes of which a row is surer come before
it, all others behind. The number is found out of fold, by the metric.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from kaggle_kit.blending.base import Array, Blender, Parameters, Problem, RowsOf, Stack, as_probabilities
from kaggle_kit.sparse import with_column

THRESHOLD, COLUMN = "open_threshold", "open_column"
_TRIED = 40


def opened(blender: Blender, column: int) -> Blender:
    """Return ``blender`` with the class at ``column`` ranked by a threshold; all else is blended as before."""

    def combine(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:
        return with_column(_known(blender, stack, parameters, column, multilabel), column, float(parameters[THRESHOLD]))

    def learn(problem: Problem) -> Parameters:
        known = np.flatnonzero(problem.truth != column)
        inner = replace(problem, stack=RowsOf(problem.stack, known), truth=problem.truth[known]) if len(known) else problem
        parameters = blender.learn(inner)
        blended = _known(blender, problem.stack, parameters, column, problem.multilabel)
        return {**parameters, THRESHOLD: best_threshold(problem, blended, column), COLUMN: column}

    return replace(blender, combine=combine, learn=learn)


def _known(blender: Blender, stack: Stack, parameters: Parameters, column: int, multilabel: bool) -> npt.NDArray[np.float32]:
    """(N, C) probabilities of all classes but the open one, which has none."""
    blended = with_column(blender.combine(stack, parameters, multilabel), column, 0.0)
    return as_probabilities(blended, multilabel=multilabel)


def best_threshold(problem: Problem, probs: Array, column: int) -> float:
    """The threshold that does best by the metric; of several the middle one.

    Tried are places between the rows' surest classes, and both ends: the open class before all others, and behind them.
    """
    surest = np.unique(np.quantile(probs.max(axis=1), np.linspace(0, 1, _TRIED)))
    places = np.unique(np.concatenate([[0.0], (surest[1:] + surest[:-1]) / 2, [1.0]]))
    scores = np.array([problem.metric(problem.truth, with_column(probs, column, place)) for place in places])
    best = scores.max() if problem.metric.greater_is_better else scores.min()
    top = np.flatnonzero(scores == best)
    return float(places[top[len(top) // 2]]) if len(top) else 0.0

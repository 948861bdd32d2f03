"""Blends of equal weight: means of several kinds, and the rank average."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kaggle_kit.blending.base import (
    FLOOR,
    Array,
    Parameters,
    Problem,
    Stack,
    as_probabilities,
    evidence,
    from_evidence,
)

EXPONENTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


def mean(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:  # noqa: ARG001
    """Mean of probabilities, weighted when there are ``weights``."""
    return _sum(weight * probs for weight, probs in zip(_shares(stack, parameters), stack, strict=True) if weight)


def _sum(tables: Iterable[Array]) -> Array:
    """Sum of new tables, of which the first takes the others where that can be: they are large."""
    following = iter(tables)
    total = next(following)
    for table in following:
        if isinstance(total, np.ndarray):
            total += table
        else:
            total = total + table
    return total


def average(stack: Stack, *, multilabel: bool) -> Array:
    """Plain mean of probabilities, (N, C), as probabilities."""
    return as_probabilities(mean(stack, {}, multilabel), multilabel=multilabel)


def gmean(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:
    """Geometric mean, weighted when there are ``weights``.

    For multi-label of both outcomes of each cell, so that 0 and 1 are treated alike: a mean of logits.

    >>> sure, unsure = np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]])
    >>> gmean([sure, unsure], {}, False).round(4).tolist()
    [[0.75, 0.25]]
    """
    weighed = zip(_shares(stack, parameters), stack, strict=True)
    total = _sum(weight * evidence(probs, multilabel=multilabel) for weight, probs in weighed)
    return from_evidence(total, multilabel=multilabel)


def _shares(stack: Stack, parameters: Parameters) -> Array:
    """Share (M,) of each run, summing to 1; equal when there are no ``weights``."""
    weights = np.asarray(parameters.get("weights", [1.0] * len(stack)), dtype=np.float64)
    return np.asarray(weights / weights.sum())


def power(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:
    """Power mean of exponent ``exponent``, weighted when there are ``weights``.

    1 is the mean, 0 the geometric one; above 1 the confident run counts for more.
    """
    exponent = float(parameters["exponent"])
    if exponent == 0.0:
        return gmean(stack, parameters, multilabel)

    def blended(outcomes: Iterable[Array]) -> Array:
        weighed = zip(_shares(stack, parameters), outcomes, strict=True)
        total = _sum(weight * np.power(np.clip(one, FLOOR, 1.0, dtype=np.float64), exponent) for weight, one in weighed)
        found: Array = np.power(total, 1.0 / exponent)
        return found

    yes = blended(stack)
    return yes / (yes + blended(1.0 - probs for probs in stack)) if multilabel else yes


def learn_exponent(problem: Problem) -> Parameters:
    """The exponent that does best; of equals the one nearest to the plain mean."""
    ordered = sorted(EXPONENTS, key=lambda exponent: abs(exponent - 1.0))
    keys = [problem.key(_power_blend(problem, exponent)) for exponent in ordered]
    # A single run, or runs that agree, differ by rounding only; that must not choose an exponent.
    rounded = [(round(score, 9), round(likely, 9)) for score, likely in keys]
    return {"exponent": ordered[rounded.index(max(rounded))]}


def _power_blend(problem: Problem, exponent: float) -> Array:
    blended = power(problem.stack, {"exponent": exponent}, problem.multilabel)
    return as_probabilities(blended, multilabel=problem.multilabel)


def vote(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:  # noqa: ARG001
    """Hard vote: the class that most runs think most probable; of equals the one of greater mean probability.

    The probabilities are the mean of those runs that voted for the winner, which so is the most probable class. For multi-label
    each cell is a vote of yes or no.
    """
    votes, total = np.zeros(stack[0].shape), np.zeros(stack[0].shape)
    for probs in stack:
        votes += _ballots(probs, multilabel)
        total += probs
    # Mean probabilities are below 1 vote, so that they only part equals.
    if multilabel:
        yes = votes + total / (len(stack) + 1)
        won = yes >= (len(stack) + len(stack) / (len(stack) + 1)) / 2
    else:
        won = _ballots(votes + total / (len(stack) + 1), multilabel)
    chosen, count = np.zeros(stack[0].shape), np.zeros(stack[0].shape)
    for probs in stack:
        same = _ballots(probs, multilabel) == won
        agree = same if multilabel else same.all(axis=1, keepdims=True)
        chosen += np.where(agree, probs, 0.0)
        count += agree
    return chosen / count


def _ballots(probs: Array, multilabel: bool) -> Array:
    """(N, C) bool: what a run names."""
    if multilabel:
        return np.asarray(probs >= 0.5)
    largest = probs == probs.max(axis=1, keepdims=True)
    return np.asarray(largest & (largest.cumsum(axis=1) == 1))  # the first of a tie


def rank(stack: Stack, parameters: Parameters, multilabel: bool) -> Array:  # noqa: ARG001
    """Rank average of each class column, put back on the scale of probabilities.

    A row's ranks among the rows given (ties share theirs) are averaged over runs, and the mean rank is read off the mean of
    the runs' sorted columns (quantile normalisation, Bolstad et al. 2003). So the order within a column is that of the rank
    average, while a run on another scale cannot outvote the rest. Depends on the set of rows: blend a test set as a whole.
    """
    from scipy.stats import rankdata

    ranks, reference = np.zeros(stack[0].shape), np.zeros(stack[0].shape)
    for probs in stack:
        ranks += rankdata(probs, axis=0) - 1.0
        reference += np.sort(probs, axis=0)
    positions = np.arange(len(ranks))
    for column in range(stack[0].shape[1]):
        ranks[:, column] = np.interp(ranks[:, column] / len(stack), positions, reference[:, column] / len(stack))
    return ranks

"""Do the predicted classes come in the shares that the training images have? A large divergence is worth a look, no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.check.case import Case
from kaggle_kit.check.report import INCONCLUSIVE, PASSED, WARNING, Check

Array = npt.NDArray[Any]
DIVERGENCE = 0.15
"""Share of rows that would have to change class for the two to agree, beyond what drawing so few rows explains."""
NAMED = 4
DRAWS = 200


def check_distribution(case: Case) -> Iterator[Check]:
    """Total variation distance between predicted and training shares, with the classes that differ most."""
    name = "distribution"
    labels = [row.labels for row in case.competition.train if not row.train_only]
    named = case.answers.values
    if not labels or not len(named):
        yield Check(name, INCONCLUSIVE, "there are no labelled rows to compare with")
        return
    hot = case.hot_of(labels)
    if case.answers.exact and not case.multilabel:
        named = case.hot_of([(label,) for label in case.classes.top(named)])
    expected, found = _shares(hot), _shares(named)
    distance = float(np.abs(expected - found).sum() / 2)
    expected_distance = _by_chance(expected, len(named))
    order = np.argsort(-np.abs(expected - found))[:NAMED]
    differing = "; ".join(
        f"{case.classes.names[column]!r} {found[column]:.1%} of predictions, {expected[column]:.1%} of training labels"
        for column in order
    )
    text = f"{distance:.1%} of the predictions would have to change for the shares to agree ({expected_distance:.1%} by chance)"
    if distance > DIVERGENCE + expected_distance:
        remedy = (
            "Either the test set is made up differently, or the model favours these classes; compare with the out-of-fold rows."
        )
        yield Check(name, WARNING, f"{text}: {differing}", remedy)
        return
    yield Check(name, PASSED, f"{text}; most different: {differing}")


def _shares(hot: Array) -> Array:
    """Shares of the classes among all labels, (C,), summing to 1."""
    total = hot.sum(axis=0, dtype=np.float64)
    return np.asarray(total / max(float(total.sum()), 1e-12))


def _by_chance(shares: Array, rows: int) -> float:
    """The distance that so many rows drawn from ``shares`` keep below 99 times in 100."""
    drawn = np.random.default_rng(0).multinomial(rows, shares / shares.sum(), size=DRAWS) / rows
    return float(np.quantile(np.abs(drawn - shares).sum(axis=1) / 2, 0.99))

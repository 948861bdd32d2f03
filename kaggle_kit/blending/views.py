"""Choosing views by out-of-fold rows: which of a pool pay, and with which weights.

A choice is kept only where it pays on rows that it was not made from. Log loss tells small gains from noise where accuracy
cannot, so it must be better beyond noise; and the metric must not be worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kaggle_kit.blending.base import Array, Blender, Problem, Stack, likelihood
from kaggle_kit.blending.crossfit import cross_fit
from kaggle_kit.blending.means import mean
from kaggle_kit.blending.weights import learn_weights
from kaggle_kit.diagnosis import deal_groups
from kaggle_kit.metrics import Metric

BEYOND_NOISE = 2.0
"""Standard errors by which a mean difference must exceed 0."""
UNFITTED = 1.5
"""The same for views of equal weight: where nothing is fitted, what is kept by chance does no harm, and what is missed does."""
_PARTS = 5
_FITTED = Blender("views", mean, learn_weights)


@dataclass(frozen=True)
class ViewRows:
    """Out-of-fold rows of a run in several views.

    Attributes:
        names: S names of view sets; the first is the plain image.
        stack: (S, N, C) probabilities.
        truth: (N,) class positions, or (N, C) 0/1 for multi-label.
        parts: (N,) the part of the cross-fit that each row belongs to.
        groups: (N,) rows of one group, such as duplicates, are not independent.
    """

    names: tuple[str, ...]
    stack: npt.NDArray[np.float32]
    truth: Array
    parts: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    metric: Metric
    threshold: npt.ArrayLike = 0.5

    def take(self, rows: Array, *, seed: int = 0) -> ViewRows:
        """Return some rows; where all are of one part, their groups are dealt into several."""
        parts, groups = self.parts[rows], self.groups[rows]
        if len(np.unique(parts)) < 2:
            parts = deal_groups(groups, _PARTS, seed=seed)
        return ViewRows(self.names, self.stack[:, rows], self.truth[rows], parts, groups, self.metric, self.threshold)

    def score(self, probs: Array) -> float:
        """Return the metric of (N, C) probabilities."""
        return self.metric(self.truth, probs, threshold=self.threshold)


def choose_mix(rows: ViewRows) -> dict[str, float]:
    """Return names of view sets with their weights: of the plain image alone unless others pay.

    Each set alone and the mean of all are tried first, since nothing is fitted there, then weights of least log loss, which,
    cross-fitted, must pay beyond the best of those.
    """
    n_sets = len(rows.names)
    tried: list[tuple[Array, dict[str, float]]] = [
        (probs, {name: 1.0}) for name, probs in zip(rows.names, rows.stack, strict=True)
    ]
    if n_sets == 1 or len(np.unique(rows.groups)) < _PARTS:
        return {rows.names[0]: 1.0}
    if n_sets > 2:
        tried.append((rows.stack.mean(axis=0), dict.fromkeys(rows.names, 1 / n_sets)))
    plain, best = tried[0][0], tried[0]
    for probs, mix in tried[1:]:
        if pays(rows, probs, plain, errors=UNFITTED) and _key(rows, probs) > _key(rows, best[0]):
            best = probs, mix
    stack = list(rows.stack)
    fitted = cross_fit(_FITTED, stack, rows.truth, rows.parts, rows.metric, threshold=rows.threshold).probs
    if not (pays(rows, fitted, best[0]) and pays(rows, fitted, plain)):
        return best[1]
    weights = _FITTED.fit(stack, rows.truth, rows.metric, threshold=rows.threshold).weights or []
    return dict(zip(rows.names, weights, strict=True))


def pays(rows: ViewRows, probs: Array, instead_of: Array, *, errors: float = BEYOND_NOISE) -> bool:
    """Return whether the metric is no worse, and log loss better beyond noise, on the same rows; groups count as one."""
    now, before = rows.score(probs), rows.score(instead_of)
    if np.isnan(now) or rows.metric.better(before, now):
        return False
    gains = np.log(likelihood(probs, rows.truth)) - np.log(likelihood(instead_of, rows.truth))
    return beyond_noise(gains, rows.groups, errors=errors)


def beyond_noise(gains: Array, groups: Sequence[int] | Array, *, errors: float = BEYOND_NOISE) -> bool:
    """Return whether the mean of ``gains``, (N,) or (N, C), exceeds 0 by ``errors`` standard errors; ``groups`` are (N,)."""
    of_rows = gains.reshape(len(gains), -1).mean(axis=1)
    _, owner = np.unique(groups, return_inverse=True)
    sums = np.bincount(owner, of_rows)
    centred = sums - of_rows.mean() * np.bincount(owner)
    error = np.sqrt((centred**2).sum() * len(sums) / max(len(sums) - 1, 1))
    return bool(of_rows.sum() > errors * max(error, 1e-9))


def _key(rows: ViewRows, probs: Array) -> tuple[float, float]:
    return Problem([probs], rows.truth, rows.metric, threshold=rows.threshold).key(probs)


def blend_views(stack: Stack, names: Sequence[str], mix: dict[str, float]) -> npt.NDArray[np.float32]:
    """Return the weighted mean (N, C) of the sets in ``mix``."""
    weights = np.array([mix.get(name, 0.0) for name in names])
    return mean(stack, {"weights": weights.tolist()}, False).astype(np.float32)

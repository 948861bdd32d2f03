"""Ids that have several images: what is said of the images becomes one row an id, by the mean or by the largest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.metrics import Metric
from kaggle_kit.sparse import SparseRows, combined, narrowed

MEAN, MAX, BEST = "mean", "max", "best"
Probs = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Owners:
    """Which id each of M images belongs to.

    Attributes:
        ids: N ids, in the order of their first images.
        of: (M,) the place of each image's id among them.
    """

    ids: tuple[str, ...]
    of: npt.NDArray[np.int64]

    @property
    def several(self) -> bool:
        """Whether any id has more than one image."""
        return len(self.of) > len(self.ids)

    def reduce(self, function: np.ufunc, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return ``values`` (M, …) brought to (N, …) by a function such as ``np.add`` over the images of each id."""
        order = np.argsort(self.of, kind="stable")
        starts = np.searchsorted(self.of[order], np.arange(len(self.ids)))
        if isinstance(values, SparseRows):
            number = np.arange(len(order)) - starts[self.of[order]]  # of each image among those of its id
            of_number = [order[number == at] for at in range(int(number.max(initial=-1)) + 1)]
            return combined(function, [(self.of[rows], values[rows]) for rows in of_number], len(self.ids))
        return np.asarray(function.reduceat(values[order], starts, axis=0))


def owners_of(rows: Iterable[tuple[str, Path]]) -> Owners:
    """Return which id each image of ``rows``, pairs of id and file, belongs to."""
    place: dict[str, int] = {}
    of = np.fromiter((place.setdefault(row_id, len(place)) for row_id, _ in rows), dtype=np.int64)
    return Owners(tuple(place), of)


def merged(probs: Probs, owners: Owners, rule: str, task: str) -> Probs:
    """Return probabilities (M, C) of images as those (N, C) of their ids.

    By ``max`` the surest image speaks for its id: of two classes for the positive one, which comes last, of several labels for
    each; of one class of many for each, and the row is brought to a sum of 1.
    """
    if not owners.several:
        return probs
    if rule == MEAN:
        counts = np.bincount(owners.of, minlength=len(owners.ids))
        means: npt.NDArray[np.float64] = owners.reduce(np.add, probs.astype(np.float64)) / counts[:, None]
        return narrowed(means.astype(np.float32))
    largest: Probs = narrowed(owners.reduce(np.maximum, probs))
    if task == "binary":
        return np.stack([1 - largest[:, 1], largest[:, 1]], axis=1)
    return largest if task == "multilabel" else largest / largest.sum(axis=1, keepdims=True)


def merged_pixels(pixels: npt.NDArray[np.uint64], owners: Owners) -> npt.NDArray[np.uint64]:
    """Return hashes (M, …) of the images' pixels as one of each id (N, …): their sum, whatever the order of its images."""
    return owners.reduce(np.add, pixels) if owners.several else pixels


@dataclass(frozen=True, eq=False)
class Merger:
    """Brings the probabilities of validation images to rows of ids, by a rule or by the one that scores better.

    Attributes:
        rule: mean, max, or best of the two; of equals the mean.
        truth: (N,) or (N, C) of the ids.
    """

    owners: Owners
    rule: str
    task: str
    truth: npt.NDArray[Any]
    metric: Metric

    def settled(self, probs: Probs) -> str:
        """Return the rule for probabilities (M, C): mean or max."""
        if self.rule != BEST or not self.owners.several:
            return MEAN if self.rule == BEST else self.rule
        mean, largest = (self.metric(self.truth, merged(probs, self.owners, rule, self.task)) for rule in (MEAN, MAX))
        return MAX if self.metric.better(largest, mean) else MEAN

    def __call__(self, probs: Probs) -> Probs:
        """Return (N, C) of (M, C)."""
        return merged(probs, self.owners, self.settled(probs), self.task)

"""Which training rows an epoch sees, in which order; a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.choices import SAMPLERS
from kaggle_kit.config import DataConfig
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.metrics import predicted_labels
from kaggle_kit.seeds import generator
from kaggle_kit.tables import Classes

Rows = npt.NDArray[np.int64]
Draw = Callable[[npt.NDArray[Any], int, np.random.Generator], Rows]
"""(targets (N,) or (N, C), how many rows, generator) → rows."""


def shuffle(targets: npt.NDArray[Any], size: int, rng: np.random.Generator) -> Rows:
    """Every row once before any comes twice."""
    rounds = -(-size // len(targets))
    return np.concatenate([rng.permutation(len(targets)) for _ in range(rounds)])[:size].astype(np.int64)


def weighted(targets: npt.NDArray[Any], size: int, rng: np.random.Generator) -> Rows:
    """With replacement, every class equally often; of several labels the rarest counts."""
    weights = row_weights(targets)
    return rng.choice(len(targets), size=size, replace=True, p=weights / weights.sum()).astype(np.int64)


def row_weights(targets: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """1 / size of the row's class, (N,). With (N, C) targets a label is present from 0.5 on and the rarest one counts; rows
    without labels count as a class of their own."""
    if targets.ndim == 1:
        weights: npt.NDArray[np.float64] = 1.0 / np.bincount(targets)[targets]
        return weights
    present = targets >= 0.5
    unlabelled = ~present.any(axis=1)
    per_class = 1.0 / np.maximum(present.sum(axis=0), 1)
    weights = np.where(present, per_class, 0.0).max(axis=1)
    weights[unlabelled] = 1.0 / max(unlabelled.sum(), 1)
    return weights


def row_classes(targets: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(N,) class of each row; of several labels the rarest, and C for rows without labels."""
    if targets.ndim == 1:
        return np.asarray(targets, dtype=np.int64)
    present = targets >= 0.5
    rarity = np.where(present, 1.0 / np.maximum(present.sum(axis=0), 1), -1.0)
    classes: npt.NDArray[np.int64] = np.where(
        present.any(axis=1), predicted_labels(rarity, multilabel=False), targets.shape[1]
    ).astype(np.int64)
    return classes


@dataclass(frozen=True)
class ByClass:
    """Draws each class's share of an epoch: its rows ``multiples`` times, but at most ``cap`` of them.

    Attributes:
        multiples: (C + 1,), the last of rows without labels.
        cap: most rows of a class; None: as many as there are.
    """

    multiples: npt.NDArray[np.float64]
    cap: int | None = None

    def sizes(self, targets: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """(C + 1,) how many rows of each class an epoch has."""
        counts = np.bincount(row_classes(targets), minlength=len(self.multiples))
        sizes = np.round(counts * self.multiples).astype(np.int64)
        return sizes if self.cap is None else np.minimum(sizes, self.cap)

    def __call__(self, targets: npt.NDArray[Any], size: int, rng: np.random.Generator) -> Rows:
        """Every row of a class once before any comes twice, all classes mixed."""
        classes = row_classes(targets)
        parts = [
            np.flatnonzero(classes == number)[shuffle(np.flatnonzero(classes == number), int(wanted), rng)]
            for number, wanted in enumerate(self.sizes(targets))
            if wanted
        ]
        return rng.permutation(np.concatenate(parts))[:size].astype(np.int64)


@dataclass(frozen=True)
class EpochSampler:
    """Draws the rows of each epoch."""

    draw: Draw
    targets: npt.NDArray[Any]
    size: int
    seed: int

    def __len__(self) -> int:
        return self.size

    def rows(self, epoch: int) -> Rows:
        """(size,) rows of this epoch in order."""
        return self.draw(self.targets, self.size, generator(self.seed, "rows", epoch))


def make_sampler(
    name: str, targets: npt.NDArray[Any], *, seed: int, samples_per_epoch: int | str | None = None
) -> EpochSampler:
    """Build a sampler.

    Args:
        name: an entry of ``SAMPLERS``.
        targets: (N,) int64 class indices or (N, C) float32, one per training row.
        samples_per_epoch: see :func:`epoch_size`.

    Raises:
        ConfigError: an unknown name, or an epoch of no images.
        DataError: there are no rows.
    """
    draw = SAMPLERS.lookup(name)
    if len(targets) == 0:
        raise DataError("there are no training rows to sample from; check the fold table and `bad_images`.")
    return EpochSampler(draw, np.asarray(targets), epoch_size(samples_per_epoch, len(targets)), seed)


def sampler_for(data: DataConfig, targets: npt.NDArray[Any], classes: Classes, *, seed: int) -> EpochSampler:
    """Build the configured sampler.

    Raises:
        ConfigError: as :func:`make_sampler`, or ``class_multiples`` names classes that do not exist, or leaves no image.
        DataError: there are no rows.
    """
    if data.samples_per_class is None and not data.class_multiples:
        return make_sampler(data.sampler, targets, seed=seed, samples_per_epoch=data.samples_per_epoch)
    classes.require(data.class_multiples, key="data.class_multiples")
    multiples = np.array([*(data.class_multiples.get(name, 1.0) for name in classes), 1.0])
    draw = ByClass(multiples, data.samples_per_class)
    size = int(draw.sizes(targets).sum())
    if not size:
        raise ConfigError("data.class_multiples leaves no image to train on; some class needs a multiple above 0.")
    return EpochSampler(draw, np.asarray(targets), size, seed)


def epoch_size(samples_per_epoch: int | str | None, rows: int) -> int:
    """Return how many images an epoch has: as many as said, a multiple of ``rows`` such as "2x", or ``rows``.

    Raises:
        ConfigError: it would have none.
    """
    if isinstance(samples_per_epoch, str):
        size = round(float(samples_per_epoch.removesuffix("x")) * rows)
    else:
        size = rows if samples_per_epoch is None else samples_per_epoch
    if size < 1:
        raise ConfigError(f"samples_per_epoch must give at least 1 image, got {samples_per_epoch} of {rows:,}.")
    return size


def rank_share(size: int, rank: int, world_size: int) -> npt.NDArray[np.int64]:
    """Positions of an epoch that one of several processes takes: every ``world_size``-th, and as many for each, so that none
    waits for another; the first positions come again where the division leaves a rest."""
    each = -(-size // world_size)
    return (np.arange(each, dtype=np.int64) * world_size + rank) % size

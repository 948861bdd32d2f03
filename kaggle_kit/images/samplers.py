"""Which training rows an epoch sees, in which order; a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.choices import SAMPLERS
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.seeds import generator

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

"""The ways to divide units over folds, ``SCHEMES`` of :mod:`kaggle_kit.choices`. None of them ever divides a unit.

A scheme is a function of (material, settings, generator) that returns an assignment.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kaggle_kit.config import FoldsConfig
from kaggle_kit.errors import FoldError
from kaggle_kit.folds.stratify import Units, stratify

Assignment = npt.NDArray[np.int64]
"""(U,) for each unit the fold that validates on it, or -1 for never."""


@dataclass(frozen=True)
class Material:
    """What a scheme divides.

    Attributes:
        units: rows that stay together, with their labels.
        grouped: whether any were grouped, or could have been: there is a group column, or duplicates were looked for.
        given: for each unit the folds that the data gives its rows; -1 where it gives none.
    """

    units: Units
    grouped: bool
    given: tuple[tuple[int, ...], ...]


def stratified(material: Material, config: FoldsConfig, rng: np.random.Generator) -> Assignment:
    """Each fold gets its share of every class."""
    return stratify(material.units, _equal_shares(material.units, config), rng)


def stratified_group(material: Material, config: FoldsConfig, rng: np.random.Generator) -> Assignment:
    """As stratified, but refuses data without groups."""
    return stratified(_require_groups(material, "stratified-group"), config, rng)


def group(material: Material, config: FoldsConfig, rng: np.random.Generator) -> Assignment:
    """Folds of equal size whatever the labels; refuses data without groups."""
    return kfold(_require_groups(material, "group"), config, rng)


def kfold(material: Material, config: FoldsConfig, rng: np.random.Generator) -> Assignment:
    """Folds of equal size whatever the labels."""
    return stratify(material.units.without_labels(), _equal_shares(material.units, config), rng)


def holdout(material: Material, config: FoldsConfig, rng: np.random.Generator) -> Assignment:
    """One fold, stratified, that validates on the share ``holdout`` of all rows; the others are only trained on."""
    part = stratify(material.units, (config.holdout, 1 - config.holdout), rng)
    if not 0 < np.count_nonzero(part == 0) < len(part):
        raise FoldError(
            f"a hold-out of {config.holdout:g} of {len(part)} groups of rows leaves one side empty; choose another share."
        )
    return np.where(part == 0, np.int64(0), np.int64(-1))


def column(material: Material, config: FoldsConfig, rng: np.random.Generator) -> Assignment:  # noqa: ARG001
    """The folds that the data gives, numbered from 0 in their order; a unit goes where most of its rows are."""
    if config.repeats != 1:
        raise FoldError(f"scheme column takes the one division that the data gives: repeats must be 1, got {config.repeats}.")
    chosen = [given_fold(given) for given in material.given]
    values = sorted({fold for fold in chosen if fold >= 0})
    if not values:
        raise FoldError("scheme column needs folds in the data, found none. Set fold_column in kk.yaml, or another --scheme.")
    if len(values) == 1 and -1 not in chosen:
        raise FoldError("scheme column: the data puts all rows into one fold, which leaves nothing to train on.")
    number = {value: position for position, value in enumerate(values)} | {-1: -1}
    return np.array([number[fold] for fold in chosen], dtype=np.int64)


def _equal_shares(units: Units, config: FoldsConfig) -> list[float]:
    if len(units) < config.n_folds:
        raise FoldError(
            f"{config.n_folds} folds need at least as many groups of rows that may be parted, found {len(units)} "
            f"({sum(units.sizes)} rows); pass a smaller --n-folds."
        )
    return [1 / config.n_folds] * config.n_folds


def _require_groups(material: Material, scheme: str) -> Material:
    if not material.grouped:
        raise FoldError(
            f"scheme {scheme} needs groups: set group_column in kk.yaml, or let duplicates be looked for; "
            "without groups use --scheme stratified."
        )
    return material


def given_fold(given: tuple[int, ...]) -> int:
    """The most frequent fold; on a tie the largest, so that a row is rather validated on than never."""
    counts = Counter(given)
    return max(counts, key=lambda fold: (counts[fold], fold))

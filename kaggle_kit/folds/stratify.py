"""Assign units to folds so that each fold gets its share of every class.

A unit is what must stay whole: one row, or a group of rows. The result minimises Pearson's chi-square between the
class x fold counts and the counts that each fold should have. The units are dealt greedily, those that hold the largest part
of some class first, each to the fold where it raises chi-square least; then single units are moved while that lowers it.
For single-label rows without groups this is exact: the folds' counts of a class differ by at most one. For multi-label rows
it is the iterative stratification of Sechidis, Tsoumakas and Vlahavas (2011), rarest label first, except that a row's other
labels weigh in, too, and that a unit may hold several rows. Time is linear in the number of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = tuple[tuple[int, int], ...]
"""What a unit holds: (column, number of rows) pairs, each column once."""

_PASSES = 20
_MAX_DEALS = 32
_DEALT_UNITS = 20_000  # in all deals together


@dataclass(frozen=True)
class Units:
    """Units to assign to folds.

    Attributes:
        sizes: rows of each unit.
        counts: for each unit its rows of each class, as sparse counts. Rows without a label count in a column of their own.
    """

    sizes: tuple[int, ...]
    counts: tuple[Counts, ...]

    def __len__(self) -> int:
        return len(self.sizes)

    def without_labels(self) -> Units:
        """The same units when only their sizes matter."""
        return Units(self.sizes, tuple(((0, size),) for size in self.sizes))


def stratify(units: Units, shares: Sequence[float], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Give each unit a fold.

    Args:
        shares: for each fold the part of all rows that it should get; they sum to 1.
        rng: decides between folds that are equally good. With few units, where luck matters, several deals are made and the
            best is kept.

    Returns:
        (U,) int64, the fold of each unit. No fold is empty when there are as many units as folds: an empty fold is always
        the cheapest to add to.
    """
    best: list[int] = []
    least = np.inf
    for _ in range(min(_MAX_DEALS, max(1, _DEALT_UNITS // max(1, len(units))))):
        deal = _Deal(units, shares)
        deal.deal(rng)
        deal.improve(rng)
        chi_square = deal.chi_square()
        if chi_square < least - 1e-9:
            best, least = deal.folds, chi_square
    return np.array(best, dtype=np.int64)


class _Deal:
    """Folds under construction.

    Plain lists rather than arrays: a unit touches few cells, and for few cells they are many times faster.
    """

    def __init__(self, units: Units, shares: Sequence[float]) -> None:
        # The rows of a fold are one more column, so that sizes are balanced by the same rule as classes.
        self.size_column = 1 + max((column for counts in units.counts for column, _ in counts), default=-1)
        self.counts = units.counts
        self.sizes = units.sizes
        self.totals = [0] * (self.size_column + 1)
        for size, counts in zip(units.sizes, units.counts, strict=True):
            self.totals[self.size_column] += size
            for column, rows in counts:
                self.totals[column] += rows
        self.targets = [[share * total for total in self.totals] for share in shares]
        self.filled = [[0] * len(self.totals) for _ in shares]
        self.folds = [-1] * len(units)

    def deal(self, rng: np.random.Generator) -> None:
        """Give every unit a fold, the hardest to place first; the classes decide, then the sizes, then chance."""
        ranks = rng.permuted(np.tile(np.arange(len(self.targets)), (len(self.folds), 1)), axis=1).tolist()
        for unit in self._hardest_first(rng):
            counts, size = self.counts[unit], ((self.size_column, self.sizes[unit]),)
            costs = [(self._cost(fold, counts), self._cost(fold, size)) for fold in range(len(self.targets))]
            self._put(unit, min(ranks[unit], key=costs.__getitem__))

    def improve(self, rng: np.random.Generator) -> None:
        """Move single units to better folds until no move helps, or for at most a fixed number of passes."""
        order = rng.permutation(len(self.folds)).tolist()
        for _ in range(_PASSES):
            moved = False
            for unit in order:
                here = self.folds[unit]
                counts = (*self.counts[unit], (self.size_column, self.sizes[unit]))
                self._take(unit)
                costs = [self._cost(fold, counts) for fold in range(len(self.targets))]
                best = min(range(len(costs)), key=costs.__getitem__)
                if costs[best] < costs[here] - 1e-9:
                    moved = True
                else:
                    best = here
                self._put(unit, best)
            if not moved:
                return

    def chi_square(self) -> float:
        """Of the class x fold table and of the fold sizes."""
        return sum(
            (count - target) ** 2 / target
            for filled, targets in zip(self.filled, self.targets, strict=True)
            for count, target in zip(filled, targets, strict=True)
            if target
        )

    def _hardest_first(self, rng: np.random.Generator) -> list[int]:
        """Units by the largest part of a class that they hold. Units of one class stay together, which evens the sizes."""

        def hardness(unit: int) -> tuple[float, int]:
            part, column = max((rows / self.totals[column], -column) for column, rows in self.counts[unit])
            return -part, -column

        return sorted(rng.permutation(len(self.folds)).tolist(), key=hardness)

    def _cost(self, fold: int, counts: Counts) -> float:
        """By how much chi-square rises when ``counts`` are added to ``fold``."""
        filled, targets = self.filled[fold], self.targets[fold]
        return sum(rows * (2 * (filled[column] - targets[column]) + rows) / targets[column] for column, rows in counts)

    def _put(self, unit: int, fold: int) -> None:
        self.folds[unit] = fold
        self._add(unit, fold, 1)

    def _take(self, unit: int) -> None:
        self._add(unit, self.folds[unit], -1)

    def _add(self, unit: int, fold: int, sign: int) -> None:
        filled = self.filled[fold]
        filled[self.size_column] += sign * self.sizes[unit]
        for column, rows in self.counts[unit]:
            filled[column] += sign * rows

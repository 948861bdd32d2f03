"""Dealing new rows over the folds of a table that is there, so that what was trained on it can be trained further."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kaggle_kit.errors import FoldError
from kaggle_kit.folds.stratify import Units, stratify
from kaggle_kit.tables import FoldTable

_NEW = -2


def scheme_of(before: FoldTable) -> str:
    """Return what the record of a table says that extends ``before``."""
    mark = " (extended)"
    return str(before.meta.get("scheme", "unknown")).removesuffix(mark) + mark


def extended(
    before: FoldTable,
    repeat: int,
    ids: Sequence[str],
    unit_of: npt.NDArray[np.int64],
    units: Units,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Return the fold of each row, (N,): that of ``before`` where it has one, else that of its group, else one that is dealt.

    A group that a new row joins from two folds stays in both, and :meth:`~kaggle_kit.tables.FoldTable.split` then keeps it out
    of the training of each.

    Args:
        ids: of the rows; ``unit_of`` (N,) is the unit of each.

    Raises:
        FoldError: ``before`` has none of the rows.
    """
    where = {row_id: row for row, row_id in enumerate(before.ids)}
    old = before.assignments[repeat]
    known = np.array([old[where[row_id]] if row_id in where else _NEW for row_id in ids], dtype=np.int64)
    fold_of = np.full(len(units), _NEW, dtype=np.int64)
    fold_of[unit_of[known != _NEW]] = known[known != _NEW]
    new = np.flatnonzero(fold_of == _NEW)
    folds, rows = np.unique(known[known != _NEW], return_counts=True)  # -1, too, where the table holds rows out
    if not len(folds):
        raise FoldError("a table can only be extended by data that holds its rows, and none of these ids are in it.")
    if len(new):
        chosen = Units(tuple(units.sizes[unit] for unit in new), tuple(units.counts[unit] for unit in new))
        fold_of[new] = folds[stratify(chosen, (rows / rows.sum()).tolist(), rng)]
    return np.where(known == _NEW, fold_of[unit_of], known)

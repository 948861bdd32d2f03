"""Tables that leave out two folds at a time, for what one run learns from another.

A model that was trained without folds j and k may be asked about the rows of j where k is validated on, and about the rows of k
where j is: it has seen neither. For 5 folds these are 10 models on 3/5 of the rows, half as much again as the 5 on 4/5.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from kaggle_kit import files
from kaggle_kit.errors import DataError, FoldError
from kaggle_kit.runs import Run
from kaggle_kit.tables import FoldTable
from kaggle_kit.workspace import Workspace

SCHEME = "pairs"


def rests_on_pairs(workspace: Workspace, run: Run) -> bool:
    """Return whether a run was trained on pairs of folds, for other runs to learn from."""
    try:
        record = files.read_json(workspace.folds_path(run.record.folds).with_suffix(".json"), made_by="kk folds")
    except DataError:
        return False
    return are_pairs(record)


def are_pairs(meta: Mapping[str, Any]) -> bool:
    """Return whether a fold table with this ``meta`` leaves out two folds at a time."""
    return meta.get("scheme") == SCHEME


def pairs_of(table: FoldTable, name: str) -> FoldTable:
    """Return the table in which each pair of folds of ``table``, called ``name``, is validated on together, in a repeat of its
    own with one fold.

    Raises:
        FoldError: there are fewer than three folds, or they are repeated.
    """
    if table.n_repeats > 1 or table.n_folds < 3:
        raise FoldError(
            f"pairs are made of one division into at least 3 folds; folds/{name}.csv has {table.n_folds}"
            + (f" in {table.n_repeats} repeats." if table.n_repeats > 1 else ".")
        )
    (folds,) = table.assignments
    left_out = [np.isin(folds, pair) for pair in combinations(range(table.n_folds), 2)]
    assignments = np.where(left_out, np.int64(0), np.int64(-1))  # (pairs, N)
    kept = ("kind", "competition", "competition_fingerprint", "seed", "versions", "duplicates")
    meta: dict[str, Any] = {key: table.meta[key] for key in kept if key in table.meta}
    meta |= {"scheme": SCHEME, "of": name, "of_fingerprint": table.fingerprint, "warnings": []}
    return FoldTable(table.ids, table.labels, table.groups, assignments, 1, table.classes, table.multilabel, meta)

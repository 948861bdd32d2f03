"""What there is to tell about a fold table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kaggle_kit.folds.pairs import are_pairs
from kaggle_kit.results import Result
from kaggle_kit.tables import FoldTable, shown


@dataclass(frozen=True, repr=False)
class FoldsSummary(Result):
    """What there is to tell about a fold table that was written to ``path``."""

    folds: FoldTable
    path: Path

    @property
    def pairs(self) -> bool:
        """Whether two folds are left out at a time, for runs that others learn from."""
        return are_pairs(self.folds.meta)

    def table(self) -> pd.DataFrame:
        """Return :func:`balance_table`."""
        return balance_table(self.folds).reset_index()

    def describe(self) -> str:
        """Return the lines of :func:`summary`, and where the table is."""
        return "\n".join([*summary(self.folds), f"wrote {self.path} and {self.path.with_suffix('.json').name}"])

    def to_dict(self) -> dict[str, Any]:
        """Return how the folds were made, and the rows of each class that each of them validates on."""
        folds, meta = self.folds, self.folds.meta
        balance = balance_table(folds)
        return {
            "path": self.path.as_posix(),
            "n_folds": folds.n_folds,
            "n_repeats": folds.n_repeats,
            "n_rows": len(folds),
            "scheme": meta.get("scheme"),
            "seed": meta.get("seed"),
            "duplicates": meta.get("duplicates", {}),
            "warnings": list(meta.get("warnings", ())),
            "balance": {name: counts.tolist() for name, counts in zip(folds.classes, balance.to_numpy(), strict=True)},
        }


def balance_table(table: FoldTable) -> pd.DataFrame:
    """Count the rows of each class that each fold validates on.

    Returns:
        Index: class names in their order. Columns: ``fold 0`` …, over all repeats, and ``never`` when there are rows that are
        only trained on in some repeat, or of pairs of folds in all. For multi-label a row counts in each of its classes.
    """
    truth = table.classes.encode_rows(table.labels)
    columns = {f"fold {split}": truth[table.split(split)[1]].sum(axis=0, dtype=np.int64) for split in range(table.n_splits)}
    left_out = table.assignments < 0
    never = left_out.all(axis=0) if are_pairs(table.meta) else left_out.any(axis=0)
    if never.any():
        columns["never"] = truth[never].sum(axis=0, dtype=np.int64)
    return pd.DataFrame(columns, index=pd.Index(table.classes.names, name="class"))


def summary(table: FoldTable) -> list[str]:
    """Lines for the user: scheme, sizes, warnings, duplicates with different labels, and training images in the test set.

    Duplicates are listed one group a line and in full, since each of them wants a decision.
    """
    meta = table.meta
    sizes = [len(table.split(split)[1]) for split in range(table.n_splits)]
    repeats = f" x {table.n_repeats} repeats" if table.n_repeats > 1 else ""
    return [
        f"{table.n_folds} {'fold' if table.n_folds == 1 else 'folds'}{repeats}, scheme {meta.get('scheme')}, "
        f"seed {meta.get('seed')}, {len(table)} rows; validated on per fold: {min(sizes)} to {max(sizes)} rows.",
        *(f"warning: {warning}" for warning in meta.get("warnings", ())),
        *_duplicate_lines(table, meta.get("duplicates", {})),
    ]


def _duplicate_lines(table: FoldTable, found: dict[str, Any]) -> Iterator[str]:
    if found.get("search", "off") == "off":
        yield "duplicates: not looked for."
        return
    groups: Sequence[Sequence[str]] = found["groups"]
    yield (
        f"duplicates ({found['search']}): {sum(map(len, groups))} training images in {len(groups)} groups, "
        "each kept in one fold."
    )
    labels = dict(zip(table.ids, table.labels, strict=True))
    if found["different_labels"]:
        yield f"warning: duplicates with different labels ({len(found['different_labels'])} groups):"
        for ids in found["different_labels"]:
            yield "  " + ", ".join(f"{row_id} ({' '.join(labels[row_id]) or 'no label'})" for row_id in ids)
    if found["in_test"]:
        count = sum(len(train) for train, _ in found["in_test"])
        yield f"warning: training images that also stand in the test set ({count}; training = test):"
        for train, test in found["in_test"]:
            yield f"  {', '.join(train)} = {', '.join(test)}"
    if found["unreadable"]:
        names = shown(f"{part} {row_id}" for part, row_id in found["unreadable"])
        yield f"warning: images that cannot be read and were not compared ({len(found['unreadable'])}): {names}."

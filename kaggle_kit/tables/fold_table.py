"""Which rows are validated on in which fold, as a value and as a CSV with its record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit import files
from kaggle_kit.errors import FoldError
from kaggle_kit.fold_names import FULL
from kaggle_kit.tables.classes import Classes, Labels, require_unique, shown


@dataclass(frozen=True, eq=False)
class FoldTable:
    """Which rows are validated on in which fold.

    Attributes:
        ids: N unique ids of training rows.
        labels: N label tuples; one name each unless ``multilabel``.
        groups: (N,) int64; rows of one group are never on both sides of a split.
        assignments: (R, N) int64: for each repeat the fold that validates on the row, or -1 for a row that is only ever
            trained on (external data, or everything but the hold-out).
        n_folds: folds of one repeat.
        classes: all classes of the competition, in its order.
        multilabel: whether rows may have several labels, or none.
        meta: scheme, seed, competition, fingerprints and versions; JSON values only.

    >>> labels = [("cat",), ("dog",), ("cat",), ("dog",)]
    >>> folds = FoldTable(("a", "b", "c", "d"), labels, [0, 1, 2, 3], [0, 0, 1, 1], 2, Classes(("cat", "dog")))
    >>> train, valid = folds.split(0)
    >>> train.tolist(), valid.tolist()
    ([2, 3], [0, 1])
    """

    ids: tuple[str, ...]
    labels: tuple[Labels, ...]
    groups: npt.NDArray[np.int64]
    assignments: npt.NDArray[np.int64]
    n_folds: int
    classes: Classes
    multilabel: bool = False
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "labels", tuple(tuple(row) for row in self.labels))
        object.__setattr__(self, "groups", np.asarray(self.groups, dtype=np.int64))
        object.__setattr__(self, "assignments", np.atleast_2d(np.asarray(self.assignments, dtype=np.int64)))
        rows = len(self.ids)
        if len(self.labels) != rows or self.groups.shape != (rows,) or self.assignments.shape[1] != rows:
            raise FoldError(f"a fold table of {rows} ids needs as many labels, groups and assignments.")
        require_unique(self.ids, "fold table")
        if not self.multilabel and any(len(row) != 1 for row in self.labels):
            wrong = [row_id for row_id, row in zip(self.ids, self.labels, strict=True) if len(row) != 1]
            raise FoldError(f"rows need exactly one label unless the task is multi-label, these do not: {shown(wrong)}.")
        if self.assignments.size and not (self.assignments.min() >= -1 and self.assignments.max() < self.n_folds):
            raise FoldError(
                f"folds must lie in -1..{self.n_folds - 1}, found {sorted(set(self.assignments.ravel().tolist()))}."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        repeats = f" x {self.n_repeats} repeats" if self.n_repeats > 1 else ""
        scheme = f", scheme {self.meta['scheme']}" if "scheme" in self.meta else ""
        return f"FoldTable: {len(self):,} rows in {self.n_folds} folds{repeats}{scheme}"

    def _repr_html_(self) -> str:
        rows = [(split, *map(len, self.split(split))) for split in range(self.n_splits)]
        table = pd.DataFrame(rows, columns=["fold", "trained on", "validated on"])
        return f"<p>{escape(repr(self))}</p>{table.to_html(index=False, border=0)}"

    @property
    def n_repeats(self) -> int:
        return int(self.assignments.shape[0])

    @property
    def n_splits(self) -> int:
        """Number of models that `--fold all` trains: split ``s`` is fold ``s % n_folds`` of repeat ``s // n_folds``."""
        return self.n_repeats * self.n_folds

    def split(self, fold: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Row positions to train on and to validate on.

        A row that is only ever trained on sits out the folds that validate on a row of its group, such as its duplicate.
        ``FULL`` trains on all rows and validates on none.

        Raises:
            FoldError: there is no such fold.
        """
        if fold == FULL:
            return np.arange(len(self)), np.empty(0, dtype=np.int64)
        if not 0 <= fold < self.n_splits:
            raise FoldError(f"fold must lie in 0..{self.n_splits - 1}, got {fold}.")
        repeat, part = divmod(fold, self.n_folds)
        valid = self.assignments[repeat] == part
        related = np.isin(self.groups, self.groups[valid])
        return np.flatnonzero(~related), np.flatnonzero(valid)

    def rows_of(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the rows (N,) of out-of-fold ``ids``.

        Raises:
            FoldError: some are not in the table.
        """
        where = {row_id: row for row, row_id in enumerate(self.ids)}
        unknown = [row_id for row_id in ids if row_id not in where]
        if unknown:
            raise FoldError(
                f"{len(unknown)} out-of-fold rows are not in the fold table: {shown(unknown)}. Train the runs again."
            )
        return np.array([where[row_id] for row_id in ids], dtype=np.int64)

    def truth(self, rows: npt.NDArray[np.int64] | None = None) -> npt.NDArray[Any]:
        """Class positions (N,) int64, or for multi-label a 0/1 matrix (N, C) uint8, of all rows or of ``rows``."""
        labels = self.labels if rows is None else [self.labels[row] for row in rows]
        if self.multilabel:
            return self.classes.encode_rows(labels)
        return self.classes.encode(row[0] for row in labels)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of everything that shapes a split: ids, labels, groups, assignments and classes. Not of meta."""
        digest = hashlib.sha256(self.classes.fingerprint.encode())
        digest.update(json.dumps([self.ids, self.labels, self.n_folds], ensure_ascii=False).encode())
        digest.update(np.vstack([self.groups, self.assignments]).tobytes())
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write ``path`` (id, label, group, fold, then fold_1 … for further repeats) and its ``.json`` record.

        Multi-label cells are JSON lists, since class names may hold any separator.
        """
        frame = pd.DataFrame({"id": list(self.ids), "label": [self._cell(row) for row in self.labels], "group": self.groups})
        for repeat, assignment in enumerate(self.assignments):
            frame[_fold_column(repeat)] = assignment
        files.write_table(Path(path), frame)
        record = {
            **self.meta,
            "n_folds": self.n_folds,
            "multilabel": self.multilabel,
            "classes": list(self.classes.names),
            "classes_fingerprint": self.classes.fingerprint,
            "fingerprint": self.fingerprint,
        }
        files.write_json(Path(path).with_suffix(".json"), record)

    def _cell(self, row: Labels) -> str:
        return json.dumps(row, ensure_ascii=False) if self.multilabel else row[0]


def read_folds(path: Path) -> FoldTable:
    """Read a fold table and its record.

    Raises:
        MissingFileError: one of the two files is missing.
        FoldError: the table was changed after it was made, or columns are missing.
    """
    path = Path(path)
    remedy = "Run `kk folds` first."
    with files.parsing(path, fault="is not a fold table of kaggle_kit", remedy=remedy, error=FoldError):
        frame = files.read_table(path)
        record = files.read_json(path.with_suffix(".json"), made_by="kk folds")
        n_folds, multilabel = int(record.pop("n_folds")), bool(record.pop("multilabel"))
        classes, stated = Classes(tuple(record.pop("classes"))), record.pop("fingerprint")
        record.pop("classes_fingerprint")
        columns = [column for column in frame.columns if column == "fold" or column.startswith("fold_")]
        labels = tuple(tuple(json.loads(cell)) if multilabel else (cell,) for cell in frame["label"])
        assignments = np.array([frame[column].astype("int64") for column in columns], dtype=np.int64)
        groups = np.array(frame["group"].astype("int64"), dtype=np.int64)
        ids = tuple(frame["id"])
    table = FoldTable(ids, labels, groups, assignments, n_folds, classes, multilabel, record)
    if table.fingerprint != stated:
        raise FoldError(
            f"{path} was changed after `kk folds` made it: its fingerprint is not the one in {path.stem}.json. "
            "Run `kk folds` again."
        )
    return table


def _fold_column(repeat: int) -> str:
    return "fold" if repeat == 0 else f"fold_{repeat}"

"""Reviews of labels: what a person decided about training labels, kept in ``labels/<name>.csv``. No torch here.

A review never changes the data nor the fold table. A run that is told to takes it for what it trains on: labels that are wrong
are replaced, and dropped rows are left out. It is validated on every row and on the labels as given, all the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit import files
from kaggle_kit.errors import ConfigError, DataError, MissingFileError
from kaggle_kit.tables import Classes, FoldTable, Labels, require_unique, shown
from kaggle_kit.workspace import Workspace

Decision = Literal["right", "wrong", "unsure", "drop"]
DECISIONS: tuple[str, ...] = get_args(Decision)
USED_REVIEW = "labels.csv"
"""The copy in a run's folder of the review that it was trained with."""
_COLUMNS = ["id", "decision", "labels", "was", "time"]


@dataclass(frozen=True)
class Reviewed:
    """What was decided about one row.

    Attributes:
        labels: what it should have, where its labels are wrong; else those it has.
        was: the labels that it had when it was reviewed.
        time: UTC, ISO 8601.
    """

    id: str
    decision: Decision
    labels: Labels
    was: Labels
    time: str = ""


@dataclass(frozen=True)
class Review:
    """Decisions by id, in the order in which they were taken."""

    entries: Mapping[str, Reviewed] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of what changes training: corrected labels, in any order, and dropped ids."""
        changed = sorted(
            [one.id, *sorted(name for name in one.labels)] for one in self.entries.values() if one.decision == "wrong"
        )
        return files.fingerprint([changed, sorted(self.dropped)])

    @property
    def dropped(self) -> set[str]:
        """Ids that are not trained on."""
        return {one.id for one in self.entries.values() if one.decision == "drop"}

    @property
    def counts(self) -> dict[str, int]:
        """Decision -> rows."""
        found = Counter(one.decision for one in self.entries.values())
        return {name: found.get(name, 0) for name in DECISIONS}  # type: ignore[call-overload]

    def with_entry(self, entry: Reviewed) -> Review:
        """Return the review with one more decision; an earlier one about the row is replaced."""
        return Review({**{key: one for key, one in self.entries.items() if key != entry.id}, entry.id: entry})

    def without(self, row_id: str) -> Review:
        """Return the review without the decision about a row."""
        return Review({key: one for key, one in self.entries.items() if key != row_id})

    def labels_of(self, row_id: str, given: Labels) -> Labels:
        """Return the labels of a row as reviewed."""
        entry = self.entries.get(row_id)
        return entry.labels if entry is not None and entry.decision == "wrong" else given


def taught_by(review: Review | None, folds: FoldTable) -> tuple[FoldTable, npt.NDArray[np.bool_]]:
    """Return the table with the labels as reviewed, and which of its rows (N,) may be trained on."""
    if review is None:
        return folds, np.ones(len(folds), dtype=bool)
    labels = tuple(review.labels_of(row_id, given) for row_id, given in zip(folds.ids, folds.labels, strict=True))
    dropped = review.dropped
    return replace(folds, labels=labels), np.array([row_id not in dropped for row_id in folds.ids], dtype=bool)


def review_for(workspace: Workspace, name: str | None, folds: FoldTable) -> Review | None:
    """Return the review ``labels/<name>.csv`` of the rows of ``folds``; None where no review is asked for.

    Raises:
        MissingFileError: it was not made yet.
        DataError: it is damaged, or of other rows, or of labels that have changed since.
    """
    if name is None:
        return None
    path = workspace.labels_path(name)
    try:
        review = read_review(path, folds.classes)
    except MissingFileError:
        raise MissingFileError(f"there is no review {path}. Run `kk labels` first, or train with labels=null.") from None
    require_of(review, dict(zip(folds.ids, folds.labels, strict=True)), path)
    return review


def require_of(review: Review, labels: Mapping[str, Labels], path: Path) -> None:
    """Raise DataError where a review names rows that are not there, or that had other labels when they were reviewed."""
    unknown = [row_id for row_id in review.entries if row_id not in labels]
    if unknown:
        raise DataError(f"{path} reviews {len(unknown)} rows that are not in the data: {shown(unknown)}. Remove those lines.")
    changed = [one.id for one in review.entries.values() if set(labels[one.id]) != set(one.was)]
    if changed:
        raise DataError(
            f"{path}: the labels of {len(changed)} rows are not those that were reviewed: {shown(changed)}. Review them again "
            "with `kk labels` after removing those lines."
        )


def read_review(path: Path, classes: Classes) -> Review:
    """Read a review.

    Raises:
        MissingFileError: there is none.
        DataError: it is no review, or names decisions or classes that there are not.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no review {path}. Run `kk labels` first.")
    frame = files.read_table(path)
    missing = [name for name in _COLUMNS[:4] if name not in frame.columns]
    if missing:
        raise DataError(f"{path} is no review of labels: it lacks the columns {shown(missing)}. Delete it, or put it right.")
    require_unique(list(frame["id"]), str(path))
    times = frame["time"] if "time" in frame.columns else [""] * len(frame)
    entries = {}
    cells = zip(frame["id"], frame["decision"], frame["labels"], frame["was"], times, strict=True)
    for row_id, decision, now, was, time in cells:
        labels, before = (_labels(cell, path, row_id) for cell in (now, was))
        try:
            entries[row_id] = make_entry(row_id, decision, labels, before, classes=classes, time=time)
        except (ConfigError, DataError) as error:
            raise DataError(f"{path}, id {row_id!r}: {error}") from None
    return Review(entries)


def make_entry(
    row_id: str, decision: str, labels: Iterable[str], was: Iterable[str], *, classes: Classes, time: str = ""
) -> Reviewed:
    """Return a decision, checked.

    Raises:
        ConfigError: there is no such decision, or a correction that changes nothing.
        DataError: there is no such class.
    """
    if decision not in DECISIONS:
        raise ConfigError(f"a decision is one of {', '.join(DECISIONS)}, got {decision!r}.")
    now, before = tuple(dict.fromkeys(labels)), tuple(was)
    unknown = [name for name in now if name not in classes.names]
    if unknown:
        raise DataError(f"there is no class {shown(map(repr, unknown))}.")
    if decision == "wrong" and set(now) == set(before):
        raise ConfigError("the labels are said to be wrong, yet the new ones are the same.")
    kept: Decision = decision  # type: ignore[assignment]
    return Reviewed(row_id, kept, now if decision == "wrong" else before, before, time)


def write_review(path: Path, review: Review) -> None:
    """Write a review, atomically; labels are JSON lists, since class names may hold any separator."""
    rows = [
        (one.id, one.decision, *(json.dumps(labels, ensure_ascii=False) for labels in (one.labels, one.was)), one.time)
        for one in review.entries.values()
    ]
    files.write_table(path, pd.DataFrame(rows, columns=_COLUMNS))


def _labels(cell: str, path: Path, row_id: str) -> Labels:
    """Read a list of labels; a bare class name, as a person may write it, is one label."""
    if not cell.startswith("["):
        return (cell,) if cell else ()
    with files.parsing(path, fault=f"holds no list of labels for id {row_id!r}", remedy="Put the line right, or delete it."):
        found = json.loads(cell)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise DataError(f"{path}, id {row_id!r}: expected a list of class names, found {cell}.")
    return tuple(found)

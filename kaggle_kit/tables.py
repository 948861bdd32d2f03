"""The three tables that cross file boundaries: :class:`Classes`, :class:`Predictions` and :class:`FoldTable`.

Classes travel with numbers, rows travel with ids: every file carries the ordered class names and their fingerprint, joins are
by id, and a reader that finds other classes than it expected says which differ. :class:`Classes` is the only place where a
class name becomes an index or an index becomes a name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit import files
from kaggle_kit.errors import ClassMappingError, DataError, FoldError
from kaggle_kit.fold_names import FULL

Labels = tuple[str, ...]
"""The labels of one row: one name, or for multi-label any number of names."""

_METADATA_KEY = b"kaggle_kit"
PIXEL_COLUMNS = ("pixels seen", "pixels of id")
_SHOWN = 8
_ROUNDING = 1e-5
"""How far rounding in float32 may carry a probability outside 0..1."""


@dataclass(frozen=True)
class Classes:
    """Ordered, unique class names.

    Raises:
        ClassMappingError: there are no names, an empty name or a name twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names:
            raise ClassMappingError("a list of classes needs at least one name, got none.")
        if any(not isinstance(name, str) or not name for name in self.names):
            raise ClassMappingError(f"class names must be non-empty strings, got {shown(map(repr, self.names))}.")
        if len(self._positions) != len(self.names):
            twice = [name for name in dict.fromkeys(self.names) if self.names.count(name) > 1]
            raise ClassMappingError(f"class names must be unique, found twice: {shown(twice)}.")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the ordered names; another order is another fingerprint."""
        return files.fingerprint(list(self.names))

    def index(self, name: str) -> int:
        """Position of ``name``.

        Raises:
            ClassMappingError: no class has this name.
        """
        try:
            return self._positions[name]
        except KeyError:
            raise ClassMappingError(f"label {name!r} is none of the {len(self)} classes ({shown(self.names)}).") from None

    def encode(self, labels: Iterable[str]) -> npt.NDArray[np.int64]:
        """Names to positions, (N,)."""
        return np.array([self.index(label) for label in labels], dtype=np.int64)

    def encode_rows(self, rows: Iterable[Iterable[str]]) -> npt.NDArray[np.uint8]:
        """Rows of any number of names to a 0/1 matrix, (N, C)."""
        rows = [tuple(row) for row in rows]
        matrix = np.zeros((len(rows), len(self)), dtype=np.uint8)
        for row, names in zip(matrix, rows, strict=True):
            row[[self.index(name) for name in names]] = 1
        return matrix

    def decode(self, positions: Iterable[int]) -> list[str]:
        """Positions to names.

        Raises:
            ClassMappingError: a position lies outside 0..C-1 (negative ones included: they would wrap around).
        """
        positions = [int(position) for position in positions]
        wrong = [position for position in positions if not 0 <= position < len(self)]
        if wrong:
            raise ClassMappingError(f"class index must lie in 0..{len(self) - 1}, got {shown(map(str, wrong))}.")
        return [self.names[position] for position in positions]

    def top(self, probs: npt.ArrayLike) -> list[str]:
        """The most probable class of each row of ``probs`` (N, C); the first one on a tie."""
        return self.decode(self._columns(probs).argmax(axis=1))

    def above(self, probs: npt.ArrayLike, threshold: npt.ArrayLike = 0.5, *, at_least_one: bool = False) -> list[Labels]:
        """The classes of each row whose probability reaches ``threshold`` (a number or (C,)), in class order.

        With ``at_least_one``, a row that no class reaches gets its most probable class.
        """
        probs = self._columns(probs)
        chosen = probs >= np.asarray(threshold)
        if at_least_one:
            empty = ~chosen.any(axis=1)
            chosen[empty, probs[empty].argmax(axis=1)] = True
        return [tuple(self.decode(np.flatnonzero(row))) for row in chosen]

    def order_of(self, other: Classes, *, here: str, there: str) -> npt.NDArray[np.int64]:
        """Positions in ``other`` of these classes, so that ``there_probs[:, order]`` has this column order.

        Raises:
            ClassMappingError: the two hold different names; names those that differ.
        """
        if set(self.names) != set(other.names):
            raise ClassMappingError(self.difference(other, here=here, there=there))
        return other.encode(self.names)

    def require_same(self, other: Classes, *, here: str, there: str) -> None:
        """Refuse ``other`` unless it has the same names in the same order.

        Raises:
            ClassMappingError: names the files and the classes that differ.
        """
        if self.names != other.names:
            raise ClassMappingError(self.difference(other, here=here, there=there))

    def difference(self, other: Classes, *, here: str, there: str) -> str:
        """One sentence on how two class lists differ, for messages."""
        only_here = [name for name in self.names if name not in other]
        only_there = [name for name in other.names if name not in self]
        if only_here or only_there:
            parts = [f"only in {place}: {shown(names)}" for place, names in ((here, only_here), (there, only_there)) if names]
            return f"the classes of {here} ({len(self)}) and {there} ({len(other)}) differ; {'; '.join(parts)}."
        moved = [
            f"{position}: {mine!r} / {theirs!r}"
            for position, (mine, theirs) in enumerate(zip(self.names, other.names, strict=True))
            if mine != theirs
        ]
        return f"{here} and {there} hold the same classes in another order; column {shown(moved)}."

    def _columns(self, probs: npt.ArrayLike) -> npt.NDArray[Any]:
        probs = np.asarray(probs)
        if probs.ndim != 2 or probs.shape[1] != len(self):
            raise ClassMappingError(f"expected probabilities of shape (N, {len(self)}), got {probs.shape}.")
        return probs


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities of some rows.

    Attributes:
        ids: N unique row ids.
        probs: (N, C) float32, finite, in 0..1; rows sum to 1 unless the task is multi-label.
        classes: the C classes that the columns stand for.
        meta: what the file was made from (kind, run, fold, views, fingerprints, versions); JSON values only.
        pixels: (N, 2) uint64 hashes, or None where nothing is known: of the pixels that the model saw when it said this, and
            of the pixels of the image that the id names. Both are equal unless rows were exchanged.
    """

    ids: tuple[str, ...]
    probs: npt.NDArray[np.float32]
    classes: Classes
    meta: Mapping[str, Any] = field(default_factory=dict)
    pixels: npt.NDArray[np.uint64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        object.__setattr__(self, "probs", np.asarray(self.probs, dtype=np.float32))
        if self.probs.shape != (len(self.ids), len(self.classes)):
            raise DataError(
                f"predictions of {len(self.ids)} ids and {len(self.classes)} classes need probabilities of shape "
                f"({len(self.ids)}, {len(self.classes)}), got {self.probs.shape}."
            )
        if self.pixels is not None and np.shape(self.pixels) != (len(self.ids), 2):
            raise DataError(f"predictions of {len(self.ids)} ids need two pixel hashes each, got {np.shape(self.pixels)}.")
        require_unique(self.ids, "predictions")
        if not np.isfinite(self.probs).all():
            bad = [self.ids[row] for row in np.flatnonzero(~np.isfinite(self.probs).all(axis=1))]
            raise DataError(f"predictions hold NaN or infinite values for {len(bad)} ids: {shown(bad)}.")
        outside = (self.probs < -_ROUNDING) | (self.probs > 1 + _ROUNDING)
        if outside.any():
            bad = [self.ids[row] for row in np.flatnonzero(outside.any(axis=1))]
            raise DataError(
                f"predictions are probabilities, 0 to 1, and run from {self.probs.min():g} to {self.probs.max():g}; "
                f"{len(bad)} ids lie outside: {shown(bad)}. Make the file again."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Predictions: {len(self):,} rows, {len(self.classes)} classes"

    def to_frame(self) -> pd.DataFrame:
        """Return a row an id: id, predicted (the most probable class), probability (of it), and a column a class."""
        frame = pd.DataFrame(self.probs, columns=[f"p_{name}" for name in self.classes])
        first = {"id": list(self.ids), "predicted": self.classes.top(self.probs), "probability": self.probs.max(axis=1)}
        return pd.concat([pd.DataFrame(first), frame], axis=1)

    def _repr_html_(self) -> str:
        table = self.to_frame().head(_SHOWN).round(4).to_html(index=False, border=0, max_cols=_SHOWN)
        return f"<p>{escape(repr(self))}</p>{table}"

    def take(self, ids: Sequence[str], *, what: str = "predictions") -> Predictions:
        """The rows of ``ids``, in that order.

        Raises:
            DataError: some of ``ids`` are not here.
        """
        where = {row_id: row for row, row_id in enumerate(self.ids)}
        missing = [row_id for row_id in ids if row_id not in where]
        if missing:
            raise DataError(f"{what} lack {len(missing)} of {len(ids)} ids: {shown(missing)}.")
        rows = [where[row_id] for row_id in ids]
        pixels = None if self.pixels is None else self.pixels[rows]
        return Predictions(tuple(ids), self.probs[rows], self.classes, self.meta, pixels)

    def of_other_images(self) -> tuple[str, ...]:
        """Return the ids whose model saw other pixels than those of the id's own image."""
        if self.pixels is None:
            return ()
        return tuple(self.ids[row] for row in np.flatnonzero(self.pixels[:, 0] != self.pixels[:, 1]))

    def align(self, classes: Classes, *, here: str, there: str = "predictions") -> Predictions:
        """The same rows with columns in the order of ``classes``; raises ClassMappingError when the names differ."""
        order = classes.order_of(self.classes, here=here, there=there)
        return Predictions(self.ids, self.probs[:, order], classes, self.meta, self.pixels)

    def write(self, path: Path) -> None:
        """Write parquet: column ``id``, one float32 column a class in class order, the two pixel hashes where they are known;
        with ``meta`` inside the file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        meta = {**self.meta, "classes": list(self.classes.names), "classes_fingerprint": self.classes.fingerprint}
        columns = [pa.array(self.ids, pa.string()), *(pa.array(column, pa.float32()) for column in self.probs.T)]
        hashes = [] if self.pixels is None else [pa.array(column, pa.uint64()) for column in self.pixels.T]
        # From arrays, not a dict: a class may be called "id".
        names = ["id", *self.classes.names, *PIXEL_COLUMNS[: len(hashes)]]
        table = pa.Table.from_arrays([*columns, *hashes], names=names)
        table = table.replace_schema_metadata({_METADATA_KEY: json.dumps(meta, ensure_ascii=False).encode()})
        with files.atomic_path(Path(path)) as temporary:
            pq.write_table(table, temporary)


_PREDICTIONS = "is not a prediction file of kaggle_kit"
_PREDICT = "Run `kk train` (out-of-fold) or `kk predict` (test) first."


def read_predictions(path: Path) -> Predictions:
    """Read a file that :meth:`Predictions.write` made.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is no such file, or it is damaged.
        ClassMappingError: its columns are not the classes that it says it holds.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    with (
        files.parsing(path, fault=_PREDICTIONS, remedy=_PREDICT, also=(pa.ArrowException,)),
        files.open_regular(path) as handle,
    ):
        table = pq.ParquetFile(handle).read()  # not read_table, which refuses two columns called "id"
        meta = json.loads(table.schema.metadata[_METADATA_KEY])
        classes = Classes(tuple(meta.pop("classes")))
        fingerprint = meta.pop("classes_fingerprint")
    columns = tuple(table.column_names)
    hashed = columns == ("id", *classes.names, *PIXEL_COLUMNS)
    if not (hashed or columns == ("id", *classes.names)) or fingerprint != classes.fingerprint:
        raise ClassMappingError(
            f"{path}: the columns ({shown(columns[1:])}) are not the classes that the file was written with "
            f"({shown(classes.names)}). It was changed after it was made; make it again."
        )
    with files.parsing(path, fault=_PREDICTIONS, remedy=_PREDICT, also=(pa.ArrowException,)):
        _require_cells(table, path, len(classes))
        probs = np.empty((table.num_rows, len(classes)), dtype=np.float32)
        for position in range(len(classes)):
            probs[:, position] = table.column(position + 1).to_numpy()
        ids = tuple(table.column(0).to_pylist())
        pixels = np.column_stack([table.column(at).to_numpy() for at in (-2, -1)]) if hashed else None
    return Predictions(ids, probs, classes, meta, pixels)


def _require_cells(table: Any, path: Path, n_classes: int) -> None:
    """Refuse a table whose ids are not text, probabilities not floating-point numbers or hashes not uint64, or that lacks a
    cell."""
    import pyarrow as pa

    for position, column in enumerate(table.columns):
        is_sound, wanted = (
            (pa.types.is_string, "text")
            if position == 0
            else (pa.types.is_floating, "floating-point numbers")
            if position <= n_classes
            else (pa.types.is_uint64, "hashes")
        )
        if not is_sound(column.type) or column.null_count:
            raise DataError(
                f"{path}: column {table.column_names[position]!r} holds {column.type} with {column.null_count} empty cells, "
                f"expected {wanted} in every row. {_PREDICT}"
            )


def read_prediction_meta(path: Path) -> dict[str, Any]:
    """Read what a prediction file says about itself, without its rows; raises what :func:`read_predictions` does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    with (
        files.parsing(path, fault=_PREDICTIONS, remedy=_PREDICT, also=(pa.ArrowException,)),
        files.open_regular(path) as handle,
    ):
        meta = json.loads((pq.read_schema(handle).metadata or {})[_METADATA_KEY])
    if not isinstance(meta, dict):
        raise DataError(f"{path} is not a prediction file of kaggle_kit, or it is damaged. Make it again.")
    return meta


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


def require_unique(ids: Sequence[str], what: str) -> None:
    """Refuse ids that occur twice.

    Raises:
        DataError: names the ids.
    """
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    twice = [row_id for row_id in ids if row_id in seen or seen.add(row_id)]  # type: ignore[func-returns-value]
    raise DataError(f"{what}: ids must be unique, found more than once: {shown(dict.fromkeys(twice))}.")


def _fold_column(repeat: int) -> str:
    return "fold" if repeat == 0 else f"fold_{repeat}"


def shown(values: Iterable[str]) -> str:
    """The first few of many values, for messages."""
    listed = list(values)
    more = f" … and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more

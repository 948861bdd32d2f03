"""What models said of some rows, as a value and as a parquet file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit import files
from kaggle_kit.errors import ClassMappingError, DataError
from kaggle_kit.sparse import SparseRows
from kaggle_kit.tables.classes import SHOWN, Classes, require_unique, shown

_METADATA_KEY = b"kaggle_kit"
PIXEL_COLUMNS = ("pixels seen", "pixels of id")
SPARSE_COLUMNS = ("kept classes", "probabilities")
_ROUNDING = 1e-5
"""How far rounding in float32 may carry a probability outside 0..1."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities of some rows.

    Attributes:
        ids: N unique row ids.
        probs: (N, C) float32, finite, in 0..1; rows sum to 1 unless the task is multi-label. An array, or of many classes
            :class:`~kaggle_kit.tables.SparseRows`.
        classes: the C classes that the columns stand for.
        meta: what the file was made from (kind, run, fold, views, fingerprints, versions); JSON values only.
        pixels: (N, 2) uint64 hashes, or None where nothing is known: of the pixels that the model saw when it said this, and
            of the pixels of the image that the id names. Both are equal unless rows were exchanged.

    >>> found = Predictions(("a", "b"), [[0.25, 0.75], [1.0, 0.0]], Classes(("cat", "dog")))
    >>> found
    Predictions: 2 rows, 2 classes
    >>> found.take(["b", "a"]).to_frame()["predicted"].tolist()
    ['cat', 'dog']
    >>> found.align(Classes(("dog", "cat")), here="kk.yaml").probs.tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """

    ids: tuple[str, ...]
    probs: npt.NDArray[np.float32]
    classes: Classes
    meta: Mapping[str, Any] = field(default_factory=dict)
    pixels: npt.NDArray[np.uint64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        sparse = isinstance(self.probs, SparseRows)
        object.__setattr__(self, "probs", self.probs.astype(np.float32) if sparse else np.asarray(self.probs, dtype=np.float32))
        if self.probs.shape != (len(self.ids), len(self.classes)):
            raise DataError(
                f"predictions of {len(self.ids)} ids and {len(self.classes)} classes need probabilities of shape "
                f"({len(self.ids)}, {len(self.classes)}), got {self.probs.shape}."
            )
        if self.pixels is not None and np.shape(self.pixels) != (len(self.ids), 2):
            raise DataError(f"predictions of {len(self.ids)} ids need two pixel hashes each, got {np.shape(self.pixels)}.")
        require_unique(self.ids, "predictions")
        # Two numbers tell of sound tables, which are large and many; NaN is the least and the largest where there is one.
        least, largest = (self.probs.min(), self.probs.max()) if len(self.ids) else (0.0, 0.0)
        if least >= -_ROUNDING and largest <= 1 + _ROUNDING:
            return
        if not np.isfinite(self.probs).all():
            bad = [self.ids[row] for row in np.flatnonzero(~np.isfinite(self.probs).all(axis=1))]
            raise DataError(f"predictions hold NaN or infinite values for {len(bad)} ids: {shown(bad)}.")
        outside = (self.probs < -_ROUNDING) | (self.probs > 1 + _ROUNDING)
        bad = [self.ids[row] for row in np.flatnonzero(outside.any(axis=1))]
        raise DataError(
            f"predictions are probabilities, 0 to 1, and run from {least:g} to {largest:g}; {len(bad)} ids lie outside: "
            f"{shown(bad)}. Make the file again."
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Predictions: {len(self):,} rows, {len(self.classes)} classes"

    def to_frame(self) -> pd.DataFrame:
        """Return a row an id: id, predicted (the most probable class), probability (of it), and unless classes are many a
        column a class."""
        first = {"id": list(self.ids), "predicted": self.classes.top(self.probs), "probability": self.probs.max(axis=1)}
        if isinstance(self.probs, SparseRows):
            return pd.DataFrame(first)
        frame = pd.DataFrame(self.probs, columns=[f"p_{name}" for name in self.classes])
        return pd.concat([pd.DataFrame(first), frame], axis=1)

    def _repr_html_(self) -> str:
        table = self.to_frame().head(SHOWN).round(4).to_html(index=False, border=0, max_cols=SHOWN)
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
        if classes == self.classes:
            return self
        return Predictions(self.ids, self.probs[:, order], classes, self.meta, self.pixels)

    def write(self, path: Path) -> None:
        """Write parquet: column ``id``, one float32 column a class in class order, the two pixel hashes where they are known;
        with ``meta`` inside the file.

        Of many classes there are two columns of lists instead: the positions of those that are kept, and their probabilities
        with that of each other class behind them.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        meta = {**self.meta, "classes": list(self.classes.names), "classes_fingerprint": self.classes.fingerprint}
        cells = _cells(self.probs)
        hashes = [] if self.pixels is None else [pa.array(column, pa.uint64()) for column in self.pixels.T]
        # From arrays, not a dict: a class may be called "id".
        names = ["id", *_names(self.classes, sparse=isinstance(self.probs, SparseRows)), *PIXEL_COLUMNS[: len(hashes)]]
        table = pa.Table.from_arrays([pa.array(self.ids, pa.string()), *cells, *hashes], names=names)
        table = table.replace_schema_metadata({_METADATA_KEY: json.dumps(meta, ensure_ascii=False).encode()})
        with files.atomic_path(Path(path)) as temporary:
            # Hardly a value occurs twice: dictionaries would make files half as large again, and take six times as long.
            pq.write_table(table, temporary, use_dictionary=False)


def _names(classes: Classes, *, sparse: bool) -> tuple[str, ...]:
    """Return what the columns between the ids and the hashes are called."""
    return SPARSE_COLUMNS if sparse else classes.names


def _cells(probs: npt.NDArray[np.float32]) -> list[Any]:
    """Return those columns."""
    import pyarrow as pa

    if not isinstance(probs, SparseRows):
        return [pa.array(column, pa.float32()) for column in probs.T]
    lists = (probs.columns, pa.int32()), (probs.cells, pa.float32())
    return [pa.FixedSizeListArray.from_arrays(pa.array(one.ravel(), kind), one.shape[1]) for one, kind in lists]


_PREDICTIONS = "is not a prediction file of kaggle_kit"
_PREDICT = "`kk train` writes oof.parquet, `kk predict` the others: run it first."


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
        files.open_for_arrow(path) as file,
    ):
        table = pq.ParquetFile(file).read()  # not read_table, which refuses two columns called "id"
        meta = json.loads(table.schema.metadata[_METADATA_KEY])
        classes = Classes(tuple(meta.pop("classes")))
        fingerprint = meta.pop("classes_fingerprint")
    columns = tuple(table.column_names)
    sparse = columns[1:3] == SPARSE_COLUMNS and pa.types.is_fixed_size_list(table.column(1).type)
    names = _names(classes, sparse=sparse)
    hashed = columns == ("id", *names, *PIXEL_COLUMNS)
    if not (hashed or columns == ("id", *names)) or fingerprint != classes.fingerprint:
        raise ClassMappingError(
            f"{path}: the columns ({shown(columns[1:])}) are not the classes that the file was written with "
            f"({shown(classes.names)}). It was changed after it was made; make it again."
        )
    with files.parsing(path, fault=_PREDICTIONS, remedy=_PREDICT, also=(pa.ArrowException,)):
        _require_cells(table, path, names)
        probs = _sparse_rows(table, path, classes) if sparse else _dense_rows(table, len(classes))
        ids = tuple(table.column(0).to_pylist())
        pixels = np.column_stack([table.column(at).to_numpy() for at in (-2, -1)]) if hashed else None
    return Predictions(ids, probs, classes, meta, pixels)


def _dense_rows(table: Any, n_classes: int) -> npt.NDArray[np.float32]:
    probs = np.empty((table.num_rows, n_classes), dtype=np.float32)
    for position in range(n_classes):
        probs[:, position] = table.column(position + 1).to_numpy()
    return probs


def _sparse_rows(table: Any, path: Path, classes: Classes) -> npt.NDArray[np.float32]:
    lists = [table.column(at).combine_chunks() for at in (1, 2)]
    columns, cells = (one.flatten().to_numpy().reshape(len(one), one.type.list_size) for one in lists)
    sound = cells.shape[1] == columns.shape[1] + 1 and (columns >= 0).all() and (columns <= len(classes)).all()
    if not sound or not ((columns[:, 1:] > columns[:, :-1]) | (columns[:, 1:] == len(classes))).all():
        raise DataError(f"{path}: the positions of the classes that it keeps are damaged. {_PREDICT}")
    return cast(npt.NDArray[np.float32], SparseRows(columns, cells, len(classes)))


def _require_cells(table: Any, path: Path, names: Sequence[str]) -> None:
    """Refuse a table whose ids are not text, probabilities not floating-point numbers or hashes not uint64, or that lacks a
    cell."""
    import pyarrow as pa

    for position, column in enumerate(table.columns):
        kind = column.type.value_type if pa.types.is_fixed_size_list(column.type) else column.type
        is_sound, wanted = (
            (pa.types.is_string, "text")
            if position == 0
            else (pa.types.is_int32, "positions of classes")
            if position == 1 and names is SPARSE_COLUMNS
            else (pa.types.is_floating, "floating-point numbers")
            if position <= len(names)
            else (pa.types.is_uint64, "hashes")
        )
        if not is_sound(kind) or column.null_count:
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
        files.open_for_arrow(path) as file,
    ):
        meta = json.loads((pq.read_schema(file).metadata or {})[_METADATA_KEY])
    if not isinstance(meta, dict):
        raise DataError(f"{path} is not a prediction file of kaggle_kit, or it is damaged. Make it again.")
    return meta

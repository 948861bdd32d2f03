"""Probabilities of thousands of classes: the largest of each row, and one number for all others.

64,500 classes and 100,000 rows would be 26 GB of float32, of which nearly all are next to nothing. :class:`SparseRows` stands
for such a table and does what the code of few classes asks of an array, so that there is one path for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from kaggle_kit.errors import DataError

Array = npt.NDArray[Any]
"""An array, or :class:`SparseRows` where classes are many."""
DENSE_CLASSES = 4000
"""Up to so many classes, and for several labels a row at any number, predictions are kept whole."""
KEPT = 50
"""Of more classes so many probabilities of a row are kept one by one."""
MOST_DENSE = 1 << 28
"""Numbers of the largest whole table that is made of sparse rows where a method can do with nothing else: 1 GB of float32."""


def kept_columns(n_classes: int, *, multilabel: bool = False) -> int:
    """Return how many probabilities of a row are kept one by one; 0 where all are."""
    return 0 if multilabel or n_classes <= DENSE_CLASSES else min(KEPT, n_classes - 1)


def require_room(n_rows: int, n_classes: int) -> None:
    """Refuse a whole table of so many rows and classes where classes are many and it is larger than :data:`MOST_DENSE`.

    Raises:
        DataError: says what to do.
    """
    if kept_columns(n_classes) and n_rows * n_classes > MOST_DENSE:
        raise DataError(
            f"this needs all probabilities of {n_rows:,} rows and {n_classes:,} classes at once, more than memory should hold; "
            f"of more than {DENSE_CLASSES:,} classes only the {KEPT} largest of a row are kept. Leave it out, or give it fewer "
            "rows."
        )


class SparseRows(NDArrayOperatorsMixin):
    """A table (N, C) of which each row holds some columns one by one, and one number for each of all others.

    NumPy's functions of single cells take it with numbers, columns (N, 1) and other such tables, and give one; so what is
    computed is what the whole table would give. What needs the whole table gets it by ``np.asarray`` while it is small.

    Args:
        columns: (N, K) the columns held, ascending; C stands for none and comes last.
        cells: (N, K + 1) their values, and last that of every other column.
        width: C.
    """

    ndim = 2

    def __init__(self, columns: npt.ArrayLike, cells: npt.ArrayLike, width: int) -> None:
        self.columns: npt.NDArray[np.int32] = np.asarray(columns, dtype=np.int32)
        self.cells = np.asarray(cells)
        self.width = width

    @classmethod
    def largest(cls, dense: Array, kept: int) -> SparseRows:
        """Keep the ``kept`` largest of each row (N, C); the mean of the others stands for each of them, so that sums stay."""
        return cls(*_largest(dense, dense.sum(axis=1, dtype=np.float64), dense.shape[1], kept), dense.shape[1])

    @classmethod
    def named(cls, columns: Sequence[Sequence[int]], width: int, values: Sequence[float] = ()) -> SparseRows:
        """Rows that are 1, or ``values`` in the order named, at some columns and 0 elsewhere."""
        most = max(map(len, columns), default=0)
        places = np.full((len(columns), most), width, dtype=np.int32)
        cells = np.zeros((len(columns), most + 1))
        for row, names in enumerate(columns):
            places[row, : len(names)] = names
            cells[row, : len(names)] = values[: len(names)] if len(values) else 1.0
        order = np.argsort(places, axis=1, kind="stable")
        cells[:, :-1] = np.take_along_axis(cells, order, axis=1)
        return cls(np.take_along_axis(places, order, axis=1), cells, width)

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.cells), self.width

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.cells.dtype

    @property
    def size(self) -> int:
        """Numbers that are held."""
        return int(self.cells.size)

    @property
    def packed(self) -> npt.NDArray[np.uint8]:
        """(N, B) the bytes of each row."""
        parts = [self.columns.astype("<i4"), self.cells.astype("<f4")]
        return np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts], axis=1)

    @property
    def _held(self) -> npt.NDArray[np.bool_]:
        return self.columns < self.width

    @property
    def _others(self) -> npt.NDArray[np.int64]:
        """(N,) how many columns are not held."""
        return np.asarray(self.width - self._held.sum(axis=1))

    @property
    def _counted(self) -> Array:
        """The cells without the number for others where there are none."""
        counted = self.cells.copy()
        counted[:, -1] = np.where(self._others > 0, counted[:, -1], counted[:, 0])
        return counted

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        require_room(len(self), self.width)
        dense = np.repeat(self.cells[:, -1:], self.width, axis=1)
        rows, at = np.nonzero(self._held)
        dense[rows, self.columns[rows, at]] = self.cells[rows, at]
        return dense if dtype is None else dense.astype(dtype, copy=False)

    def __array_ufunc__(self, function: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options.get("out") is not None:
            return NotImplemented
        whole = any(isinstance(one, np.ndarray) and one.ndim > 0 and one.shape[-1] == self.width for one in inputs)
        if whole or function.signature is not None:
            return function(*(np.asarray(one) if isinstance(one, SparseRows) else one for one in inputs), **options)
        tables = on_same_columns([one for one in inputs if isinstance(one, SparseRows)])
        columns, following = tables[0].columns, iter(tables)
        cells = function(*(next(following).cells if isinstance(one, SparseRows) else one for one in inputs), **options)
        return SparseRows(columns, cells, self.width)

    def __getitem__(self, key: Any) -> Any:
        """Rows, sparse; ``[:, columns]``, sparse where these are all in another order; ``[rows, columns]``, single cells."""
        if not isinstance(key, tuple):
            return np.asarray(self[[key]])[0] if np.ndim(key) == 0 and not isinstance(key, slice) else self._rows(key)
        rows, columns = key
        if isinstance(rows, slice) and rows == slice(None):
            return self._of_columns(columns)
        rows, columns = np.broadcast_arrays(rows, columns)
        same = self.columns[rows] == columns[..., None]
        at = np.where(same.any(axis=-1), same.argmax(axis=-1), self.columns.shape[1])
        return self.cells[rows, at]

    def _rows(self, key: Any) -> SparseRows:
        return SparseRows(self.columns[key], self.cells[key], self.width)

    def _of_columns(self, columns: Any) -> Any:
        wanted = np.arange(self.width)[columns]
        place = np.full(self.width + 1, -1, dtype=np.int64)
        place[np.ravel(wanted)] = np.arange(np.size(wanted))
        if np.size(wanted) == self.width and (place[:-1] >= 0).all():
            place[-1] = self.width
            moved = place[self.columns]
            order = np.argsort(moved, axis=1)
            cells = np.concatenate([np.take_along_axis(self.cells[:, :-1], order, axis=1), self.cells[:, -1:]], axis=1)
            return SparseRows(np.take_along_axis(moved, order, axis=1), cells, self.width)
        found = np.repeat(self.cells[:, -1:], np.size(wanted), axis=1)
        rows, at = np.nonzero(place[self.columns] >= 0)
        found[rows, place[self.columns[rows, at]]] = self.cells[rows, at]
        return found[:, 0] if np.ndim(wanted) == 0 else found

    def on(self, columns: npt.NDArray[np.int32]) -> SparseRows:
        """Return the same table with ``columns`` (N, L) held, among them all that are held here."""
        rows = np.arange(len(self), dtype=np.int64)[:, None] * (self.width + 1)
        here, wanted = (rows + self.columns).ravel(), (rows + columns).ravel()
        at = np.minimum(np.searchsorted(here, wanted), max(len(here) - 1, 0))
        known = (here[at] == wanted) & (columns.ravel() < self.width) if len(here) else np.zeros(len(wanted), dtype=bool)
        values = np.repeat(self.cells[:, -1], columns.shape[1])
        values[known] = self.cells[:, :-1].ravel()[at[known]]
        return SparseRows(columns, np.concatenate([values.reshape(columns.shape), self.cells[:, -1:]], axis=1), self.width)

    def pruned(self, kept: int) -> SparseRows:
        """Return the ``kept`` largest of each row; the mean of all others stands for each of them."""
        if self.columns.shape[1] <= kept:
            return self
        values = np.where(self._held, self.cells[:, :-1], self.cells[:, -1:])
        at, cells = _largest(values, self.sum(axis=1, dtype=np.float64), self.width, kept)
        return SparseRows(np.take_along_axis(self.columns, at, axis=1), cells, self.width)

    def astype(self, dtype: npt.DTypeLike) -> SparseRows:
        """Return the table in another type of number."""
        return SparseRows(self.columns, self.cells.astype(dtype), self.width)

    def clip(self, low: Any, high: Any, out: None = None, dtype: Any = None) -> SparseRows:  # noqa: ARG002
        """Return the cells within two bounds, as :func:`np.clip` asks for it."""
        return SparseRows(self.columns, np.clip(self.cells, low, high, dtype=dtype), self.width)

    def sum(self, axis: int | None = None, dtype: Any = None, out: None = None, *, keepdims: bool = False) -> Any:  # noqa: ARG002
        """Return the sum of rows, columns or all."""
        if axis == 0:
            others = self.cells[:, -1].astype(np.float64)
            rows, at = np.nonzero(self._held)
            more = self.cells[rows, at] - others[rows]
            return others.sum() + np.bincount(self.columns[rows, at], more, minlength=self.width)
        held = np.where(self._held, self.cells[:, :-1], 0).sum(axis=1, dtype=dtype)
        total = held + self._others * self.cells[:, -1].astype(held.dtype)
        return total[:, None] if keepdims else total if axis == 1 else total.sum()

    def max(self, axis: int | None = None, out: None = None, *, keepdims: bool = False) -> Any:  # noqa: ARG002
        """Return the largest of rows or of all."""
        return self._counted.max(axis=axis, keepdims=keepdims)

    def min(self, axis: int | None = None, out: None = None) -> Any:  # noqa: ARG002
        """Return the smallest of rows or of all."""
        return self._counted.min(axis=axis)

    def all(self, axis: int | None = None, out: None = None) -> Any:  # noqa: ARG002
        """Return whether all cells of rows, or all, are true."""
        return self._counted.all(axis=axis)

    def any(self, axis: int | None = None, out: None = None) -> Any:  # noqa: ARG002
        """Return whether any cell of rows, or any at all, is true."""
        return self._counted.any(axis=axis)

    def argmax(self, axis: int = 1) -> npt.NDArray[np.int64]:  # noqa: ARG002
        """Return (N,) the column of each row's largest cell, the first of equals."""
        values = np.where(self._held, self.cells[:, :-1], -np.inf)
        at = values.argmax(axis=1)[:, None]
        largest, column = (np.take_along_axis(one, at, axis=1)[:, 0] for one in (values, self.columns))
        gaps = self.columns != np.arange(self.columns.shape[1])
        other = np.where(gaps.any(axis=1), gaps.argmax(axis=1), self.columns.shape[1])  # the first column that is not held
        rest = self.cells[:, -1]
        elsewhere = (self._others > 0) & ((rest > largest) | ((rest == largest) & (other < column)))
        return np.where(elsewhere, other, column).astype(np.int64)

    def ranking(self, count: int) -> npt.NDArray[np.int64]:
        """Return (N, count) the columns held of the largest cells, the largest first, of equals the first; C after the last."""
        if count > self.columns.shape[1]:
            raise DataError(f"the {count} largest of a row were asked for, {self.columns.shape[1]} are kept.")
        values = np.where(self._held, self.cells[:, :-1], -np.inf)
        order = np.argsort(-values, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(self.columns, order, axis=1).astype(np.int64)


def _largest(values: Array, totals: npt.NDArray[np.float64], width: int, kept: int) -> tuple[npt.NDArray[np.int64], Array]:
    """Return where the ``kept`` largest of ``values`` (N, L) lie, ascending, and these with the mean of all other columns; rows
    sum to ``totals`` (N,)."""
    at = np.sort(np.argpartition(-values, kept - 1, axis=1)[:, :kept], axis=1)
    held = np.take_along_axis(values, at, axis=1)
    others = np.maximum(totals - held.sum(axis=1, dtype=np.float64), 0) / (width - kept)
    others = np.minimum(others, held.min(axis=1))[:, None]  # rounding must not let it exceed what is kept
    return at, np.concatenate([held, others.astype(values.dtype)], axis=1)


def on_same_columns(tables: Sequence[SparseRows]) -> list[SparseRows]:
    """Return the tables with the columns held that any of them holds."""
    first = tables[0].columns
    if all(one.columns is first or np.array_equal(one.columns, first) for one in tables[1:]):
        return list(tables)
    width = tables[0].width
    union = np.sort(np.concatenate([one.columns for one in tables], axis=1), axis=1)
    union[:, 1:][union[:, 1:] == union[:, :-1]] = width
    union = np.sort(union, axis=1)
    union = union[:, : int((union < width).sum(axis=1).max(initial=0))]
    return [one.on(union) for one in tables]


def together(tables: Sequence[Array]) -> Array:
    """Return the rows of several tables below each other."""
    if not isinstance(tables[0], SparseRows):
        return np.concatenate(tables)
    some = cast(Sequence[SparseRows], tables)
    most, width = max(one.columns.shape[1] for one in some), tables[0].shape[1]
    wide = [np.pad(one.columns, ((0, 0), (0, most - one.columns.shape[1])), constant_values=width) for one in some]
    cells = np.concatenate([one.on(columns).cells for one, columns in zip(some, wide, strict=True)])
    return cast(Array, SparseRows(np.concatenate(wide), cells, width))


def arranged(parts: Sequence[tuple[npt.NDArray[np.int64], Array]]) -> Array:
    """Return the table of which ``parts`` are the rows at some positions, each position once."""
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return together([table for _, table in parts])[order]


def combined(function: np.ufunc, parts: Sequence[tuple[npt.NDArray[np.int64], Array]], n_rows: int) -> Array:
    """Return ``n_rows`` rows of float64 that begin at 0 and take each part's rows at some positions by ``function``."""
    width = parts[0][1].shape[1]
    if isinstance(parts[0][1], SparseRows):
        sparse = _nothing(n_rows, width)
        for rows, table in parts:
            others = np.setdiff1d(np.arange(n_rows), rows)
            sparse = function(sparse, arranged([(rows, table), (others, _nothing(len(others), width))]))
        return sparse
    total = np.zeros((n_rows, width))
    for rows, table in parts:
        total[rows] = function(total[rows], table)
    return total


def _nothing(n_rows: int, width: int) -> Array:
    return cast(Array, SparseRows(np.empty((n_rows, 0)), np.zeros((n_rows, 1)), width))


def narrowed(table: Array) -> Array:
    """Return the table with no more than :data:`KEPT` columns of a row held, where it is sparse."""
    return cast(Array, table.pruned(KEPT)) if isinstance(table, SparseRows) else table


def with_column(table: Array, column: int, value: float) -> Array:
    """Return a copy of the table with ``value`` in each row of a column."""
    if isinstance(table, SparseRows):
        one = SparseRows(np.full((len(table), 1), column), np.zeros((len(table), 2)), table.width)
        table = on_same_columns([table, one])[0]
        cells = table.cells.copy()
        cells[:, :-1][table.columns == column] = value
        return cast(Array, SparseRows(table.columns, cells, table.width))
    table = np.array(table)
    table[:, column] = value
    return table


def ranking(table: Array, count: int) -> npt.NDArray[np.int64]:
    """Return (N, count) the columns of the largest cells of each row, the largest first, of equals the first."""
    if isinstance(table, SparseRows):
        return table.ranking(count)
    return np.argsort(-table, axis=1, kind="stable")[:, :count]

"""Reading a submission as a grader does: plain CSV cells, then classes by the name of a column or of a label.

This is its own code on purpose. Were it shared with the writer, a mistake in it would cancel out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kaggle_kit import files
from kaggle_kit.choices import COLUMN_FORMS, EXACT_FORMS
from kaggle_kit.config import SubmissionConfig
from kaggle_kit.errors import MissingFileError, SubmissionError
from kaggle_kit.registry import lookup
from kaggle_kit.sparse import SparseRows, kept_columns
from kaggle_kit.tables import Classes, shown

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Cells:
    """A CSV as text.

    Attributes:
        header: the column names; may repeat.
        rows: N lists of as many cells.
        bom: whether the file begins with a byte-order mark.
    """

    header: tuple[str, ...]
    rows: list[list[str]]
    bom: bool = False

    def column(self, name: str, occurrence: int = 0) -> list[str]:
        """The cells of a column called ``name``; raises SubmissionError when there is none."""
        found = [at for at, title in enumerate(self.header) if title == name]
        if len(found) <= occurrence:
            raise SubmissionError(f"there is no column {name!r}; the file has {shown(self.header)}.")
        return [row[found[occurrence]] for row in self.rows]


def read_cells(path: Path) -> Cells:
    """Read a CSV.

    Raises:
        MissingFileError: there is no such file.
        SubmissionError: it is empty, not UTF-8, or a line has another number of cells than the header.
    """
    try:
        data = files.read_bytes(path)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist.") from None
    except UnicodeDecodeError as error:
        raise SubmissionError(f"{path.name} is not UTF-8: byte {error.object[error.start]:#04x} at {error.start:,}.") from error
    if "\0" in text:
        raise SubmissionError(f"{path.name} holds NUL bytes; it was cut off, or it is no CSV.")
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise SubmissionError(f"{path.name} is not a CSV: {error}.") from error
    if not rows:
        raise SubmissionError(f"{path.name} is empty.")
    header, body = tuple(rows[0]), rows[1:]
    torn = [number for number, row in enumerate(body, start=2) if len(row) != len(header)]
    if torn:
        raise SubmissionError(
            f"{path.name}: {len(torn)} of {len(body)} rows do not have the header's {len(header)} cells; "
            f"rows {shown(map(str, torn))}."
        )
    return Cells(header, body, data.startswith(b"\xef\xbb\xbf"))


def widened(cells: Cells, form: SubmissionConfig) -> Cells:
    """The long form, a row for each id and class, as a row an id with a column a class.

    Raises:
        SubmissionError: an id ends in no class, or a class of it is missing or there twice.
    """
    value_of: dict[str, dict[str, str]] = {}
    ends = sorted(form.columns, key=len, reverse=True)
    targets = [name for name in cells.header if name != form.id_column]
    if len(targets) != 1:
        raise SubmissionError(f"the long form has an id and one column of probabilities, the file has {shown(cells.header)}.")
    for cell, value in zip(cells.column(form.id_column), cells.column(targets[0]), strict=True):
        end = next((end for end in ends if cell.endswith(f"{form.separator}{end}")), None)
        if end is None:
            raise SubmissionError(f"the id {cell!r} ends in none of the classes {shown(form.columns)}.")
        row = value_of.setdefault(cell[: -len(end) - len(form.separator)], {})
        if end in row:
            raise SubmissionError(f"the id {cell!r} stands more than once.")
        row[end] = value
    lacking = [row_id for row_id, row in value_of.items() if len(row) != len(form.columns)]
    if lacking:
        raise SubmissionError(f"{len(lacking)} ids have no row for some class: {shown(lacking)}.")
    header = (form.id_column, *form.columns)
    return Cells(header, [[row_id, *(row[end] for end in form.columns)] for row_id, row in value_of.items()], cells.bom)


def without_index(cells: Cells) -> Cells:
    """Leave out a first column without a name, as pandas writes its index."""
    if len(cells.header) < 2 or cells.header[0].strip():
        return cells
    return Cells(cells.header[1:], [row[1:] for row in cells.rows], cells.bom)


@dataclass(frozen=True)
class Answers:
    """What a grader takes from a submission, in the competition's class order.

    Attributes:
        ids: N ids as they stand.
        values: (N, C) float64: the probabilities, or 1 for each class that was named and 0 for the others.
        exact: whether the values are probabilities rather than named classes.
    """

    ids: tuple[str, ...]
    values: Array
    exact: bool

    def take(self, ids: Sequence[str]) -> Array:
        """The values of ``ids``, in that order; all must be there."""
        where = {row_id: row for row, row_id in enumerate(self.ids)}
        return self.values[[where[row_id] for row_id in ids]]


def target_columns(form: SubmissionConfig, classes: Classes, header: Sequence[str]) -> list[str]:
    """The columns that hold answers: those that kk.yaml maps, else all but the id column."""
    if form.columns:
        return list(form.columns)
    if form.form in COLUMN_FORMS:
        return list(classes)
    return [name for name in header if name != form.id_column]


def read_answers(cells: Cells, form: SubmissionConfig, classes: Classes) -> Answers:
    """Undo the form of a submission.

    Raises:
        SubmissionError: a column is missing, a label is no class, or a cell is no finite number.
    """
    ids = tuple(cells.column(form.id_column))
    targets = target_columns(form, classes, cells.header)
    # A class may be called as the id column is; its column is the second of that name.
    columns = [cells.column(name, int(name == form.id_column)) for name in targets]
    values = lookup(READERS, form.form, "submission form")(columns, targets, form, classes)
    if not np.isfinite(values).all():
        raise SubmissionError(f"{int((~np.isfinite(values)).sum())} values are NaN or infinite.")
    return Answers(ids, values, form.form in EXACT_FORMS)


def numbers(column: Sequence[str], name: str) -> Array:
    """Text cells as floats; "nan" and "inf" are numbers here.

    Raises:
        SubmissionError: names the first cells that are none.
    """
    try:
        return np.array(column, dtype=np.float64)
    except ValueError:
        wrong = [cell for cell in column if not _is_number(cell)]
        raise SubmissionError(
            f"column {name!r} holds {len(wrong)} cells that are no numbers: {shown(map(repr, wrong))}."
        ) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _known(rows: Sequence[Sequence[str]], classes: Classes) -> Sequence[Sequence[str]]:
    """Return rows of names; raises SubmissionError where one is no class."""
    unknown = dict.fromkeys(name for row in rows for name in row if name not in classes)
    if unknown:
        count = sum(any(name in unknown for name in row) for row in rows)
        raise SubmissionError(
            f"{count} of {len(rows)} rows hold labels that are none of the {len(classes)} classes: {shown(map(repr, unknown))}."
        )
    return rows


def _read_label(columns: list[list[str]], targets: list[str], form: SubmissionConfig, classes: Classes) -> Array:  # noqa: ARG001
    return classes.hot(_known([[cell] for cell in columns[0]], classes)).astype(np.float64)


def _read_index(columns: list[list[str]], targets: list[str], form: SubmissionConfig, classes: Classes) -> Array:
    names = {number: name for name, number in form.indices.items()}
    found = numbers(columns[0], targets[0])
    unknown = [value for value in dict.fromkeys(found.tolist()) if value not in names]
    if unknown:
        raise SubmissionError(
            f"column {targets[0]!r} holds integers that stand for no class: {shown(f'{value:g}' for value in unknown)}; "
            f"the grader knows {min(names, default=0)} to {max(names, default=0)}."
        )
    return classes.hot(_known([[names[int(value)]] for value in found], classes)).astype(np.float64)


def _read_labels(columns: list[list[str]], targets: list[str], form: SubmissionConfig, classes: Classes) -> Array:  # noqa: ARG001
    empty = {"", form.empty_label}
    rows = [[] if cell in empty and cell not in classes else cell.split(form.separator) for cell in columns[0]]
    return classes.encode_rows(_known(rows, classes)).astype(np.float64)


def _read_ranked(columns: list[list[str]], targets: list[str], form: SubmissionConfig, classes: Classes) -> Array:  # noqa: ARG001
    """1 for the first guess, 1/2 for the second …, 0 for classes that are not named."""
    guesses = [cell.split(form.separator) for cell in columns[0]]
    wrong = [row for row, names in enumerate(guesses, start=2) if len(set(names)) != len(names) or len(names) > form.guesses]
    if wrong:
        raise SubmissionError(
            f"{len(wrong)} rows hold a guess twice or more than {form.guesses} of them: rows {shown(map(str, wrong))}."
        )
    places = [classes.encode(names).tolist() for names in _known(guesses, classes)]
    found = SparseRows.named(places, len(classes), (1 / np.arange(1, form.guesses + 1)).tolist())
    return cast(Array, found) if kept_columns(len(classes)) else np.asarray(found)


def _read_probability(columns: list[list[str]], targets: list[str], form: SubmissionConfig, classes: Classes) -> Array:
    mapping = form.columns or {name: name for name in classes}
    by_class = {mapping[name]: numbers(column, name) for name, column in zip(targets, columns, strict=True)}
    lacking = [name for name in classes if name not in by_class]
    if lacking:
        raise SubmissionError(
            f"no column holds the classes {shown(lacking)}; correct competition.submission.columns in kk.yaml."
        )
    return np.stack([by_class[name] for name in classes], axis=1)


def _read_positive(columns: list[list[str]], targets: list[str], form: SubmissionConfig, classes: Classes) -> Array:  # noqa: ARG001
    positive = numbers(columns[0], targets[0])
    return np.stack([1.0 - positive, positive], axis=1)


Reader = Callable[[list[list[str]], list[str], SubmissionConfig, Classes], Array]
READERS: dict[str, Reader] = {
    "label": _read_label,
    "index": _read_index,
    "labels": _read_labels,
    "ranked": _read_ranked,
    "probability": _read_probability,
    "positive": _read_positive,
    "long": _read_probability,
}
"""How a grader reads each form: name -> function of target cells to (N, C)."""

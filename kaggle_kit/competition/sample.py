"""Reading the sample submission: which file it is, its id column and its target columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from kaggle_kit.competition.matching import ImageIndex
from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.scan import Tree
from kaggle_kit.competition.tabular import read_frame
from kaggle_kit.config import SubmissionConfig
from kaggle_kit.errors import DataError
from kaggle_kit.tables import require_unique, shown

_BEHIND_IDS = ("_", "-", ":", "/", " ")
PROBE = 300
"""Cells of a column that are looked up to see whether it names images."""


@dataclass(frozen=True)
class Sample:
    """A sample submission.

    Attributes:
        file: relative to the data folder.
        id_column: its column of ids.
        targets: the other columns, in its order; of the long form the classes at the ends of its ids.
        separator, value_column: of the long form, which ``frame`` shows with a column a class; None for all others.
    """

    file: str
    frame: pd.DataFrame
    id_column: str
    targets: tuple[str, ...]
    separator: str | None = None
    value_column: str | None = None

    @property
    def ids(self) -> list[str]:
        return list(self.frame[self.id_column])

    @property
    def most_guesses(self) -> int:
        """The largest number of words in a cell of a single target column."""
        return max((len(value.split()) for value in self.values), default=0)

    @cached_property
    def values(self) -> tuple[str, ...]:
        """The different cells of a single target column that are not empty."""
        cells = dict.fromkeys(self.frame[self.targets[0]]) if len(self.targets) == 1 else {}
        return tuple(cell for cell in cells if cell.strip())

    @property
    def named(self) -> tuple[str, ...]:
        """What may be class names: several target columns, or the cells of one."""
        return self.targets if len(self.targets) > 1 else self.values


def find_sample(asker: Asker, data_dir: Path, tree: Tree, index: ImageIndex) -> Sample | None:
    """The sample submission of a competition; None when there is none.

    Raises:
        DataError: it cannot be read, or has no target column.
    """
    named = [table for table in tree.tables if _is_sample(table)]
    options = {table: f"use {table}" for table in (*named, *(table for table in tree.tables if table not in named))}
    options["none"] = "go on without one"
    text = "which file is the sample submission?"
    if len(named) > 1:
        file = asker.ask("sample", text, options)
    else:
        default = named[0] if named else "none"
        said = (
            f"the sample submission is {default}."
            if named
            else "there is no sample submission; ids and class names are written."
        )
        file = asker.ask("sample", text, options, default=default, settled=said)
    if file == "none":
        return None
    frame = without_index(read_frame(data_dir / file))
    id_column = _id_column(frame, index)
    targets = tuple(column for column in frame.columns if column != id_column)
    if not targets:
        raise DataError(
            f"{data_dir / file} has no column but {id_column!r}; a sample submission has one for the prediction. If it only "
            "lists the test images, run `kk init` with --choose sample=none."
        )
    long = None if naming_share(list(frame[id_column]), index) >= 0.5 else long_form(frame, index)
    if long is not None:
        separator, wide = long
        asker.find(f"{file} has a row for each id and class; the class stands behind the id, after {separator!r}.")
        return Sample(file, wide, id_column, tuple(map(str, wide.columns[1:])), separator, targets[0])
    return Sample(file, frame, id_column, targets)


def without_index(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without a first column that has no name, as pandas writes its index."""
    unnamed = str(frame.columns[0]).strip() == "" or str(frame.columns[0]).startswith("Unnamed: ")
    return frame.iloc[:, 1:] if unnamed and frame.shape[1] > 1 else frame


def long_form(frame: pd.DataFrame, index: ImageIndex) -> tuple[str, pd.DataFrame] | None:
    """The separator of a table with a row for each image and class, and the table with a column a class; else None.

    Its cells are no names of images, but their beginnings are, and each has the same classes behind it.
    """
    if frame.shape[1] != 2:
        return None
    for separator in _BEHIND_IDS:
        parts = [cell.rpartition(separator) for cell in frame.iloc[:, 0].head(PROBE)]
        if all(found for _, found, _ in parts) and naming_share([start for start, _, _ in parts], index) >= 0.5:
            try:
                return separator, widened(frame, separator)
            except DataError:
                continue
    return None


def widened(frame: pd.DataFrame, separator: str) -> pd.DataFrame:
    """A table of ids with a class behind, and of values, as one with a row an id and a column a class.

    Raises:
        DataError: an id lacks a class, or has one twice.
    """
    parts = [cell.rpartition(separator) for cell in frame.iloc[:, 0]]
    keys = pd.MultiIndex.from_tuples([(start, end) for start, _, end in parts])
    ids, ends = (list(dict.fromkeys(keys.get_level_values(level))) for level in (0, 1))
    if keys.has_duplicates or len(keys) != len(ids) * len(ends) or len(ends) < 2:
        raise DataError(
            f"of {len(ids):,} ids with {len(ends):,} classes behind them, {len(frame):,} rows are there, not each once."
        )
    values = pd.Series(list(frame.iloc[:, 1]), index=keys).unstack().reindex(index=ids, columns=ends)
    values.insert(0, str(frame.columns[0]), ids)
    return values.reset_index(drop=True)


def submission_ids(path: Path, form: SubmissionConfig) -> list[str]:
    """The ids that a sample submission asks for; in the long form each once.

    Raises:
        MissingFileError: there is no such file.
        DataError: it lacks the column of ids, or has an id twice.
    """
    frame = without_index(read_frame(path))
    if form.id_column not in frame:
        raise DataError(
            f"{path} lacks the column {form.id_column!r}; it has {shown(map(repr, frame.columns))}. It changed after `kk init` "
            "or kk.yaml is wrong: correct it, or run `kk init --force` again."
        )
    ids = list(frame[form.id_column])
    require_unique(ids, f"{path}, column {form.id_column!r}")
    return list(dict.fromkeys(beginning(cell, form) for cell in ids)) if form.form == "long" else ids


def beginning(cell: str, form: SubmissionConfig) -> str:
    """An id of the long form without the class behind it."""
    for end in sorted(form.columns, key=len, reverse=True):
        if cell.endswith(f"{form.separator}{end}"):
            return cell[: -len(end) - len(form.separator)]
    raise DataError(f"the id {cell!r} ends in none of the classes of competition.submission.columns; correct kk.yaml.")


def naming_share(cells: Sequence[str], index: ImageIndex) -> float:
    """The share of ``cells`` that name an image, of at most :data:`PROBE` different ones spread over all."""
    unique = list(dict.fromkeys(cells))
    step = max(1, len(unique) // PROBE)
    probe = unique[::step]
    return sum(bool(index.find(cell)) for cell in probe) / len(probe) if probe else 0.0


def _is_sample(table: str) -> bool:
    stem = table.rpartition("/")[2].lower()[:-4]
    return "sample" in stem or "submission" in stem or stem == "submit"


def _id_column(frame: pd.DataFrame, index: ImageIndex) -> str:
    """The first column, unless another one names images and the first does not."""
    shares = {str(column): naming_share(list(frame[column]), index) for column in frame.columns}
    first = next(iter(shares))
    if shares[first] >= 0.5:
        return first
    return next((column for column, share in shares.items() if share >= 0.5), first)


def describe(sample: Sample) -> str:
    """The columns of a sample submission, for findings."""
    return f"{sample.file} has the id column {sample.id_column!r} and {len(sample.targets)} more ({shown(sample.targets)})"

"""From cells to labels: one name, several names in a cell, or one 0/1 column per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from kaggle_kit.competition.records import ImageRow
from kaggle_kit.config import TrainDataConfig
from kaggle_kit.errors import ClassMappingError, DataError
from kaggle_kit.tables import Classes, Labels, shown

YES = frozenset({"1", "1.0", "true", "True", "TRUE"})
NO = frozenset({"0", "0.0", "false", "False", "FALSE"})
SEPARATORS = {"pipe": "|", "comma": ",", "semicolon": ";", "space": " "}
MISSING = frozenset({"", "nan", "NaN"})
"""Cells that stand for no value. "NA", "None" and "null" are names that classes have had, and stay names."""


def require_columns(frame: pd.DataFrame, names: Iterable[str], path: Path) -> None:
    """Refuse a table that lacks columns.

    Raises:
        DataError: names those that are missing and those that are there.
    """
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path} lacks the column {shown(map(repr, missing))}; it has {shown(map(repr, frame.columns))}. It changed after "
            "`kk init`, or kk.yaml is wrong: correct it, or run `kk init --force` again."
        )


def split_cell(cell: str, separator: str | None) -> Labels:
    """The names in one cell, each once, in their order there."""
    if separator is None:
        return (cell,)
    parts = cell.split() if separator == " " else [part.strip() for part in cell.split(separator)]
    return tuple(dict.fromkeys(part for part in parts if part))


def is_switch(cells: Iterable[str]) -> bool:
    """Whether all cells are 0 or 1."""
    return set(cells) <= YES | NO


def switched_on(frame: pd.DataFrame, columns: Sequence[str], *, source: str) -> list[Labels]:
    """The names of the 0/1 columns that hold 1, row by row.

    Raises:
        DataError: a cell is neither 0 nor 1.
    """
    for column in columns:
        wrong = frame[column][~frame[column].isin(YES | NO)]
        if len(wrong):
            raise DataError(
                f"{source}: column {column!r} must hold 0 or 1, found {shown(dict.fromkeys(map(repr, wrong)))} in {len(wrong)} "
                "rows; correct the file."
            )
    on = frame[list(columns)].isin(YES).to_numpy()
    return [tuple(name for name, flag in zip(columns, row, strict=True) if flag) for row in on]


def mapped(cell: str, label_map: Mapping[str, str | None]) -> str | None:
    """``cell`` as ``label_map`` wants it read; None leaves the row out."""
    return label_map.get(cell, cell)


def read_labels(frame: pd.DataFrame, config: TrainDataConfig, *, source: str) -> list[Labels | None]:
    """The labels of every row of a CSV; None for a row that ``label_map`` leaves out.

    Raises:
        DataError: a 0/1 column holds something else, or a single label is empty.
    """
    if len(config.label_columns) > 1:
        if config.label_map:
            raise DataError(f"{source}: label_map needs one label column, and kk.yaml names {len(config.label_columns)}.")
        return list(switched_on(frame, config.label_columns, source=source))
    cells = [mapped(cell, config.label_map) for cell in frame[config.label_columns[0]]]
    if config.label_separator is None:
        empty = [
            row for row, cell in zip(frame[config.image_column], cells, strict=True) if cell is not None and not cell.strip()
        ]
        if empty:
            raise DataError(
                f"{source}: {len(empty)} rows have no label: {shown(map(repr, empty))}. Label them, or leave them out with "
                '`label_map: {"": null}` in kk.yaml.'
            )
    return [None if cell is None else split_cell(cell, config.label_separator) for cell in cells]


def require_labels(rows: Sequence[ImageRow], classes: Classes, *, multilabel: bool, source: str) -> None:
    """Refuse rows whose labels the classes lack, and for a single-label task rows with several labels or none.

    Raises:
        ClassMappingError: names the labels, how often they occur, and the nearest classes.
        DataError: names rows with several labels or none.
    """
    unknown = Counter(label for row in rows for label in row.labels if label not in classes)
    if unknown:
        listed = shown(f"{label!r} ({count} rows)" for label, count in unknown.most_common())
        hint = _missing_hint(unknown)
        raise ClassMappingError(
            f"{source}: {len(unknown)} labels are none of the {len(classes)} classes of kk.yaml: {listed}. The classes are "
            f"{shown(map(repr, classes))}.{hint} Correct the data, add them to `classes`, or translate them by `label_map`."
        )
    if multilabel:
        return
    wrong = [f"{row.id!r} ({len(row.labels)})" for row in rows if len(row.labels) != 1]
    if wrong:
        raise DataError(
            f"{source}: {len(wrong)} rows do not have exactly one label: {shown(wrong)}. Correct the data, or set "
            "`task: multilabel` in kk.yaml."
        )


def _missing_hint(labels: Iterable[str]) -> str:
    if not MISSING.intersection(labels):
        return ""
    return ' "nan" is what a missing value was written as: leave such rows out with `label_map: {"nan": null}`.'

"""Labels in a table with a row an image."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from kaggle_kit.competition.layouts import columns
from kaggle_kit.competition.layouts.base import Layout, Material, note_held_out
from kaggle_kit.competition.layouts.columns import CsvTable
from kaggle_kit.competition.layouts.labels import NO, YES, mapped, read_labels, require_columns, split_cell
from kaggle_kit.competition.matching import ImageIndex, inside, leaves_folder
from kaggle_kit.competition.order import is_integer
from kaggle_kit.competition.places import choose_dirs, id_columns, train_places
from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.records import ImageRow, TrainReading
from kaggle_kit.competition.sample import Sample, widened
from kaggle_kit.competition.scan import scan
from kaggle_kit.competition.tabular import CATEGORY, read_frame
from kaggle_kit.config import CompetitionConfig, TrainDataConfig
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.tables import require_unique, shown

logger = logging.getLogger(__name__)


def labelled(tables: Iterable[CsvTable]) -> list[CsvTable]:
    """Return the tables that may hold training labels."""
    return [
        table
        for table in tables
        if table.role not in ("test", "val") and not table.annotated and table.rest(table.image_columns[0])
    ]


def _offers(material: Material) -> str | None:
    found = labelled(material.tables)
    return f"labels from {shown(table.file for table in found)}" if found else None


def _infer(material: Material) -> TrainReading:
    return infer_table(material, labelled(material.tables), layout="csv")


def infer_table(material: Material, candidates: Sequence[CsvTable], *, layout: str) -> TrainReading:
    """Conclude the ``train`` section from the table with the labels."""
    asker, sample, index = material.asker, material.sample, material.index
    table = columns.choose_table(asker, candidates, sample)
    image_column = columns.choose_image_column(asker, table, index, sample)
    label_columns = [CATEGORY] if layout == "coco" else columns.choose_label_columns(asker, table, image_column, sample)
    if layout == "coco":
        asker.find(f"the labels are the categories' ids in {table.file}; classes are called by them.")
    held_out = _held_out(asker, table, material.tables, [image_column, *label_columns])
    frame = pd.concat([table.frame, held_out.frame], ignore_index=True) if held_out else table.frame
    cells = list(frame[image_column])
    dirs, found = choose_dirs(asker, "train_dirs", cells, train_places(material.tree), source=table.file)
    if not any(found) or any(map(leaves_folder, cells)):
        index.require(cells, source=f"{table.file}, column {image_column!r}")
    missing = [cell for cell, paths in zip(cells, found, strict=True) if not paths]
    files = table.file if held_out is None else f"{table.file} and {held_out.file}"
    asker.find(f"{len(cells) - len(missing):,} of {len(cells):,} rows of {files} name images in {shown(dirs)}.")
    if missing:
        asker.find(f"{len(missing):,} rows have no image ({shown(map(repr, missing))}); until that is mended nothing loads.")
    names, fields, multilabel = _infer_labels(asker, frame, label_columns, table.file, sample)
    ids = id_columns(material, table, image_column)
    taken = [image_column, *label_columns]
    fold_column = columns.fold_column(asker, table, taken)
    config = TrainDataConfig.model_validate(
        {
            "layout": layout,
            "dirs": dirs or ["."],
            "csv": table.file,
            "val_csv": held_out.file if held_out else None,
            "image_column": image_column,
            "id_columns": ids,
            "label_columns": label_columns,
            "group_column": columns.choose_group(asker, table, [*taken, fold_column] if fold_column else taken, ids),
            "fold_column": fold_column,
            "class_separator": table.separator,
            **fields,
        }
    )
    images = frozenset(path for paths in found for path in paths)
    return TrainReading(config, tuple(names), images, multilabel, True, len(cells))


def _held_out(asker: Asker, table: CsvTable, tables: Sequence[CsvTable], needed: Sequence[str]) -> CsvTable | None:
    fitting = [other for other in tables if other.role == "val" and set(needed) <= set(other.frame.columns)]
    if len(fitting) != 1 or fitting[0] is table:
        return None
    note_held_out(asker, f"{fitting[0].file} holds {len(fitting[0].frame):,} validation rows", f"the rows of {table.file}")
    return fitting[0]


def _infer_labels(
    asker: Asker, frame: pd.DataFrame, label_columns: Sequence[str], file: str, sample: Sample | None
) -> tuple[list[str], dict[str, object], bool]:
    """Classes by first appearance, entries for the ``train`` section, and whether rows have several labels or none."""
    if len(label_columns) > 1:
        exclusive = columns.is_exclusive(frame, label_columns)
        options = {"multiclass": "one class each", "multilabel": "any number of classes, by chance never but one"}
        if not exclusive:
            asker.find(f"the 0/1 columns of {file} have rows with several labels or none: the task is multilabel.")
            return list(label_columns), {}, True
        why = f"every row of {file} has exactly one 1: one class each."
        task = asker.ask(
            "task", f"rows of {file} have one label each. Is that the rule?", options, default="multiclass", settled=why
        )
        return list(label_columns), {}, task == "multilabel"
    cells = list(frame[label_columns[0]])
    source = f"column {label_columns[0]!r} of {file}"
    separator = columns.choose_separator(asker, cells, source, sample)
    label_map = columns.choose_missing(asker, cells, source, several=separator is not None)
    kept = [cell for cell in (mapped(cell, label_map) for cell in dict.fromkeys(cells)) if cell is not None]
    names = list(dict.fromkeys(label for cell in kept for label in split_cell(cell, separator)))
    fields: dict[str, object] = {"label_separator": separator, "label_map": label_map}
    return names, fields, separator is not None


def read_rows(data_dir: Path, config: CompetitionConfig, own: Sequence[str]) -> list[ImageRow]:
    """Rows of the table, and of that with validation rows.

    Raises:
        ConfigError: kk.yaml does not say which table and columns.
        DataError: rows without image, label or id of their own.
    """
    train = config.train
    if train.csv is None or train.image_column is None or not train.label_columns:
        raise ConfigError(
            f"competition.train with layout: {train.layout} needs csv, image_column and label_columns; add them to kk.yaml."
        )
    index = index_of(data_dir, train.dirs, own)
    rows = _read_one(data_dir, train.csv, train, index, fold=None)
    if train.val_csv is not None:
        rows += _read_one(data_dir, train.val_csv, train, index, fold=0)
    return rows


def index_of(data_dir: Path, dirs: Sequence[str], own: Sequence[str]) -> ImageIndex:
    """The images of ``dirs``."""
    clean = [inside(data_dir, folder, key="dirs") for folder in dirs]
    return ImageIndex(dict.fromkeys(path for folder in clean for path in scan(data_dir, folder, skip=own).images), clean)


def _read_one(data_dir: Path, file: str, train: TrainDataConfig, index: ImageIndex, *, fold: int | None) -> list[ImageRow]:
    path = data_dir / inside(data_dir, file, key="csv")
    frame = read_frame(path)
    if train.class_separator is not None:
        frame = widened(frame, train.class_separator)
    optional = [column for column in (train.group_column, train.fold_column, train.train_only_column) if column]
    require_columns(frame, [str(train.image_column), *train.label_columns, *train.id_columns, *optional], path)
    names = list(frame[train.image_column])
    require_unique(names, f"{path}, column {train.image_column!r}")
    ids = joined(frame, train.id_columns) if train.id_columns else names
    labels = read_labels(frame, train, source=str(path))
    images = index.require(names, source=str(path))
    groups = list(frame[train.group_column]) if train.group_column else [None] * len(ids)
    folds = _folds(frame, train.fold_column, path) if train.fold_column else [fold] * len(ids)
    extra = _flags(frame, train.train_only_column, path) if train.train_only_column else [False] * len(ids)
    rows = [
        ImageRow(row_id, data_dir / image, row_labels, group, train_only, row_fold)
        for row_id, image, row_labels, group, train_only, row_fold in zip(
            ids, images, labels, groups, extra, folds, strict=True
        )
        if row_labels is not None
    ]
    if len(rows) < len(ids):
        logger.info("label_map leaves out %d of %d rows of %s", len(ids) - len(rows), len(ids), path)
    if not rows:
        raise DataError(f"label_map in kk.yaml leaves out all {len(ids)} rows of {path}.")
    return together(rows, source=str(path)) if train.id_columns else rows


def joined(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The cells of some columns, joined by ``_``: the id of each row."""
    return ["_".join(cells) for cells in zip(*(frame[name] for name in names), strict=True)]


def together(rows: Sequence[ImageRow], *, source: str) -> list[ImageRow]:
    """One row an id, with all its images.

    Raises:
        DataError: images of one id have different labels.
    """
    found: dict[str, ImageRow] = {}
    for row in rows:
        known = found.get(row.id)
        if known is not None and known.labels != row.labels:
            raise DataError(f"{source}: the images of {row.id!r} have different labels, {known.labels} and {row.labels}.")
        found[row.id] = row if known is None else replace(known, further=(*known.further, row.file))
    return list(found.values())


def _folds(frame: pd.DataFrame, column: str, path: Path) -> list[int | None]:
    """Fold numbers; empty or negative is None: a row that no fold validates on."""
    cells = [cell.strip().removesuffix(".0") for cell in frame[column]]
    wrong = [cell for cell in cells if cell and not is_integer(cell)]
    if wrong:
        raise DataError(f"{path}: column {column!r} must hold fold numbers, found {shown(map(repr, wrong))}; correct the file.")
    return [int(cell) if cell and int(cell) >= 0 else None for cell in cells]


def _flags(frame: pd.DataFrame, column: str, path: Path) -> list[bool]:
    wrong = [cell for cell in frame[column] if cell not in YES | NO]
    if wrong:
        raise DataError(f"{path}: column {column!r} must hold 0 or 1, found {shown(map(repr, wrong))}; correct the file.")
    return [cell in YES for cell in frame[column]]


CSV = Layout(_offers, _infer, read_rows)

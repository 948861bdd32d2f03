"""Loading a competition: every row with its file and labels, or an error that says which rows are wrong."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from kaggle_kit import files
from kaggle_kit.competition.folders import read_folders
from kaggle_kit.competition.labels import NO, YES, read_csv, read_labels, require_columns, require_labels
from kaggle_kit.competition.matching import ImageIndex, inside
from kaggle_kit.competition.order import is_integer
from kaggle_kit.competition.records import Competition, ImageRow
from kaggle_kit.competition.scan import is_below, own_folders, scan
from kaggle_kit.config import CompetitionConfig, TestDataConfig, TrainDataConfig
from kaggle_kit.errors import ConfigError, DataError, MissingFileError
from kaggle_kit.tables import Classes, require_unique, shown
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)


def load_competition(workspace: Workspace, config: CompetitionConfig) -> Competition:
    """Read what ``config`` describes. No image is opened: 140,000 take seconds.

    Raises:
        MissingFileError: the data folder, a folder or a table is not there.
        DataError: rows without image, label or id of their own; a sample submission and test images that differ.
        ClassMappingError: labels that the classes lack.
        ConfigError: ``config`` contradicts itself.
    """
    data_dir = workspace.root / config.data_dir
    if not data_dir.is_dir():
        raise MissingFileError(
            f"the data folder {data_dir} is not there (data_dir: {config.data_dir} in {workspace.config_path}). Correct it."
        )
    data_dir = data_dir.resolve()  # once, not per file; paths stay good when the process changes its folder
    classes = Classes(tuple(config.classes))
    own = own_folders(data_dir, workspace.root)
    train = _read_train(data_dir, config, classes, own)
    sample_path = data_dir / inside(data_dir, config.submission.sample, key="sample") if config.submission.sample else None
    test = _read_test(data_dir, config, sample_path, {row.path for row in train}, own)
    return Competition(
        name=config.name,
        task=config.task,
        metric=config.metric,
        classes=classes,
        train=tuple(train),
        test=tuple(test),
        submission=config.submission,
        sample_path=sample_path,
        fingerprint=files.fingerprint(
            {
                "name": config.name,
                "task": config.task,
                "classes": list(classes),
                "train": [[row.id, *row.labels] for row in train],
            }
        ),
    )


def _read_train(data_dir: Path, config: CompetitionConfig, classes: Classes, own: Sequence[str]) -> list[ImageRow]:
    train = config.train
    outside = [folder for folder in train.val_dirs if folder not in train.dirs]
    if outside:
        raise ConfigError(f"competition.train.val_dirs must be among dirs ({shown(train.dirs)}), got {shown(outside)}.")
    if train.layout == "csv":
        rows, source = _read_csv_rows(data_dir, train, own), train.csv or ""
    else:
        rows, source = read_folders(data_dir, config, train.dirs, train_only=False, skip=own), shown(train.dirs)
    if train.train_only_dirs:
        rows += read_folders(data_dir, config, train.train_only_dirs, train_only=True, skip=own)
    require_unique([row.id for row in rows], f"training images of {data_dir / source}")
    require_labels(rows, classes, multilabel=config.task == "multilabel", source=str(data_dir / source))
    present = {label for row in rows for label in row.labels}
    empty = [name for name in classes if name not in present]
    if empty:
        logger.warning("%d classes have no training image: %s", len(empty), shown(map(repr, empty)))
    return sorted(rows, key=lambda row: row.id)


def _read_csv_rows(data_dir: Path, train: TrainDataConfig, own: Sequence[str]) -> list[ImageRow]:
    if train.csv is None or train.image_column is None or not train.label_columns:
        raise ConfigError("competition.train with layout: csv needs csv, image_column and label_columns; add them to kk.yaml.")
    index = _index(data_dir, train.dirs, own)
    rows = _read_one_csv(data_dir, train.csv, train, index, fold=None)
    if train.val_csv is not None:
        rows += _read_one_csv(data_dir, train.val_csv, train, index, fold=0)
    return rows


def _read_one_csv(data_dir: Path, file: str, train: TrainDataConfig, index: ImageIndex, *, fold: int | None) -> list[ImageRow]:
    path = data_dir / inside(data_dir, file, key="csv")
    frame = read_csv(path)
    optional = [column for column in (train.group_column, train.fold_column, train.train_only_column) if column]
    require_columns(frame, [str(train.image_column), *train.label_columns, *optional], path)
    ids = list(frame[train.image_column])
    require_unique(ids, f"{path}, column {train.image_column!r}")
    labels = read_labels(frame, train, source=str(path))
    images = index.require(ids, source=str(path))
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
    return rows


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


def _index(data_dir: Path, dirs: Sequence[str], own: Sequence[str], *, without: Collection[Path] = ()) -> ImageIndex:
    """The images of ``dirs``; for test images without those that are trained on, which may have the same names."""
    clean = [inside(data_dir, folder, key="dirs") for folder in dirs]
    images = dict.fromkeys(path for folder in clean for path in scan(data_dir, folder, skip=own).images)
    return ImageIndex([path for path in images if data_dir / path not in without] if without else images, clean)


def _read_test(
    data_dir: Path, config: CompetitionConfig, sample_path: Path | None, train_paths: set[Path], own: Sequence[str]
) -> list[ImageRow]:
    """Test rows with the ids of the sample submission, else of the test table, else of the files."""
    test = config.test
    if test is None:
        return []
    index = _index(data_dir, test.dirs, own, without=train_paths)
    listed = _read_ids(data_dir / inside(data_dir, test.csv, key="test.csv"), test.image_column) if test.csv else None
    wanted = _read_ids(sample_path, config.submission.id_column) if sample_path else None
    ids = wanted if wanted is not None else listed
    if ids is None:
        return _test_files(data_dir, index)
    source = str(sample_path if wanted is not None else data_dir / str(test.csv))
    images = _find_test(index, ids, source)
    if listed is not None and wanted is not None:
        _compare(index, images, listed, test, str(sample_path))
    named = set(images)
    rest = [path for path in index.images if path not in named]
    if rest and listed is None:
        logger.warning(
            "%s names %d of the %d images in %s; the others (%s) are not predicted. Is the sample submission stale?",
            source,
            len(named),
            len(named) + len(rest),
            shown(test.dirs),
            shown(rest),
        )
    return [ImageRow(row_id, data_dir / image) for row_id, image in zip(ids, images, strict=True)]


def _read_ids(path: Path, column: str | None) -> list[str]:
    frame = read_csv(path)
    if column is None:
        raise ConfigError(f"competition.test names {path.name} but no image_column; add it to kk.yaml.")
    require_columns(frame, [column], path)
    ids = list(frame[column])
    require_unique(ids, f"{path}, column {column!r}")
    return ids


def _find_test(index: ImageIndex, ids: Sequence[str], source: str) -> list[str]:
    try:
        return index.require(ids, source=source)
    except DataError as error:
        raise DataError(
            f"{error} The table may be of another version of the data than the test images; images that are trained on do not "
            "count."
        ) from error


def _compare(index: ImageIndex, images: Sequence[str], listed: Sequence[str], test: TestDataConfig, sample: str) -> None:
    """Refuse a sample submission and a test table that name different images.

    Raises:
        DataError: names what only one of the two has.
    """
    in_sample, in_table = Counter(images), Counter(_find_test(index, listed, str(test.csv)))
    only_sample, only_table = sorted(in_sample - in_table), sorted(in_table - in_sample)
    if only_sample or only_table:
        parts = [
            f"only in {place}: {len(paths)} ({shown(paths)})"
            for place, paths in ((sample, only_sample), (test.csv, only_table))
            if paths
        ]
        raise DataError(
            f"the sample submission and {test.csv} name different test images; {'; '.join(parts)}. One of the two is stale: "
            "replace it, or remove `csv` from competition.test in kk.yaml to go by the sample submission."
        )


def _test_files(data_dir: Path, index: ImageIndex) -> list[ImageRow]:
    """All images of the test folders that are not trained on, in the order of their ids: their paths in those folders."""
    rows = []
    for path in index.images:
        folder = next(folder for folder in index.dirs if is_below(path, folder))
        row_id = path if folder == "." or len(index.dirs) > 1 else path[len(folder) + 1 :]
        rows.append(ImageRow(row_id, data_dir / path))
    if not rows:
        raise DataError(
            f"no test images in {shown(str(data_dir / folder) for folder in index.dirs)}; remove `test` from kk.yaml."
        )
    require_unique([row.id for row in rows], "test images")
    return sorted(rows, key=lambda row: row.id)

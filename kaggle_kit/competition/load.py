"""Loading a competition: every row with its file and labels, or an error that says which rows are wrong."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.choices import LAYOUTS
from kaggle_kit.competition.containers import unpack
from kaggle_kit.competition.layouts import Layout
from kaggle_kit.competition.layouts.csv import index_of
from kaggle_kit.competition.layouts.folders import read_folders
from kaggle_kit.competition.layouts.labels import require_columns, require_labels
from kaggle_kit.competition.matching import ImageIndex, inside
from kaggle_kit.competition.records import Competition, ImageRow
from kaggle_kit.competition.sample import submission_ids
from kaggle_kit.competition.scan import is_below, own_folders
from kaggle_kit.competition.tabular import read_frame
from kaggle_kit.config import CompetitionConfig, TestDataConfig
from kaggle_kit.errors import ConfigError, DataError, MissingFileError
from kaggle_kit.tables import Classes, require_unique, shown
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)


def load_competition(workspace: Workspace, config: CompetitionConfig) -> Competition:
    """Read what ``config`` describes. No image is opened: 140,000 take seconds. Containers that have changed are unpacked anew.

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
    data_dir = unpack(workspace.root.resolve(), data_dir, config.containers)
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
        channels=config.channels,
        open_class=config.open_class,
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
    layout: Layout = LAYOUTS[train.layout]
    rows, source = layout.read(data_dir, config, own), train.csv or shown(train.dirs)
    if train.train_only_dirs:
        rows += read_folders(data_dir, config, train.train_only_dirs, train_only=True, skip=own)
    if train.group_pattern is not None:
        rows = [row if row.group else replace(row, group=_part_of(row.id, train.group_pattern)) for row in rows]
    require_unique([row.id for row in rows], f"training images of {data_dir / source}")
    require_labels(rows, classes, multilabel=config.task == "multilabel", source=str(data_dir / source))
    present = {label for row in rows for label in row.labels}
    empty = [name for name in classes if name not in present]
    if empty:
        logger.warning("%d classes have no training image: %s", len(empty), shown(map(repr, empty)))
    return sorted(rows, key=lambda row: row.id)


def _part_of(row_id: str, pattern: str) -> str | None:
    """What the first part in brackets finds in an id."""
    found = re.search(pattern, row_id)
    return found.group(1) if found else None


def _read_test(
    data_dir: Path, config: CompetitionConfig, sample_path: Path | None, train_paths: set[Path], own: Sequence[str]
) -> list[ImageRow]:
    """Test rows with the ids of the sample submission, else of the test table, else of the files."""
    test = config.test
    if test is None:
        return []
    whole = index_of(data_dir, test.dirs, own)
    # Without those that are trained on, which may have the same names.
    index = ImageIndex([path for path in whole.images if data_dir / path not in train_paths], whole.dirs)
    table = _read_listing(data_dir / inside(data_dir, test.csv, key="test.csv"), test) if test.csv else None
    wanted = submission_ids(sample_path, config.submission) if sample_path else None
    source = str(sample_path if wanted is not None else data_dir / str(test.csv))
    if table is not None and test.id_column:
        return _listed(data_dir, index, table, wanted, source)
    listed = None if table is None else list(table)
    ids = wanted if wanted is not None else listed
    if ids is None:
        return _test_files(data_dir, index)
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


def _listed(
    data_dir: Path, index: ImageIndex, table: Mapping[str, Sequence[str]], wanted: Sequence[str] | None, source: str
) -> list[ImageRow]:
    """Test rows where a table says which images an id has.

    Raises:
        DataError: the sample submission has ids that the table lacks, or the table others.
    """
    ids = list(table) if wanted is None else list(wanted)
    require_unique(ids, source)
    missing = [row_id for row_id in ids if row_id not in table]
    asked = set(ids)
    extra = [row_id for row_id in table if row_id not in asked]
    if missing or extra:
        parts = [
            f"{len(some)} only in {where}: {shown(some)}" for where, some in ((source, missing), ("the table", extra)) if some
        ]
        raise DataError(
            f"the sample submission and the table of test images have different ids; {'; '.join(parts)}. Replace one."
        )
    cells = [cell for row_id in ids for cell in table[row_id]]
    found = dict(zip(cells, _find_test(index, cells, source), strict=True))
    paths = [[data_dir / found[cell] for cell in table[row_id]] for row_id in ids]
    return [ImageRow(row_id, some[0], further=tuple(some[1:])) for row_id, some in zip(ids, paths, strict=True)]


def _read_listing(path: Path, test: TestDataConfig) -> dict[str, list[str]]:
    """Id -> the names of its images, in the order of a test table; without a column of ids a name is its own id."""
    frame = read_frame(path)
    if test.image_column is None:
        raise ConfigError(f"competition.test names {path.name} but no image_column; add it to kk.yaml.")
    require_columns(frame, [test.image_column, *([test.id_column] if test.id_column else [])], path)
    names = list(frame[test.image_column])
    require_unique(names, f"{path}, column {test.image_column!r}")
    found: dict[str, list[str]] = {}
    for row_id, name in zip(frame[test.id_column or test.image_column], names, strict=True):
        found.setdefault(row_id, []).append(name)
    return found


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

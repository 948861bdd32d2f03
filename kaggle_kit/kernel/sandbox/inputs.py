"""What a session finds below ``/kaggle/input``: the built dataset, and a visible or a hidden test set."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kaggle_kit import files
from kaggle_kit.competition import Competition
from kaggle_kit.competition.containers import needed
from kaggle_kit.competition.matching import ImageIndex
from kaggle_kit.config import CompetitionConfig
from kaggle_kit.errors import DataError
from kaggle_kit.kernel.testset import paths_of

_DROPPED, _ADDED = 0.25, 0.15
"""Shares of the visible test images that a hidden test set lacks, and has twice under other names."""


@dataclass(frozen=True)
class TestImage:
    """One image of a test set: its id, its path below the data folder, and the visible id that it is a copy of.

    ``origin`` is None for an image that cannot be read.
    """

    __test__ = False

    id: str
    path: str
    source: Path
    origin: str | None


def visible_images(competition: Competition, data_dir: Path, limit: int | None) -> list[TestImage]:
    """The test set as it is here, or the first ``limit`` images of it."""
    return [TestImage(row.id, row.path.relative_to(data_dir).as_posix(), row.path, row.id) for row in competition.test[:limit]]


def hidden_images(visible: Sequence[TestImage], *, seed: int = 0) -> list[TestImage]:
    """Another test set made of the visible one: other names, fewer and other rows, in another order, one unreadable.

    Raises:
        DataError: an id does not hold its file's name, so that no id can be made for another file.
    """
    rng = np.random.default_rng(seed)
    kept = [visible[row] for row in rng.permutation(len(visible))[: max(1, round((1 - _DROPPED) * len(visible)))]]
    twice = kept[: max(1, round(_ADDED * len(visible)))]
    hidden = [_renamed(image, f"{seed}:{number}") for number, image in enumerate([*kept, *twice])]
    broken = _renamed(kept[0], f"{seed}:unreadable")
    hidden.append(TestImage(broken.id, broken.path, broken.source, None))
    return [hidden[row] for row in rng.permutation(len(hidden))]


def write_dataset(source: Path, target: Path) -> None:
    """Copy the built dataset, as Kaggle unpacks it: without its metadata."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("dataset-metadata.json", ".kk-*"))


def write_test_data(target: Path, images: Sequence[TestImage], config: CompetitionConfig, data_dir: Path) -> None:
    """Write images, sample submission and test table of a test set; a copy, so that nothing can happen to the original."""
    for image in images:
        path = target / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = image.source.read_bytes()
        # Cut within the header: no decoder makes anything of it.
        path.write_bytes(content if image.origin is not None else content[:10])
    visible = ImageIndex([image.path for image in visible_paths(images, data_dir)], config.test.dirs if config.test else ["."])
    if config.submission.sample:
        sample = files.read_table(data_dir / config.submission.sample)
        rows = _of_images(sample, config.submission.id_column, images, data_dir, visible, ids=True)
        files.write_table(target / config.submission.sample, rows)
    if config.test is not None and config.test.csv:
        table = files.read_table(data_dir / config.test.csv)
        files.write_table(
            target / config.test.csv, _of_images(table, config.test.image_column or "", images, data_dir, visible)
        )


def is_packed(competition: Competition, config: CompetitionConfig) -> bool:
    """Return whether the test set can only be given as it lies here: in containers, or with several images an id."""
    return bool(needed(config)) or any(row.further for row in competition.test)


def copy_test_data(target: Path, config: CompetitionConfig, source: Path) -> None:
    """Copy the test set as it lies, with its tables.

    Args:
        source: the data as they came, containers closed.
    """
    for path in paths_of(config):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (source / path).is_dir() else shutil.copy
        copy(source / path, target / path)


def write_hidden_rows(
    target: Path, visible: Sequence[TestImage], config: CompetitionConfig, source: Path, *, seed: int = 0
) -> list[TestImage] | None:
    """Write another test set of a table of pixels: fewer rows in another order, whose numbers are the ids.

    Returns:
        its images, each with the id of which it is a copy; None where the test set is no such table alone, and none was made.
    """
    containers, test, form = needed(config), config.test, config.submission
    if len(containers) != 1 or containers[0].kind != "pixel-table" or test is None or not form.sample or form.form == "long":
        return None
    one, first = containers[0], int(containers[0].options.get("first", 1))
    frame = files.read_table(source / one.path)
    if [image.id for image in visible] != [str(first + row) for row in range(len(frame))]:
        return None
    rows = np.random.default_rng(seed).permutation(len(frame))[: max(1, round((1 - _DROPPED) * len(frame)))]
    hidden = [TestImage(str(first + at), "", Path(), visible[row].id) for at, row in enumerate(rows)]
    (target / one.path).parent.mkdir(parents=True, exist_ok=True)
    files.write_table(target / one.path, frame.iloc[rows])
    sample = files.read_table(source / form.sample).iloc[: len(rows)].copy()
    sample[form.id_column] = [image.id for image in hidden]
    files.write_table(target / form.sample, sample)
    return hidden


def write_hidden_ids(
    target: Path, competition: Competition, config: CompetitionConfig, data_dir: Path, *, seed: int = 0
) -> list[TestImage] | None:
    """Write another test set of several images an id: fewer ids in another order, each with all of its images.

    Returns:
        an entry an id; None where images lie in containers or the tables name ids otherwise, and none was made.
    """
    test, form = config.test, config.submission
    if needed(config) or test is None or not form.sample or form.form == "long":
        return None
    sample = files.read_table(data_dir / form.sample)
    place = {row_id: at for at, row_id in enumerate(sample[form.id_column])}
    n_kept = max(1, round((1 - _DROPPED) * len(competition.test)))
    kept = [competition.test[at] for at in np.random.default_rng(seed).permutation(len(competition.test))[:n_kept]]
    if not {row.id for row in kept} <= place.keys():
        return None
    paths = [path.relative_to(data_dir) for row in kept for path in row.paths]
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data_dir / path, target / path)
    files.write_table(target / form.sample, sample.iloc[[place[row.id] for row in kept]])
    if test.csv and test.image_column:
        index, table = ImageIndex([path.as_posix() for path in paths], test.dirs), files.read_table(data_dir / test.csv)
        files.write_table(target / test.csv, table[[bool(index.find(cell)) for cell in table[test.image_column]]])
    return [TestImage(row.id, "", row.path, row.id) for row in kept]


def visible_paths(images: Sequence[TestImage], data_dir: Path) -> list[TestImage]:
    """The images under the paths that they have at home."""
    sources = {image.source: image for image in images}
    return [TestImage(one.id, source.relative_to(data_dir).as_posix(), source, one.origin) for source, one in sources.items()]


def write_all_data(target: Path, data_dir: Path) -> None:
    """Copy everything, for a training kernel."""
    shutil.copytree(data_dir, target)


def fingerprints(folder: Path) -> Mapping[str, tuple[int, int]]:
    """Size and time of each file, to see whether one was changed."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _renamed(image: TestImage, salt: str) -> TestImage:
    """A copy with another name, its id spelled as before."""
    path = Path(image.path)
    stem = "h" + hashlib.sha256(f"{salt}:{image.path}".encode()).hexdigest()[:10]
    before, found, after = image.id.rpartition(path.stem)
    if not found:
        raise DataError(
            f"the test id {image.id!r} does not hold the name of its file {image.path}; no hidden test set can be made."
        )
    return TestImage(f"{before}{stem}{after}", path.with_name(stem + path.suffix).as_posix(), image.source, image.origin)


def _of_images(
    table: pd.DataFrame, column: str, images: Sequence[TestImage], data_dir: Path, visible: ImageIndex, *, ids: bool = False
) -> pd.DataFrame:
    """Rows of a table for other images: each a copy of its original's row, with the name exchanged in ``column``."""
    rows_of = {paths[0]: row for row, cell in enumerate(table[column]) if (paths := visible.find(cell))}
    rows, cells = [], []
    for image in images:
        original = image.source.relative_to(data_dir).as_posix()
        row = rows_of.get(original, 0)
        before, found, after = str(table[column].iloc[row]).rpartition(Path(original).stem)
        rows.append(row)
        cells.append(image.id if ids or not found else f"{before}{Path(image.path).stem}{after}")
    made = table.iloc[rows].reset_index(drop=True)
    made[column] = cells
    return made

"""``kk look``: one page about a competition's data, before anything is trained."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_kit import files
from kaggle_kit.competition import Competition, Inference, Setup, infer_competition
from kaggle_kit.config import Config
from kaggle_kit.errors import ImageError, KaggleKitError
from kaggle_kit.folds.duplicates import Duplicates, Key
from kaggle_kit.images.decode import Progress, check_images, decode_image, read_images
from kaggle_kit.report.data_page import Look, Wishes, class_samples, extras_of, shown_groups, values_of
from kaggle_kit.report.gallery import Album
from kaggle_kit.report.pages import BESIDE_PAGE, IN_PAGE, PageResult, write_page
from kaggle_kit.report.shift import Features, fits, measure_shift, pixel_statistics
from kaggle_kit.report.survey import class_table, find_splits, read_headers, sample_rows
from kaggle_kit.report.thumbnails import make_album, make_thumbnails
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

PAGE = "data.html"
_EXTREMES = 16
_COMPARED, _EMBEDDED = 1500, 250


@dataclass(frozen=True, repr=False)
class DataLook(PageResult):
    """A page about the data, and what stands out in it.

    Attributes:
        n_bytes: of the page, and of the folder beside it where its thumbnails lie in one.
        remarks: what wants a look.
        shift_auc: how well test images are told from training images, 0.5 to 1; None where it was not measured.
    """

    path: Path
    n_bytes: int
    seconds: float
    n_train: int
    n_test: int
    n_classes: int
    duplicate_groups: int
    across_labels: int
    in_test: int
    unreadable: int
    shift_auc: float | None
    remarks: tuple[str, ...] = field(default=())

    def describe(self) -> str:
        """Return where the page is, and what stands out."""
        size = f"{self.n_bytes / 1e6:.1f} MB, {self.seconds:.0f} s"
        return "\n".join([*(f"- {remark}" for remark in self.remarks), f"wrote {self.path} ({size})"])


def look_at_data(setup: Setup, wishes: Wishes | None = None, *, progress: Progress | None = None) -> DataLook:
    """Write ``report/data.html``: classes, files, samples, duplicates, labels, folds, training against test images.

    Of very many images a sample is read; the page says so.

    Raises:
        ConfigError, ImageError, WeightsError: what ``wishes`` ask for is not possible.
        StorageError: the page cannot be written.
    """
    begin, wishes = time.monotonic(), wishes or Wishes()
    workspace, config, competition = setup.workspace, setup.config, setup.competition
    extras = extras_of(config, competition, wishes, workspace.root)  # first, since it may be refused
    look = Look(
        workspace,
        config,
        competition,
        wishes,
        read_headers(competition),
        splits=find_splits(workspace, config, competition, progress=progress),
        inference=_inferred(workspace, config, competition),
    )
    _compare_parts(look)
    path = workspace.root / "report" / PAGE
    with files.lock_beside(path):  # the images beside a page are those of one call
        album = _album(look, path)
        look.remarks = list(_remarks(look))
        page = {**values_of(look, album), **extras}
        write_page(path, "data.html", allowed=BESIDE_PAGE if album.beside else IN_PAGE, **page)
    size = path.stat().st_size + (album.size if album.beside else 0)
    return _result(look, path, size, time.monotonic() - begin)


def _inferred(workspace: Workspace, config: Config, competition: Competition) -> Inference | None:
    """Return what `kk init` would conclude today; None where it cannot."""
    settings = config.competition
    try:
        return infer_competition(
            workspace.root / settings.data_dir, workspace_root=workspace.root, name=competition.name, metric=settings.metric
        )
    except KaggleKitError as error:  # such as a question without a default, which kk.yaml has answered by hand
        logger.debug("%s", error)
        return None


def _compare_parts(look: Look) -> None:
    """Measure how training and test images differ, by what is in them and by their files."""
    competition = look.competition
    if not fits(competition.train, competition.test):
        return
    name, most = None, _COMPARED
    if look.wishes.network:
        from kaggle_kit.report.network import small_backbone

        name = small_backbone()
        most = _EMBEDDED if name else _COMPARED
    keys: list[Key] = [("train", row.id) for row in sample_rows(competition.train, most, "compared")]
    keys += [("test", row.id) for row in sample_rows(competition.test, most, "compared")]
    paths = look.paths
    rows = [(key, paths[key]) for key in keys if key not in look.unreadable]
    readable, features = _features(name, rows)
    is_test = np.array([part == "test" for part, _ in readable], dtype=bool)
    if fits(readable[: (~is_test).sum()], readable[(~is_test).sum() :]):
        by = f"features of {name}, a network" if name else "pixel statistics: colour, contrast, sharpness"
        look.shift = measure_shift(features[~is_test], features[is_test], by)
        scores = np.empty(len(readable))
        scores[~is_test], scores[is_test] = look.shift.train_scores, look.shift.test_scores
        ordered = [(readable[row], float(scores[row])) for row in np.argsort(scores).tolist()]
        train_like = [one for one in ordered if one[0][0] == "train"][:_EXTREMES]
        look.extremes = train_like, [one for one in ordered[::-1] if one[0][0] == "test"][:_EXTREMES]
    frame = look.headers.frame
    sizes = np.log(frame[["height", "width", "n_bytes"]].to_numpy(dtype=np.float32))
    parts = [sizes[(frame["part"] == part).to_numpy()] for part in ("train", "test")]
    if fits(*parts):
        look.size_shift = measure_shift(parts[0], parts[1], "height, width and bytes of the files")


def _features(name: str | None, rows: Sequence[tuple[Key, Path]]) -> tuple[list[Key], np.ndarray[Any, np.dtype[np.float32]]]:
    """Return features of the images that can be read, by the network ``name`` or of their pixels, and their keys."""
    if name is None:
        found, _ = read_images(_statistics, rows)
        return list(found), np.array(list(found.values()), dtype=np.float32)
    from kaggle_kit.report.network import embed

    try:
        return [key for key, _ in rows], embed(name, [(row_id, path) for (_, row_id), path in rows])
    except ImageError:  # rare, so that images are not decoded twice to rule it out
        unreadable = check_images(rows)
        if not unreadable:
            raise
        return _features(name, [(key, path) for key, path in rows if key not in unreadable])


def _statistics(path: Path) -> Features:
    return pixel_statistics(decode_image(path, min_size=(64, 64)))


def _remarks(look: Look) -> Iterable[str]:
    """Yield what wants a look, in sentences."""
    table = class_table(look.competition)["images"]
    if len(table) > 1:
        empty, rare = int((table == 0).sum()), int(((table > 0) & (table < look.config.folds.n_folds)).sum())
        if empty:
            yield f"{empty} of {len(table)} classes have no training image."
        if rare:
            yield f"{rare} of {len(table)} classes have fewer images than there are folds."
    if look.unreadable:
        yield f"{len(look.unreadable):,} images cannot be read; they are listed under Files."
    yield from look.headers.remarks()
    if look.splits.duplicates is not None:
        yield from _about_duplicates(look.splits.duplicates, look.competition)
    if look.shift is not None and look.shift.auc >= 0.7:
        yield f"{look.shift.text} (AUC {look.shift.auc:.2f}, by {look.shift.by})."
    if look.size_shift is not None and look.size_shift.auc >= 0.7:
        where = f"AUC {look.size_shift.auc:.2f}, by {look.size_shift.by}"
        yield f"The files of test images differ from those of training images ({where})."
    if look.splits.problem:
        yield f"Folds cannot be made: {look.splits.problem}"
    if look.inference is not None and look.inference.questions:
        yield f"{len(look.inference.questions)} questions were settled by a default; they stand on the page."


def _about_duplicates(found: Duplicates, competition: Competition) -> Iterable[str]:
    across = found.different_labels({row.id: row.labels for row in competition.train})
    if across:
        yield f"Groups of duplicates with different labels: {len(across)}."
    if found.in_test():
        yield f"{sum(len(train) for train, _ in found.in_test())} training images also stand in the test set."


def _album(look: Look, page: Path) -> Album[Key]:
    """Return the thumbnails of all that the page shows."""
    wanted = [key for group in shown_groups(look) for key in group]
    wanted += [key for keys in class_samples(look.competition).values() for key in keys]
    wanted += [key for side in look.extremes for key, _ in side]
    paths = look.paths
    made, unreadable = make_thumbnails([(key, paths[key]) for key in dict.fromkeys(wanted)])
    return make_album(page, made, unreadable)


def _result(look: Look, path: Path, size: int, seconds: float) -> DataLook:
    found, competition = look.splits.duplicates, look.competition
    labels = {row.id: row.labels for row in competition.train}
    return DataLook(
        path=path,
        n_bytes=size,
        seconds=round(seconds, 1),
        n_train=len(competition.train),
        n_test=len(competition.test),
        n_classes=len(competition.classes),
        duplicate_groups=len(found.groups) if found else 0,
        across_labels=len(found.different_labels(labels)) if found else 0,
        in_test=sum(len(train) for train, _ in found.in_test()) if found else 0,
        unreadable=len(look.unreadable),
        shift_auc=None if look.shift is None else round(look.shift.auc, 4),
        remarks=tuple(look.remarks),
    )

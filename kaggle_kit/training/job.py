"""What one fold of a run is trained from: rows with their images and truth, settings, and where its files go."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import files
from kaggle_kit.competition import Competition, Setup
from kaggle_kit.competition.contents import Contents, keep_contents
from kaggle_kit.config import ChannelsConfig, EarlyStoppingConfig, RunConfig
from kaggle_kit.errors import FoldError
from kaggle_kit.fold_names import FULL
from kaggle_kit.images.dataset import PixelSource
from kaggle_kit.inference.control import CONTROL_ROWS, sample_control
from kaggle_kit.inference.several import Merger, Owners, owners_of
from kaggle_kit.metrics import Metric, get_metric
from kaggle_kit.models import Weights
from kaggle_kit.models.own import code_fingerprint
from kaggle_kit.reviews import Review, taught_by
from kaggle_kit.runs import RUN_RECORD, read_run
from kaggle_kit.runs.provenance import seen_by, to_entries
from kaggle_kit.specialists import Groups, groups_of
from kaggle_kit.tables import Classes, FoldTable, Labels, shown
from kaggle_kit.teachers import Lesson, lesson_for, teach
from kaggle_kit.training.rounding import with_precision
from kaggle_kit.workspace import Workspace

Images = list[tuple[str, Path]]
"""Id and file of images."""
Paths = tuple[Path, ...]


@dataclass(frozen=True)
class Rows:
    """Labelled rows, each with an image or several.

    Attributes:
        images: id and file of each image; those of a row stand side by side, the rows in the order of ``truth``.
        truth: (N,) class positions, or (N, C) 0/1 for multi-label.
        groups: (N,) rows of one group must not be parted.
        validated: (N,) whether the row is validated on in any fold.
        soft: (N, C) float32 targets to train on; None where they are the labels.
    """

    images: Images
    truth: npt.NDArray[Any]
    groups: npt.NDArray[np.int64]
    validated: npt.NDArray[np.bool_]
    soft: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def targets(self) -> npt.NDArray[Any]:
        """What the loss is taken of: ``soft`` where there is such, else ``truth``."""
        return self.truth if self.soft is None else self.soft

    @property
    def ids(self) -> list[str]:
        """Id of each image."""
        return [row_id for row_id, _ in self.images]

    @property
    def paths(self) -> list[Path]:
        """File of each image."""
        return [path for _, path in self.images]

    @cached_property
    def owners(self) -> Owners:
        """Which row each image belongs to."""
        return owners_of(self.images)

    def take(self, rows: npt.NDArray[np.int64]) -> Rows:
        """Return some of the rows, by position in ascending order, with their images."""
        each = len(self.images) == len(self)  # an id may stand in several rows then
        images = rows if each else np.flatnonzero(np.isin(self.owners.of, rows))
        soft = None if self.soft is None else self.soft[rows]
        some = [self.images[image] for image in images.tolist()]
        return Rows(some, self.truth[rows], self.groups[rows], self.validated[rows], soft)

    def each_image(self) -> Rows:
        """Return the same with a row an image, as training sees them."""
        of = self.owners.of
        return Rows(self.images, self.truth[of], self.groups[of], self.validated[of])


@dataclass(frozen=True)
class FoldJob:
    """One fold of a run, as :func:`make_jobs` puts it together.

    Attributes:
        folder: where the fold's files go.
        root: the workspace, where own metrics and models lie.
        cache_dir: where features are kept.
        weights: what the fold begins from.
        origin: what every file of the fold says about where it comes from.
        inputs: fingerprint of all that the result depends on; a finished fold with the same one is current.
        all_images: all of the fold table that can be read; a probe computes their features once for all folds.
        test_images: what ``kk predict`` will ask for, control rows among them; none without a test set.
        left_out: ids of images that cannot be read and are neither trained nor validated on.
        source: where pixels come from instead of the files.
        contents: what the images of the fold table hold; None where nobody asked.
        last_epoch: the one that the model of all data ends with, which has no validation rows to choose it by.
        channels: of images that are no colours.
        initial: a whole state dict to start from instead of the pretrained weights and a new head.
        groups: names of the classes of each specialist; none for other strategies.
    """

    config: RunConfig
    fold: int
    folder: Path
    root: Path
    cache_dir: Path
    task: str
    metric: str
    classes: Classes
    train: Rows
    valid: Rows
    weights: Weights
    origin: Mapping[str, Any]
    inputs: str
    all_images: Images
    test_images: Images
    left_out: tuple[str, ...] = ()
    source: PixelSource | None = None
    contents: Contents | None = None
    last_epoch: int | None = None
    channels: ChannelsConfig | None = None
    initial: Mapping[str, Any] | None = None
    groups: tuple[Labels, ...] = ()

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return self.last_epoch or self.config.total_epochs

    @property
    def scorer(self) -> Metric:
        """What validation rows are scored by."""
        return get_metric(self.metric, self.root)

    @cached_property
    def merger(self) -> Merger:
        """What brings predictions of validation images to rows."""
        return Merger(self.valid.owners, self.config.data.several, self.task, self.valid.truth, self.scorer)

    @property
    def eval_batch_size(self) -> int:
        """Images of a batch that is only predicted."""
        return self.config.last_stage.data.evaluated_at_once

    def in_stage(self, number: int) -> FoldJob:
        """Return the job as a stage trains it, from 1; what it is validated and predicted by stays."""
        stage = self.config.stage_configs[number - 1]
        data = stage.data.model_copy(update={"eval_batch_size": self.eval_batch_size})
        never = {"early_stopping": EarlyStoppingConfig()} if self.last_epoch is not None else {}
        return replace(self, config=stage.model_copy(update={"data": data, **never}))

    def keep_contents(self) -> str | None:
        """Keep the list of what the training images hold beside the run; return its fingerprint, None without such a list."""
        return None if self.contents is None else keep_contents(self.folder.parent, self.contents)

    @property
    def starts_trained(self) -> bool:
        """Whether the model begins with a classifier of these very classes, so that epoch 0 is a result like any other."""
        return self.initial is not None or bool(self.weights.head_fits)


@dataclass(frozen=True)
class Found:
    """What is found out once for all folds of a run; see :class:`FoldJob`.

    Attributes:
        weights: fold -> what it begins from.
    """

    weights: Mapping[int, Weights]
    left_out: tuple[str, ...] = ()
    source: PixelSource | None = None
    contents: Contents | None = None
    review: Review | None = None


def make_jobs(setup: Setup, folds: FoldTable, *, run: str, fold_list: Sequence[int], found: Found) -> Iterator[FoldJob]:
    """Yield the job of each fold of ``fold_list``, with the precision settled where that takes a measurement.

    Raises:
        FoldError: the competition lacks rows of the table, or a fold has no rows left.
    """
    workspace, competition = setup.workspace, setup.competition
    sizes = {"images": len(folds), "n_classes": len(folds.classes)}
    config = with_precision(setup.config.run, **sizes, root=workspace.root, channels=competition.channels)
    material = _material(competition, folds, found)
    for fold in fold_list:
        lesson, groups = lesson_for(setup, folds, fold=fold), groups_of(setup, folds, fold=fold)
        last_epoch = epochs_of_folds(workspace, run) if fold == FULL else None
        inputs = _inputs(setup, folds, fold=fold, found=found, more=_of_fold(last_epoch, lesson, groups))
        train, valid = material.rows_of(fold)
        if lesson is not None:
            train = _taught_by(lesson, train, competition, decided=() if found.review is None else found.review.entries)
        yield FoldJob(
            config=config,
            fold=fold,
            folder=workspace.fold_dir(run, fold),
            root=workspace.root,
            cache_dir=workspace.cache_dir,
            task=competition.task,
            metric=competition.metric,
            classes=folds.classes,
            train=train,
            valid=valid,
            weights=found.weights[fold],
            origin={
                "competition": competition.name,
                "competition_fingerprint": competition.fingerprint,
                "task": competition.task,
                "run": run,
                "fold": fold,
                "seed": config.seed,
                "folds_fingerprint": folds.fingerprint,
                "config_fingerprint": config.fingerprint,
                "inputs_fingerprint": inputs,
                **_seen(found.weights[fold], lesson, groups),
            },
            inputs=inputs,
            all_images=list(dict.fromkeys((*material.images, *train.images))),
            test_images=material.test,
            left_out=found.left_out,
            source=found.source,
            contents=found.contents,
            last_epoch=last_epoch,
            channels=competition.channels,
            groups=() if groups is None else groups.names,
        )


@dataclass(frozen=True)
class _Material:
    """What the folds of a run are cut from.

    Attributes:
        folds: the labels as given; ``taught`` those to train on.
        paths: of the images of each row.
        readable: (N,) whether they can be read; ``learnt``, (N,), whether the row may be trained on.
        images: of all readable rows; ``test`` of the test set, with control rows.
    """

    folds: FoldTable
    taught: FoldTable
    paths: Sequence[Paths]
    readable: npt.NDArray[np.bool_]
    learnt: npt.NDArray[np.bool_]
    images: Images
    test: Images

    def rows_of(self, fold: int) -> tuple[Rows, Rows]:
        """Return the rows that a fold trains on, a row an image, and those that it is validated on.

        These have the labels as given, whatever a review says, so that scores with and without it can be compared.
        """
        train, valid = (rows[self.readable[rows]] for rows in self.folds.split(fold))
        rows = _rows(self.taught, self.paths, train[self.learnt[train]], fold=fold, purpose="train")
        return rows.each_image(), _rows(self.folds, self.paths, valid, fold=fold, purpose="validate")


def _material(competition: Competition, folds: FoldTable, found: Found) -> _Material:
    paths = images_of(competition, folds.ids)
    out = set(found.left_out)
    readable = np.array([row_id not in out for row_id in folds.ids], dtype=bool)
    everything = _images(folds, paths, np.flatnonzero(readable))
    taught, wanted = taught_by(found.review, folds)
    # What an open class holds is alike in nothing but that it is none of the others: there is nothing to learn.
    closed = np.array([competition.open_class not in labels for labels in taught.labels], dtype=bool)
    return _Material(folds, taught, paths, readable, wanted & closed, everything, _test_images(competition, folds, out))


def _seen(weights: Weights, lesson: Lesson | None, groups: Groups | None) -> dict[str, Any]:
    """Return the entry that says which rows the weights and the teachers of a fold have seen, where they have seen any."""
    seen = () if weights.path is None else seen_by(weights.path)
    for teacher in (lesson, groups):
        seen = seen if teacher is None else tuple(dict.fromkeys((*seen, *teacher.seen)))
    return {"seen": to_entries(seen)} if seen else {}


def epochs_of_folds(workspace: Workspace, run: str) -> int:
    """Return the epoch to end with on all data: the mean of those whose weights the folds of a run keep, at least 1.

    Raises:
        FoldError: no fold of the run is finished, so nobody knows how long to train.
    """
    begun = (workspace.run_dir(run) / RUN_RECORD).is_file()
    epochs = [fold.record.epoch or 0 for fold in read_run(workspace, run).folds if fold.finished] if begun else []
    if not epochs:
        raise FoldError(
            f"how long to train on all data is learnt from the folds, and run {run!r} has no finished one. Run `kk train --run "
            f"{run} --fold all` first."
        )
    # An average of epochs counts as one more than there are.
    return min(max(1, round(sum(epochs) / len(epochs))), read_run(workspace, run).record.config.total_epochs)


def _taught_by(lesson: Lesson, rows: Rows, competition: Competition, *, decided: Collection[str]) -> Rows:
    """Return the images to train on as a lesson changes them, test images among them."""
    taught = teach(lesson, rows.ids, rows.truth, competition.classes, decided=decided)
    kept = np.flatnonzero(taught.kept)
    paths = {row.id: row.paths for row in competition.test} if taught.test else {}
    images = [rows.images[row] for row in kept.tolist()]
    added = [(row_id, path) for row_id in taught.test for path in paths[row_id]]
    test = owners_of(added).of  # of each added image the place of its id
    of = np.concatenate([np.arange(len(kept)), len(kept) + test])
    return Rows(
        images + added,
        taught.truth[of],
        np.concatenate([rows.groups[kept], rows.groups.max() + 1 + test]),
        np.concatenate([rows.validated[kept], np.zeros(len(added), dtype=bool)]),
        None if taught.targets is None else taught.targets[of],
    )


def _of_fold(last_epoch: int | None, lesson: Lesson | None, groups: Groups | None) -> dict[str, Any]:
    """Return what a fold's fingerprint says beside what all folds have."""
    found: dict[str, Any] = {} if last_epoch is None else {"last_epoch": last_epoch}
    found |= {} if lesson is None else {"lesson": lesson.fingerprint}
    return found if groups is None else {**found, "groups": list(map(list, groups.names))}


def _inputs(setup: Setup, folds: FoldTable, *, fold: int, found: Found, more: Mapping[str, Any]) -> str:
    config, competition = setup.config.run, setup.competition
    code = code_fingerprint(config.model.name, setup.workspace.root)
    return files.fingerprint(
        {
            "config": config.fingerprint,
            "folds": folds.fingerprint,
            "fold": fold,
            "task": competition.task,
            "metric": competition.metric,
            "weights": found.weights[fold].fingerprint,
            "left_out": sorted(found.left_out),
            **({} if competition.channels is None else {"channels": competition.channels.model_dump()}),
            **({} if competition.open_class is None else {"open_class": competition.open_class}),
            **({} if found.review is None else {"review": found.review.fingerprint}),
            **({"code": code} if code else {}),
            **more,
        }
    )


def _images(folds: FoldTable, paths: Sequence[Paths], rows: npt.NDArray[np.int64]) -> Images:
    return [(folds.ids[row], path) for row in rows.tolist() for path in paths[row]]


def _rows(folds: FoldTable, paths: Sequence[Paths], rows: npt.NDArray[np.int64], *, fold: int, purpose: str) -> Rows:
    if len(rows) == 0 and (fold != FULL or purpose == "train"):
        raise FoldError(f"fold {fold} has no readable rows to {purpose} on. Make other folds with `kk folds`.")
    validated = np.asarray((folds.assignments[:, rows] >= 0).any(axis=0), dtype=np.bool_)
    return Rows(_images(folds, paths, rows), folds.truth(rows), folds.groups[rows], validated)


def _test_images(competition: Competition, folds: FoldTable, left_out: set[str]) -> Images:
    """Return test images, and the control rows among them."""
    images = [(row.id, path) for row in competition.test for path in row.paths]
    if not images:
        return []
    chosen = sample_control(folds, CONTROL_ROWS, left_out=left_out)
    some = images_of(competition, chosen)
    images += [(row_id, path) for row_id, paths in zip(chosen, some, strict=True) for path in paths]
    return [images[position] for position in np.random.default_rng(0).permutation(len(images))]


def images_of(competition: Competition, ids: Sequence[str]) -> list[Paths]:
    """Return the images of each training id.

    Raises:
        FoldError: the competition has no such rows.
    """
    paths = {row.id: row.paths for row in competition.train}
    gone = [row_id for row_id in ids if row_id not in paths]
    if gone:
        raise FoldError(f"{len(gone)} rows of the fold table are not in the data: {shown(gone)}. Run `kk folds` again.")
    return [paths[row_id] for row_id in ids]

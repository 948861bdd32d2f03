"""Before a run is trained: its name, its folds, its record, its weights and its images."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

import torch

from kaggle_kit import files, runs
from kaggle_kit.competition import Setup
from kaggle_kit.competition.contents import Contents, describe_change, training_contents
from kaggle_kit.config import RunConfig
from kaggle_kit.config.known import require_known
from kaggle_kit.errors import ConfigError, DataError, FoldError
from kaggle_kit.fold_names import FULL, fold_folders
from kaggle_kit.folds import held_still
from kaggle_kit.images.dataset import PixelSource
from kaggle_kit.images.samplers import sampler_for
from kaggle_kit.images.transforms import train_transform
from kaggle_kit.inference.sources import training_pixels
from kaggle_kit.models import build_model, freeze, image_spec
from kaggle_kit.own_code import is_own
from kaggle_kit.reviews import USED_REVIEW, Review, review_for, write_review
from kaggle_kit.runs import RunRecord
from kaggle_kit.runs.comparison import flat
from kaggle_kit.runs.provenance import require_unseen, seen_by
from kaggle_kit.runs.snapshots import remove_snapshots, require_no_snapshot, write_snapshot_runs
from kaggle_kit.tables import Classes, FoldTable
from kaggle_kit.teachers import find_teachers, require_teachable
from kaggle_kit.training.in_sample import predict_in_sample
from kaggle_kit.training.job import FoldJob, Found, epochs_of_folds, images_of, make_jobs
from kaggle_kit.training.losses import build_loss
from kaggle_kit.training.schedules import build_schedule
from kaggle_kit.training.start import starting_weights
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

_SHOWN = 12


def default_run_name(config: RunConfig) -> str:
    """The model's name and a few digits of the configuration's fingerprint: another configuration is another run."""
    model = re.sub(r"[^\w.-]+", "-", config.model.name).strip("-.") or "run"
    return f"{model}-{config.fingerprint[:6]}"


def prepare_run(setup: Setup, folds: FoldTable, *, run: str, fold_list: Sequence[int], restart: bool = False) -> list[FoldJob]:
    """Return the jobs of ``fold_list``, and write ``run.json`` when nothing stands in their way.

    The caller holds the run's lock.

    Raises:
        ConfigError: the run was begun with another configuration; names the entries.
        WeightsError, MissingFileError: the weights to begin from were not found.
        ImageError: training images cannot be read, and ``data.bad_images`` is "stop"; lists them.
        ClassMappingError, FoldError: the fold table is of other data, or the weights have seen what a fold is validated on.
        DataError: the run was begun with other images under the same names; names them.
    """
    workspace, config, competition = setup.workspace, setup.config.run, setup.competition
    competition.classes.require_same(folds.classes, here=f"competition {competition.name}", there="the fold table")
    if folds.multilabel != competition.multilabel:
        raise FoldError(f"the fold table is not for task {competition.task!r}. Run `kk folds` again.")
    uneven = [size for stage in config.stage_configs if (size := stage.data.batch_size) % config.hardware.devices]
    if uneven:
        raise ConfigError(
            f"batch_size is that of all devices together and must be a multiple of devices ({config.hardware.devices}), "
            f"got {uneven[0]}."
        )
    require_known(config, competition.task)
    if config.init_from == run:
        raise ConfigError(f"init_from: run {run!r} cannot begin from itself. Give the new run another name with --run NAME.")
    _require_usable(setup, folds)
    weights = starting_weights(setup, folds, fold_list)
    for text in dict.fromkeys(one.text for one in weights.values()):
        logger.info("%s", text)
    for fold, one in weights.items():
        require_unseen(seen_by(one.path) if one.path is not None else (), workspace, competition.name, folds, fold=fold)
    if FULL in fold_list:
        _require_for_full(setup, run)
    require_lessons(setup, folds, fold_list)
    review = review_for(workspace, config.data.labels, folds)
    record = make_record(setup, folds, run, restart=restart, review=review)
    contents = training_contents(competition, folds, workspace.cache_dir)
    if not restart:
        _require_same_contents(workspace, run, contents)
    source, left_out = pixels_of(setup, folds, n_folds=len(fold_list))
    found = Found(weights, left_out, source, contents, review)
    jobs = list(make_jobs(setup, folds, run=run, fold_list=fold_list, found=found))
    with held_still(workspace, config.folds, folds):
        if restart:
            _throw_away(workspace, run)
        if review is not None:  # what the run was trained with, whatever is reviewed later
            write_review(workspace.run_dir(run) / USED_REVIEW, review)
        write_snapshot_runs(workspace, record)
        runs.write_run_record(workspace.run_dir(run), record)
    return jobs


def require_lessons(setup: Setup, folds: FoldTable, fold_list: Sequence[int]) -> None:
    """Make sure that each fold can learn from earlier runs as ``run.teacher`` says, predicting in-sample rows where they lack.

    Raises:
        MissingFileError, DataError, ClassMappingError, ImageError: see :mod:`kaggle_kit.teachers`, and
            :func:`~kaggle_kit.training.in_sample.predict_in_sample`.
    """
    settings, where = setup.config.run.teacher, (setup.workspace, setup.competition)
    require_teachable(setup, folds, fold_list)
    if settings.predictions == "in-sample":
        predict_in_sample(*where, [find_teachers(settings.runs, *where, folds, fold=fold) for fold in fold_list])


def pixels_of(setup: Setup, folds: FoldTable, *, n_folds: int) -> tuple[PixelSource | None, tuple[str, ...]]:
    """Return where the pixels of the table's images come from, and which cannot be read; see :func:`training_pixels`."""
    images = images_of(setup.competition, folds.ids)
    rows = [(row_id, path) for row_id, paths in zip(folds.ids, images, strict=True) for path in paths]
    return training_pixels(
        *(setup.workspace, setup.config.run, rows),
        n_classes=len(folds.classes),
        n_folds=n_folds,
        channels=setup.competition.channels,
        cache=setup.config.cache,
    )


def _require_usable(setup: Setup, folds: FoldTable) -> None:
    """Try the options that would otherwise fail when a fold is begun: of loss, schedule, transforms and freezing.

    Raises:
        ConfigError: one of them cannot be used; says which.
    """
    config, truth = setup.config.run, folds.truth()
    stages = config.stage_configs
    for stage in stages:
        build_loss(stage.loss, setup.competition.task, folds.classes, truth)
        sampler_for(stage.data, truth, folds.classes, seed=0)
        if config.strategy != "probe":
            build_schedule(torch.optim.SGD([torch.zeros(1)], lr=stage.optimizer.lr), stage.schedule, updates_per_epoch=10)
    changed = any(stage.model.freeze or stage.augment.transforms or stage.data != config.data for stage in stages)
    if changed or is_own(config.model.name):
        size, n_classes = config.last_stage.data.image_size, len(folds.classes)
        with torch.random.fork_rng(devices=[]):
            channels, root = setup.competition.channels, setup.workspace.root
            model = build_model(config.model, n_classes, image_size=size, root=root, channels=channels)
        for stage in stages:
            freeze(model, stage.model)
            train_transform(image_spec(model, stage.data, channels), stage.augment)


def _require_for_full(setup: Setup, run: str) -> None:
    """Refuse to train on all data where that cannot be, before images are decoded.

    Raises:
        ConfigError: the strategy or the schedule needs validation rows.
        FoldError: no fold of the run is finished.
    """
    if setup.config.run.strategy == "specialists":
        raise ConfigError("specialists are trained fold by fold, for rows to validate them on; there is no model of all data.")
    if any(stage.schedule.name == "plateau" for stage in setup.config.run.stage_configs):
        raise ConfigError(
            "schedule plateau lowers the rate by the score on validation rows, and on all data there are none. Train the run "
            "with another schedule, such as cosine."
        )
    epochs_of_folds(setup.workspace, run)


def _require_same_contents(workspace: Workspace, run: str, contents: Contents) -> None:
    """Refuse to go on with a run of which a fold was trained from other images.

    Raises:
        DataError: names the images, and what to do.
    """
    folder = workspace.run_dir(run)
    for fold, path in fold_folders(folder).items():
        before = runs.read_fold(path, fold).record.contents
        change = describe_change(contents, folder, before, what="training images")
        if change:
            raise DataError(
                f"since {path.name} of run {run!r} was begun, {change}. Put the old images back, train under another name with "
                f"--run NAME, or throw away what run {run!r} has with --restart."
            )


def make_record(setup: Setup, folds: FoldTable, run: str, *, restart: bool, review: Review | None = None) -> RunRecord:
    """Return the record of the run; unless it is to ``restart``, one that is there must be of the same run.

    Raises:
        ConfigError: configuration or folds differ; says in what, and what to do.
    """
    config, competition = setup.config.run, setup.competition
    before = None if restart else before_of(setup.workspace, run)
    record = RunRecord(
        name=run,
        competition=competition.name,
        competition_fingerprint=competition.fingerprint,
        task=competition.task,
        metric=competition.metric,
        classes=competition.classes.names,
        classes_fingerprint=competition.classes.fingerprint,
        folds=config.folds,
        folds_fingerprint=folds.fingerprint,
        n_splits=folds.n_splits,
        config=config,
        config_fingerprint=config.fingerprint,
        versions=files.versions(),
        review=None if review is None else review.fingerprint,
        created=(before and before.created) or datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if before is not None:
        require_no_snapshot(before)
        require_same(before, record)
    return record


def before_of(workspace: Workspace, run: str) -> RunRecord | None:
    """Return the record of a run that was begun before, or None."""
    return runs.read_run(workspace, run).record if (workspace.run_dir(run) / runs.RUN_RECORD).exists() else None


def require_same(before: RunRecord, now: RunRecord) -> None:
    """Raise ConfigError when a run that was begun as ``before`` is not to go on as ``now``; only its hardware may differ."""
    run = now.name
    remedy = f"Train under another name with --run NAME, or throw away what run {run!r} has with --restart."
    Classes(before.classes).require_same(Classes(now.classes), here=f"run {run}", there="kk.yaml")
    # Of the configuration as it is read today, so that entries which a newer version added count with their defaults.
    if before.config.fingerprint != now.config.fingerprint:
        old, new = (flat(record.config.shaping()) for record in (before, now))
        changed = [f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in {**old, **new} if old.get(key) != new.get(key)]
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise ConfigError(f"run {run!r} was begun with another configuration. {'; '.join(changed[:_SHOWN])}{more}. {remedy}")
    if before.review != now.review:
        raise ConfigError(
            f"run {run!r} was begun with another review of labels than labels/{now.config.data.labels}.csv is now; the one it "
            f"began with is kept as runs/{run}/{USED_REVIEW}. {remedy}"
        )
    for key in ("task", "metric", "folds_fingerprint"):
        then, today = getattr(before, key), getattr(now, key)
        if then != today:
            raise ConfigError(f"run {run!r} was begun with another {key}: {then!r} -> {today!r}. {remedy}")


def _throw_away(workspace: Workspace, run: str) -> None:
    """Delete what a run has trained, once nobody predicts or blends it any more; the caller holds the run's lock."""
    folder = workspace.run_dir(run)
    with files.folder_lock(folder, name=runs.PREDICT_LOCK):
        for path in fold_folders(folder).values():
            shutil.rmtree(path)
        (folder / runs.RUN_RECORD).unlink(missing_ok=True)
        remove_snapshots(workspace, run)

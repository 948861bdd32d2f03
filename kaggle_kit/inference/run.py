"""Predicting a whole run: the test images and the control rows with every fold's model, and out-of-fold rows with views."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kaggle_kit import files, runs
from kaggle_kit.choices import MERGES, VIEWS
from kaggle_kit.competition.contents import Contents, contents_of, describe_change, keep_contents, training_contents
from kaggle_kit.competition.records import Competition
from kaggle_kit.config import CacheConfig
from kaggle_kit.errors import DataError, FoldError, MissingFileError
from kaggle_kit.inference.control import CONTROL_ROWS, disguise, sample_control
from kaggle_kit.inference.features import FeatureCache
from kaggle_kit.inference.predict import Compute, Progress, predict_rows
from kaggle_kit.inference.sources import prediction_pixels, prepare_size
from kaggle_kit.models import LoadedModel, load_model
from kaggle_kit.results import Result
from kaggle_kit.runs import FoldRun, Run
from kaggle_kit.tables import FoldTable, Predictions, read_folds, read_prediction_meta, read_predictions, shown
from kaggle_kit.workspace import Workspace

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class RunPrediction(Result):
    """What :func:`predict_run` did.

    Attributes:
        predicted: folds whose files were written.
        current: folds whose files were already what this call would write.
        n_test, n_control: rows of each file.
    """

    run: str
    predicted: tuple[int, ...]
    current: tuple[int, ...]
    n_test: int
    n_control: int

    def describe(self) -> str:
        """Return what was written, and what was there already."""
        predicted, current = (", ".join(map(str, folds)) for folds in (self.predicted, self.current))
        already = f"; already there: fold {current}" if current else ""
        return (
            f"{self.run}: predicted {self.n_test} test images and {self.n_control} control images "
            f"with the models of fold {predicted or 'none'}{already}"
        )


@dataclass(frozen=True)
class _Job:
    """What is to be predicted, the same for all folds of the run.

    Attributes:
        control_ids: training rows to hide among the test rows.
        train_paths: training id -> file.
        with_oof: whether out-of-fold rows are predicted again, with the views.
        contents: part ("test", "train") -> what its images hold.
    """

    competition: Competition
    run: Run
    folds: FoldTable
    views: str
    merge: str
    control_ids: tuple[str, ...]
    train_paths: Mapping[str, Path]
    with_oof: bool
    contents: Mapping[str, Contents]

    @property
    def file_names(self) -> dict[str, str]:
        """Kind of rows -> the file that a fold folder is to hold."""
        names = {"test": runs.TEST}
        if self.control_ids:
            names["control"] = runs.CONTROL
        if self.with_oof:
            names["oof"] = runs.OOF_VIEWS
        return names

    def meta(self, fold: FoldRun, kind: str) -> dict[str, Any]:
        """What a prediction file was made from; equal to what a file says exactly when that file is current."""
        return {
            "kind": kind,
            "competition": self.competition.name,
            "competition_fingerprint": self.competition.fingerprint,
            "test_fingerprint": self.competition.test_fingerprint,
            "run": self.run.name,
            "fold": fold.fold,
            "views": self.views,
            "merge": self.merge,
            "task": self.competition.task,
            "seed": self.run.record.config.seed,
            "model_fingerprint": _model_fingerprint(fold),
            "folds_fingerprint": self.folds.fingerprint,
            "control_fingerprint": files.fingerprint(list(self.control_ids)),
            "contents": self.contents["test" if kind == "test" else "train"].fingerprint,
        }

    def is_current(self, fold: FoldRun) -> bool:
        """Whether all files of ``fold`` hold what would be written now."""
        for kind, file_name in self.file_names.items():
            try:
                meta = read_predictions(fold.path / file_name).meta
            except DataError:
                return False
            if any(meta.get(key) != value for key, value in self.meta(fold, kind).items()):
                return False
        return True

    def changed_images(self, fold: FoldRun) -> str:
        """Say which test images changed since ``fold`` was predicted; empty when none did, or nothing is known of them."""
        try:
            before = read_prediction_meta(fold.path / runs.TEST).get("contents")
        except DataError:
            return ""
        return describe_change(self.contents["test"], self.run.path, before, what="test images")

    def write(self, fold: FoldRun, kind: str, predictions: Predictions, **about: str) -> None:
        meta = {**self.meta(fold, kind), **about, "versions": files.versions()}
        Predictions(predictions.ids, predictions.probs, predictions.classes, meta).write(fold.path / self.file_names[kind])


def predict_runs(
    workspace: Workspace,
    competition: Competition,
    *,
    run: str | None = None,
    views: str = "none",
    merge: str = "mean",
    control: int | None = None,
    oof: bool = True,
    engine: str = "auto",
    cache: CacheConfig | None = None,
    progress: Progress | None = None,
) -> list[RunPrediction]:
    """:func:`predict_run` for ``run``, or for all runs that have a finished fold.

    Args:
        control: number of control rows; None: :data:`~kaggle_kit.inference.control.CONTROL_ROWS`, 0: none.
        engine: "auto" leaves the choice to each run's configuration.
        cache: settings of the store of decoded images; none: images are read from their files.

    Raises:
        MissingFileError, DataError: there is no such run, or none with a finished fold; and what :func:`predict_run` raises.
    """
    chosen = runs.choose_runs(workspace, [run] if run else [])
    ready = [one for one in chosen if any(fold.finished for fold in one.folds)]
    for one in chosen:
        if ready and one not in ready:
            _LOG.warning("run %s has no finished fold; it is left out", one.name)
    results = []
    sources = prediction_pixels(workspace, competition, ready, cache)
    for one in ready or chosen[:1]:  # the first of those that are not ready says what is missing
        folds = read_folds(workspace.folds_path(one.record.folds))
        source = sources.get(prepare_size(one)) if sources else None
        compute = compute_of(workspace, one, engine=None if engine == "auto" else engine, source=source)
        results.append(
            predict_run(
                workspace,
                competition,
                one,
                folds,
                views=views,
                merge=merge,
                control=CONTROL_ROWS if control is None else control,
                oof=oof,
                compute=compute,
                progress=progress,
            )
        )
    return results


def predict_run(
    workspace: Workspace,
    competition: Competition,
    run: Run,
    folds: FoldTable,
    *,
    views: str = "none",
    merge: str = "mean",
    control: int = CONTROL_ROWS,
    oof: bool = True,
    compute: Compute | None = None,
    progress: Progress | None = None,
) -> RunPrediction:
    """Predict the test images with the model of every finished fold.

    Each fold folder gets ``test.parquet``; ``control.parquet``, training images that went through the very same pass hidden
    among the test images; and with views ``oof_views.parquet``, so that a blend compares like with like. Folds whose files
    are current are skipped.

    Args:
        control: number of control rows; 0 writes none.
        oof: whether to predict the out-of-fold rows again when ``views`` is not "none".
        compute: by default what the run's configuration says.

    Raises:
        DataError: there is no finished fold or no test image, or a model is not the one that was trained.
        ClassMappingError: run, competition and models have different classes.
        FoldError: the fold table is not the run's.
        ImageError: images cannot be read; lists all of them.
    """
    VIEWS.require(views)
    MERGES.require(merge)
    _require_same_origin(competition, run, folds)
    finished = run.finished_folds()
    left_out = {row_id for fold in finished for row_id in fold.record.left_out}
    control_ids = tuple(sample_control(folds, control, left_out=left_out))
    paths = {row.id: row.path for row in competition.train}
    contents = {
        "test": contents_of(competition.test, workspace.cache_dir),
        "train": training_contents(competition, folds, workspace.cache_dir),
    }
    job = _Job(competition, run, folds, views, merge, control_ids, paths, oof and views != "none", contents)
    todo = [fold for fold in finished if not job.is_current(fold)]
    current = tuple(fold.fold for fold in finished if fold not in todo)
    if current:
        _LOG.info("run %s, views %s: already predicted: fold %s", run.name, views, shown(map(str, current)))
    for change in dict.fromkeys(filter(None, map(job.changed_images, todo))):
        _LOG.warning("run %s is predicted again: %s", run.name, change)
    if todo:
        for part in contents.values():
            keep_contents(run.path, part)
        _predict_folds(job, todo, compute or compute_of(workspace, run), progress)
    return RunPrediction(run.name, tuple(fold.fold for fold in todo), current, len(competition.test), len(control_ids))


def compute_of(workspace: Workspace, run: Run, **changes: Any) -> Compute:
    """How to predict, from the configuration that ``run`` was trained with; ``changes`` are fields of :class:`Compute`."""
    config = run.record.config
    chosen = {
        "batch_size": config.data.eval_batch_size or 2 * config.data.batch_size,
        "workers": config.data.workers,
        "device": config.hardware.accelerator,
        "precision": config.hardware.precision,
        "engine": config.hardware.engine,
        "cache_dir": workspace.cache_dir,
    }
    return Compute(**{**chosen, **{key: value for key, value in changes.items() if value is not None}})


def _predict_folds(job: _Job, todo: Sequence[FoldRun], compute: Compute, progress: Progress | None) -> None:
    models = [_load_fold(job, fold) for fold in todo]
    oof_ids = [_oof_ids(job, fold) for fold in todo] if job.with_oof else []
    done, total = 0, len(job.competition.test) + len(job.control_ids) + sum(map(len, oof_ids))

    def advance(rows: int, _of: int) -> None:
        if progress is not None:
            progress(done + rows, total)

    _predict_test(job, todo, models, compute, advance)
    done += len(job.competition.test) + len(job.control_ids)
    compute = replace(compute, features=_features(compute, "train"))
    for fold, model, ids in zip(todo, models, oof_ids, strict=False):  # no out-of-fold rows, no loop
        rows = [(row_id, job.train_paths[row_id]) for row_id in ids]
        probs = predict_rows([model], rows, views=job.views, merge=job.merge, compute=compute, progress=advance)
        job.write(fold, "oof", Predictions(ids, probs[0], model.classes), precision=compute.rounding)
        done += len(ids)


def _features(compute: Compute, role: Literal["train", "test"]) -> FeatureCache | None:
    """What a probe kept for this kind of pass. A test pass never takes what was computed for training: its control rows are
    to show that test images go the same way."""
    return FeatureCache(compute.cache_dir, role) if compute.cache_dir is not None else None


def _predict_test(
    job: _Job, todo: Sequence[FoldRun], models: Sequence[LoadedModel], compute: Compute, progress: Progress
) -> None:
    """One pass over test and control rows together, shuffled, so that nothing in it can tell one from the other."""
    test_ids = [row.id for row in job.competition.test]
    seed = int(job.folds.fingerprint[:8], 16)
    disguises = disguise(job.control_ids, test_ids, seed=seed)
    rows = [(row.id, row.path) for row in job.competition.test]
    rows += [(hidden, job.train_paths[real]) for real, hidden in disguises.items()]
    rows = [rows[position] for position in np.random.default_rng(seed).permutation(len(rows))]
    compute = replace(compute, features=_features(compute, "test"))
    probs = predict_rows(models, rows, views=job.views, merge=job.merge, compute=compute, progress=progress)
    known = set(test_ids)
    at_test = [position for position, (row_id, _) in enumerate(rows) if row_id in known]
    for fold, model, of_model in zip(todo, models, probs, strict=True):
        # Taken before the rows are parted, and kept in both files: `kk check` compares what arrived with what left.
        test_rows = runs.rows_fingerprint([rows[position][0] for position in at_test], of_model[at_test])
        about = {"test_rows": test_rows, "precision": compute.rounding}
        together = Predictions(tuple(row_id for row_id, _ in rows), of_model, model.classes)
        hidden = together.take(list(disguises.values()))
        if disguises:
            job.write(fold, "control", Predictions(tuple(disguises), hidden.probs, model.classes), **about)
        else:
            (fold.path / runs.CONTROL).unlink(missing_ok=True)  # one of an earlier pass says nothing about this one
        job.write(fold, "test", together.take(test_ids), **about)


def _require_same_origin(competition: Competition, run: Run, folds: FoldTable) -> None:
    """Competition, run and fold table must belong together, and every image must still be listed."""
    run.classes.require_same(competition.classes, here=f"run {run.name}", there=f"competition {competition.name}")
    if run.record.folds_fingerprint != folds.fingerprint:
        raise FoldError(
            f"run {run.name} was trained on other folds than the table given "
            f"({run.record.folds_fingerprint[:12]} and {folds.fingerprint[:12]}). Train it again, or restore the fold table."
        )
    if not competition.test:
        raise DataError(
            f"competition {competition.name} has no test images (kk.yaml: competition.test). "
            "Add them, or predict any folder with `kk predict --images DIR`."
        )
    known = {row.id for row in competition.train}
    gone = [row_id for row_id in folds.ids if row_id not in known]
    if gone:
        raise FoldError(f"{len(gone)} training images of the fold table are not in the data any more: {shown(gone)}.")


def _load_fold(job: _Job, fold: FoldRun) -> LoadedModel:
    """The fold's model, refused unless it is the one that this run trained."""
    path = fold.path / runs.MODEL
    loaded = load_model(path)
    job.competition.classes.require_same(loaded.classes, here=f"competition {job.competition.name}", there=str(path))
    expected = {
        "folds_fingerprint": job.folds.fingerprint,
        "fold": fold.fold,
        "competition": job.competition.name,
        "model_fingerprint": fold.record.model_fingerprint or loaded.fingerprint,
    }
    found = {**loaded.meta, "model_fingerprint": loaded.fingerprint}
    wrong = [key for key, value in expected.items() if found.get(key, value) != value]
    if wrong or loaded.task != job.competition.task:
        raise DataError(
            f"{path} is not the model that run {job.run.name} trained for fold {fold.fold}: another "
            f"{shown(wrong or ['task'])}. Run `kk train --run {job.run.name} --fold {fold.fold}` again."
        )
    return loaded


def _oof_ids(job: _Job, fold: FoldRun) -> tuple[str, ...]:
    """The rows that training validated on: those of the fold, less images that could not be read."""
    oof = read_predictions(fold.path / runs.OOF)
    unknown = [row_id for row_id in oof.ids if row_id not in job.train_paths]
    if unknown:
        raise DataError(
            f"{fold.path / runs.OOF} holds rows that the competition lacks: {shown(unknown)}. Train the fold again."
        )
    return oof.ids


def _model_fingerprint(fold: FoldRun) -> str:
    path = fold.path / runs.MODEL
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist. Run `kk train --run {fold.path.parent.name} --fold {fold.fold}` again.")
    return files.file_fingerprint(path)

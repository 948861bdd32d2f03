"""Predicting whole runs: the test images and the control rows with every fold's model, and out-of-fold rows with views.

All runs go through one stream of rows, test and control images shuffled together, so that runs with the same input share the
decoding, and nothing in the stream can tell one kind of row from the other. `kk predict` and a kernel at Kaggle both come here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_kit import runs
from kaggle_kit.choices import INT8
from kaggle_kit.competition import Competition, Setup
from kaggle_kit.errors import DataError, KaggleKitError
from kaggle_kit.fold_names import FULL, fold_name, fold_text
from kaggle_kit.images.decode import Progress
from kaggle_kit.inference.control import disguise
from kaggle_kit.inference.job import PredictOptions, RunJob, control_paths, make_job
from kaggle_kit.inference.outputs import Outputs, RunPrediction, kept_features
from kaggle_kit.inference.predict import Compute, Rows
from kaggle_kit.inference.sources import prediction_pixels, prepare_size
from kaggle_kit.inference.time_limit import RunShare, TimeLimit, Worklist
from kaggle_kit.inference.tta import count_passes, plan_views
from kaggle_kit.inference.workers import Key, Stream, predict_stream, usable_devices
from kaggle_kit.models import LoadedModel
from kaggle_kit.runs import Run
from kaggle_kit.tables import read_folds, shown
from kaggle_kit.views import NO_VIEWS
from kaggle_kit.workspace import Workspace

_LOG = logging.getLogger(__name__)
Say = Callable[[str], None]
_CALIBRATION = 128
"""Training images that set the ranges of 8-bit integers."""
_PATIENCE = 10.0
"""Seconds to wait for another process that predicts or blends the same runs."""


def predict_runs(
    setup: Setup,
    names: Sequence[str] = (),
    options: PredictOptions | None = None,
    *,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> list[RunPrediction]:
    """Predict the test images with every finished fold of the runs ``names``, or of all runs that have one.

    Each fold folder gets ``test.parquet``; ``control.parquet``, training images that went through the very same pass hidden
    among the test images; and with views ``oof_views.parquet``, so that a blend compares like with like. Folds whose files
    are current are skipped.

    Args:
        time_limit: seconds; what there is no time for is left out by the rule of
            :mod:`~kaggle_kit.inference.time_limit`, and every file says so. Without one, all is done.
        progress: called with images done and of all.

    Raises:
        MissingFileError, DataError: there is no such run, or none with a finished fold; or a model is not that of its run.
        ConfigError: there are no such views, or the time does not suffice for one fold.
        ClassMappingError, FoldError: run, competition and models do not belong together.
        ImageError: images cannot be read; lists all of them.
        LockedError: another process predicts or blends one of the runs.
    """
    limit, options = TimeLimit(time_limit), options or PredictOptions()
    workspace, competition = setup.workspace, setup.competition
    chosen = runs.choose_runs(workspace, list(names))
    ready = [one for one in chosen if any(fold.finished for fold in one.folds)]
    for one in chosen:
        if ready and one not in ready:
            _LOG.warning("run %s has no finished fold; it is left out", one.name)
    with runs.predictions_held(ready, patience=_PATIENCE):
        sources = prediction_pixels(workspace, competition, ready, setup.config.cache)
        jobs, engine = [], engine_of(options.engine, competition)
        for one in ready or chosen[:1]:  # the first of those that are not ready says what is missing
            folds = read_folds(workspace.folds_path(one.record.folds))
            source = sources.get(prepare_size(one)) if sources else None
            compute = compute_of(workspace, one, **engine, source=source)
            jobs.append(make_job(workspace, competition, one, folds, options, compute=compute))
        return predict_jobs(jobs, limit=limit, progress=progress)


def engine_of(name: str, competition: Competition) -> dict[str, Any]:
    """Return the fields of :class:`Compute` that an engine asked for by its name wants; none for "auto"."""
    return {} if name == "auto" else {"engine": name, "calibration": calibration_of(name, competition)}


def calibration_of(engine: str, competition: Competition) -> Rows:
    """Return the training images, of all classes alike, that ``engine`` is calibrated on: none but for int8.

    What they are labelled plays no part, so that out-of-fold rows may be among them.
    """
    if engine != INT8:
        return ()
    rows = [(row.id, path) for row in sorted(competition.train, key=lambda row: row.labels) for path in row.paths[:1]]
    taken = np.linspace(0, len(rows) - 1, min(_CALIBRATION, len(rows))).astype(int).tolist()
    return [rows[at] for at in taken]


def compute_of(workspace: Workspace, run: Run, **changes: Any) -> Compute:
    """Return how to predict as ``run`` was trained; ``changes`` are fields of :class:`Compute`."""
    config = run.record.config.last_stage
    chosen = {
        "batch_size": config.data.evaluated_at_once,
        "workers": config.data.workers,
        "device": config.hardware.accelerator,
        "precision": config.hardware.precision,
        "engine": config.hardware.engine,
        "cache_dir": workspace.cache_dir,
    }
    return Compute(**{**chosen, **{key: value for key, value in changes.items() if value is not None}})


def predict_jobs(
    jobs: Sequence[RunJob],
    *,
    limit: TimeLimit | None = None,
    tolerant: bool = False,
    say: Say = _LOG.info,
    progress: Progress | None = None,
) -> list[RunPrediction]:
    """Predict runs together; see :func:`predict_runs`.

    Args:
        limit: by default as long as it takes.
        tolerant: go on without what cannot be used: models that do not load, images that cannot be read, views whose package
            is missing, and rows that there is no time for. They then have no row in the files.
        say: is given each line for the reader.
    """
    for job in jobs:
        if current := [fold.fold for fold in job.run.finished_models() if fold not in job.todo]:
            say(f"run {job.run.name}, views {job.tta}: already predicted: fold {shown(map(fold_name, current))}")
        if job.todo:
            job.keep_contents(_LOG.warning)
    limit = limit or TimeLimit()
    done: dict[str, RunPrediction] = {}
    for accelerator in dict.fromkeys(job.compute.device for job in jobs):
        some = [job for job in jobs if job.compute.device == accelerator and job.todo]
        if some:
            with _notes(tolerant) as notes:
                done |= {result.run: result for result in _Pass(some, _Told(limit, notes, say, progress)).run(accelerator)}
    return [done.get(job.run.name) or _nothing_done(job) for job in jobs]


def _nothing_done(job: RunJob) -> RunPrediction:
    current = tuple(fold.fold for fold in job.run.finished_models())
    return RunPrediction(job.run.name, (), current, len(job.competition.test), len(job.control_ids))


@contextlib.contextmanager
def _notes(tolerant: bool) -> Iterator[Path | None]:
    """A folder for notes on unreadable images, when they are to be left out."""
    if not tolerant:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@dataclass(frozen=True)
class _Told:
    """What a pass is told: its time, whether it is tolerant (then there is a folder for notes), and who listens."""

    limit: TimeLimit
    notes: Path | None
    say: Say
    progress: Progress | None


class _Pass:
    """Runs that go through one stream of rows."""

    def __init__(self, jobs: Sequence[RunJob], told: _Told) -> None:
        self._jobs = {job.run.name: job for job in jobs}
        self._told = told
        self._left_out: dict[str, list[str]] = {job.run.name: [] for job in jobs}
        self._models = self._load()
        first = jobs[0]
        seed = int(first.run.record.folds_fingerprint.ljust(8, "0")[:8], 16)
        control = control_paths(jobs)
        self._test = {row.id: row.paths for row in first.competition.test}
        self._disguises = disguise(tuple(control), list(self._test), seed=seed)
        named = [*self._test.items(), *((hidden, control[real]) for real, hidden in self._disguises.items())]
        rows = [(row_id, path) for row_id, paths in named for path in paths]
        # Control rows lie anywhere in the batches of test rows.
        self._rows = [rows[position] for position in np.random.default_rng(seed).permutation(len(rows))]

    def run(self, accelerator: str) -> list[RunPrediction]:
        """Predict, write the files and return what was done."""
        told, jobs = self._told, self._jobs
        devices = usable_devices(accelerator, told.say)
        share = tuple(self._full_share(job) for job in jobs.values() if any(name == job.run.name for name, _ in self._models))
        strict = told.notes is None
        worklist = Worklist(len(self._rows), share, told.limit, devices=len(devices), say=told.say, strict=strict)
        views = {(self._models[run.name, run.folds[0]].spec, run.tta, run.merge): run for run in share}
        sizes = [len(plan_views([run.views_of(fold) for fold in run.folds], spec)) for (spec, *_), run in views.items()]
        total = sum(sizes) * len(self._rows) + sum(run.oof_rows for run in share)
        done = 0

        def advance(images: int) -> None:
            nonlocal done
            done = min(done + images, total)
            if told.progress is not None:
                told.progress(done, total)

        told.say(f"predicting {len(self._rows):,} images with {len(self._models)} models on {shown(devices)}")
        computes = {name: replace(job.compute, features=kept_features(job.compute, "test")) for name, job in jobs.items()}
        stream = Stream(self._rows, self._models, computes, worklist, told.notes, told.say, advance)
        outputs = Outputs(stream, self._test, self._disguises, predict_stream(stream, devices), devices[0])
        now = {run.name: run for run in worklist.share}
        return [outputs.write(jobs[run.name], run, now.get(run.name), self._left_out[run.name]) for run in share]

    def _load(self) -> dict[Key, LoadedModel]:
        """Return the models of all folds to predict; when tolerant, without those that cannot be used."""
        models: dict[Key, LoadedModel] = {}
        for name, job in self._jobs.items():
            for fold in job.todo:
                try:
                    models[name, fold.fold] = job.load(fold)
                except KaggleKitError as error:
                    if self._told.notes is None:
                        raise
                    self._told.say(f"run {name} goes on without {fold_text(fold.fold)}: {error}")
                    self._left_out[name].append(f"run {name} {fold_text(fold.fold)} (does not load)")
        if not models:
            raise DataError("none of the models can be loaded here; the lines above say why.")
        return models

    def _full_share(self, job: RunJob) -> RunShare:
        """Return all that is planned of a run, of the models that are there."""
        name, tta = job.run.name, job.tta
        folds = tuple(fold for run, fold in self._models if run == name)
        if tta != NO_VIEWS and self._told.notes is not None and importlib.util.find_spec("ttach") is None:
            self._told.say(f"ttach is not installed: run {name} is predicted without its {tta} views")
            self._left_out[name].append(f"{tta} views of run {name}")
            tta = NO_VIEWS
        spec = self._models[name, folds[0]].spec
        mixes = {} if tta == NO_VIEWS else job.mixes
        count = count_passes(list(mixes.values()) or [tta], spec)
        with_oof = "oof" in job.file_names(tta)
        again = [fold for fold in job.todo if with_oof and fold.fold != FULL and not job.holds(fold, "oof")]
        oof_rows = sum(len(job.oof_rows(fold)) for fold in again)
        return RunShare(name, folds, tta, job.merge, count, job.weight, oof_rows, mixes, job.compute.engine)

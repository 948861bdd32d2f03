"""Predicting whole runs: the test images and the control rows with every fold's model, and out-of-fold rows with views.

All runs go through one stream of rows, test and control images shuffled together, so that runs with the same input share the
decoding, and nothing in the stream can tell one kind of row from the other. `kk predict` and a kernel at Kaggle both come here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kaggle_kit import runs
from kaggle_kit.competition.records import Competition
from kaggle_kit.config import CacheConfig
from kaggle_kit.errors import ConfigError, DataError, KaggleKitError
from kaggle_kit.inference.control import CONTROL_ROWS, disguise
from kaggle_kit.inference.features import FeatureCache
from kaggle_kit.inference.job import RunJob, control_paths, make_job
from kaggle_kit.inference.predict import Compute, Progress, predict_with_pixels, prepared_as, with_origins
from kaggle_kit.inference.sources import prediction_pixels, prepare_size
from kaggle_kit.inference.time_limit import NO_VIEWS, RunShare, Share, Worklist
from kaggle_kit.inference.tta import make_views
from kaggle_kit.inference.workers import Key, Stream, StreamResult, predict_stream, read_notes, usable_devices
from kaggle_kit.models import LoadedModel
from kaggle_kit.results import Result
from kaggle_kit.runs import FoldRun, Run
from kaggle_kit.tables import FoldTable, Predictions, read_folds, shown
from kaggle_kit.workspace import Workspace

_LOG = logging.getLogger(__name__)
Say = Callable[[str], None]


@dataclass(frozen=True, repr=False)
class RunPrediction(Result):
    """What was done for one run.

    Attributes:
        predicted: folds whose files were written.
        current: folds whose files were already what this call would write.
        n_test, n_control: rows of each file.
        left_out: what there was no time for, or what could not be used, in words.
        unreadable: id -> reason of test images that could not be read and have no row.
        late: ids of test images that there was no time for and that have no row.
    """

    run: str
    predicted: tuple[int, ...]
    current: tuple[int, ...]
    n_test: int
    n_control: int
    left_out: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    late: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return what was written, what was there already and what was left out."""
        predicted, current = (", ".join(map(str, folds)) for folds in (self.predicted, self.current))
        already = f"; already there: fold {current}" if current else ""
        left_out = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return (
            f"{self.run}: predicted {self.n_test} test images and {self.n_control} control images "
            f"with the models of fold {predicted or 'none'}{already}{left_out}"
        )


def predict_runs(
    workspace: Workspace,
    competition: Competition,
    *,
    run: str | Sequence[str] | None = None,
    views: str = NO_VIEWS,
    merge: str = "mean",
    control: int | None = None,
    oof: bool = True,
    engine: str = "auto",
    cache: CacheConfig | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> list[RunPrediction]:
    """Predict the test images with every finished fold of ``run``, or of all runs that have one.

    Each fold folder gets ``test.parquet``; ``control.parquet``, training images that went through the very same pass hidden
    among the test images; and with views ``oof_views.parquet``, so that a blend compares like with like. Folds whose files
    are current are skipped.

    Args:
        run: a name, or several.
        control: number of control rows; None: :data:`~kaggle_kit.inference.control.CONTROL_ROWS`, 0: none.
        oof: whether to predict the out-of-fold rows again when ``views`` is not "none".
        engine: "auto" leaves the choice to each run's configuration.
        cache: settings of the store of decoded images; none: images are read from their files.
        time_limit: seconds; what there is no time for is left out by the rule of
            :mod:`~kaggle_kit.inference.time_limit`, and every file says so. Without one, all is done.
        progress: called with images done and of all.

    Raises:
        MissingFileError, DataError: there is no such run, or none with a finished fold; or a model is not that of its run.
        ConfigError: there are no such views, or the time does not suffice for one fold.
        ClassMappingError, FoldError: run, competition and models do not belong together.
        ImageError: images cannot be read; lists all of them.
    """
    started = time.monotonic()
    chosen = runs.choose_runs(workspace, [run] if isinstance(run, str) else list(run or ()))
    ready = [one for one in chosen if any(fold.finished for fold in one.folds)]
    for one in chosen:
        if ready and one not in ready:
            _LOG.warning("run %s has no finished fold; it is left out", one.name)
    sources = prediction_pixels(workspace, competition, ready, cache)
    jobs = []
    for one in ready or chosen[:1]:  # the first of those that are not ready says what is missing
        folds = read_folds(workspace.folds_path(one.record.folds))
        source = sources.get(prepare_size(one)) if sources else None
        compute = compute_of(workspace, one, engine=None if engine == "auto" else engine, source=source)
        rows = CONTROL_ROWS if control is None else control
        jobs.append(
            make_job(workspace, competition, one, folds, compute=compute, views=views, merge=merge, control=rows, oof=oof)
        )
    return predict_jobs(jobs, time_limit=time_limit, started=started, progress=progress)


def predict_run(
    workspace: Workspace,
    competition: Competition,
    run: Run,
    folds: FoldTable,
    *,
    views: str = NO_VIEWS,
    merge: str = "mean",
    control: int = CONTROL_ROWS,
    oof: bool = True,
    compute: Compute | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> RunPrediction:
    """Predict one run, as :func:`predict_runs` does; ``compute`` is by default what the run's configuration says."""
    compute = compute or compute_of(workspace, run)
    job = make_job(workspace, competition, run, folds, compute=compute, views=views, merge=merge, control=control, oof=oof)
    return predict_jobs([job], time_limit=time_limit, progress=progress)[0]


def compute_of(workspace: Workspace, run: Run, **changes: Any) -> Compute:
    """Return how to predict as ``run`` was trained; ``changes`` are fields of :class:`Compute`."""
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


def predict_jobs(
    jobs: Sequence[RunJob],
    *,
    time_limit: float | None = None,
    started: float | None = None,
    tolerant: bool = False,
    say: Say = _LOG.info,
    progress: Progress | None = None,
) -> list[RunPrediction]:
    """Predict runs together; see :func:`predict_runs`.

    Args:
        time_limit: seconds from ``started`` on, which is by default now, as ``time.monotonic()`` tells.
        tolerant: go on without what cannot be used: models that do not load, images that cannot be read, views whose package
            is missing, and rows that there is no time for. They then have no row in the files.
        say: is given each line for the reader.
    """
    for job in jobs:
        if current := [fold.fold for fold in job.run.finished_folds() if fold not in job.todo]:
            say(f"run {job.run.name}, views {job.views}: already predicted: fold {shown(map(str, current))}")
        if job.todo:
            job.keep_contents(_LOG.warning)
    done: dict[str, RunPrediction] = {}
    for accelerator in dict.fromkeys(job.compute.device for job in jobs):
        some = [job for job in jobs if job.compute.device == accelerator and job.todo]
        if some:
            with _notes(tolerant) as notes:
                limit = _Limit(time_limit, time.monotonic() if started is None else started, notes, say, progress)
                done |= {result.run: result for result in _Pass(some, limit).run(accelerator)}
    return [done.get(job.run.name) or _nothing_done(job) for job in jobs]


def _nothing_done(job: RunJob) -> RunPrediction:
    current = tuple(fold.fold for fold in job.run.finished_folds())
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
class _Limit:
    """What a pass is told: its time, whether it is tolerant (then there is a folder for notes), and who listens."""

    seconds: float | None
    started: float
    notes: Path | None
    say: Say
    progress: Progress | None


class _Pass:
    """Runs that go through one stream of rows."""

    def __init__(self, jobs: Sequence[RunJob], limit: _Limit) -> None:
        self._jobs = {job.run.name: job for job in jobs}
        self._limit = limit
        self._left_out: dict[str, list[str]] = {job.run.name: [] for job in jobs}
        self._models = self._load()
        first = jobs[0]
        seed = int(first.run.record.folds_fingerprint.ljust(8, "0")[:8], 16)
        control = control_paths(jobs)
        self._test = {row.id: row.path for row in first.competition.test}
        self._disguises = disguise(tuple(control), list(self._test), seed=seed)
        rows = [*self._test.items(), *((hidden, control[real]) for real, hidden in self._disguises.items())]
        # Control rows lie anywhere in the batches of test rows.
        self._rows = [rows[position] for position in np.random.default_rng(seed).permutation(len(rows))]
        self._paths = dict(rows)

    def run(self, accelerator: str) -> list[RunPrediction]:
        """Predict, write the files and return what was done."""
        limit, jobs = self._limit, self._jobs
        devices = usable_devices(accelerator, limit.say)
        share = tuple(self._full_share(job) for job in jobs.values() if any(name == job.run.name for name, _ in self._models))
        worklist = Worklist(
            len(self._rows), share, limit.seconds, devices=len(devices), say=limit.say, strict=limit.notes is None,
            started=limit.started,
        )  # fmt: skip
        specs = {(self._models[run.name, run.folds[0]].spec, run.views, run.merge) for run in share}
        total = len(specs) * len(self._rows) + sum(run.oof_rows for run in share)
        done = 0

        def advance(images: int) -> None:
            nonlocal done
            done = min(done + images, total)
            if limit.progress is not None:
                limit.progress(done, total)

        limit.say(f"predicting {len(self._rows):,} images with {len(self._models)} models on {shown(devices)}")
        computes = {name: replace(job.compute, features=_features(job.compute, "test")) for name, job in jobs.items()}
        stream = Stream(self._rows, self._models, computes, worklist, limit.notes, limit.say, advance)
        result = predict_stream(stream, devices)
        unreadable = {} if limit.notes is None else read_notes(limit.notes)
        return [self._finish(run, worklist, result, unreadable, devices[0], advance) for run in self._kept(share, worklist)]

    def _load(self) -> dict[Key, LoadedModel]:
        """Return the models of all folds to predict; when tolerant, without those that cannot be used."""
        models: dict[Key, LoadedModel] = {}
        for name, job in self._jobs.items():
            for fold in job.todo:
                try:
                    models[name, fold.fold] = job.load(fold)
                except KaggleKitError as error:
                    if self._limit.notes is None:
                        raise
                    self._limit.say(f"run {name} goes on without fold {fold.fold}: {error}")
                    self._left_out[name].append(f"run {name} fold {fold.fold} (does not load)")
        if not models:
            raise DataError("none of the models can be loaded here; the lines above say why.")
        return models

    def _full_share(self, job: RunJob) -> RunShare:
        """Return all that is planned of a run, of the models that are there."""
        name, views = job.run.name, job.views
        folds = tuple(fold for run, fold in self._models if run == name)
        if views != NO_VIEWS and self._limit.notes is not None and importlib.util.find_spec("ttach") is None:
            self._limit.say(f"ttach is not installed: run {name} is predicted without its {views} views")
            self._left_out[name].append(f"{views} views of run {name}")
            views = NO_VIEWS
        spec = self._models[name, folds[0]].spec
        count = 1 if views == NO_VIEWS else len(make_views(views, spec.height, spec.width))
        with_oof = "oof" in job.file_names(views)
        oof_rows = sum(len(job.oof_rows(fold)) for fold in job.todo) if with_oof else 0
        return RunShare(name, folds, views, job.merge, count, job.weight, oof_rows)

    def _kept(self, planned: Share, worklist: Worklist) -> list[tuple[RunShare, RunShare | None]]:
        """Return what was planned of each run beside what is left of it."""
        now = {run.name: run for run in worklist.share}
        return [(run, now.get(run.name)) for run in planned]

    def _finish(
        self,
        shares: tuple[RunShare, RunShare | None],
        worklist: Worklist,
        result: StreamResult,
        unreadable: Mapping[Path, str],
        device: str,
        advance: Callable[[int], None],
    ) -> RunPrediction:
        """Write the files of one run."""
        planned, now = shares
        job = self._jobs[planned.name]
        here = [what for what in worklist.left_out if what.split(",")[0].endswith(f"run {planned.name}")]
        left_out = [*self._left_out[planned.name], *here]
        summary = RunPrediction(
            planned.name, (), tuple(fold.fold for fold in job.run.finished_folds() if fold not in job.todo),
            len(job.competition.test), len(job.control_ids), tuple(left_out),
        )  # fmt: skip
        if now is None:
            return summary
        ids = [row_id for row_id, _ in self._rows]
        said = {fold: result.said[now.name, fold] for fold in now.folds}
        finite = np.all([np.isfinite(of_fold["probs"]).all(axis=1) for of_fold in said.values()], axis=0)
        bad = np.array([path in unreadable for _, path in self._rows], dtype=bool)
        late = [row_id for row_id, there in zip(ids, finite | bad, strict=True) if not there and row_id in self._test]
        if late and self._limit.notes is None:
            raise ConfigError(f"the time limit was reached before all images were predicted ({len(late):,} are left). "
                              "Nothing was written for this run; give more time.")  # fmt: skip
        rows = np.flatnonzero(finite & ~bad)
        without_oof = now.oof_passes > 0 and not worklist.affords(now.oof_passes)
        if without_oof:
            left_out.append(f"out-of-fold rows with views of run {now.name}")
            self._limit.say(f"short of time: going on without {left_out[-1]}")
        prepared = prepared_as(self._models[now.name, now.folds[0]].spec, job.compute.source)
        about = {"precision": result.rounding, "prepared": prepared, **self._about(planned, now, left_out)}
        for fold in job.todo:
            if fold.fold in said:
                self._write(job, fold, said[fold.fold][rows], rows, now.views, about, result)
            else:  # files of an earlier call would be taken for this one's
                for name in (runs.TEST, runs.CONTROL, runs.OOF_VIEWS):
                    (fold.path / name).unlink(missing_ok=True)
        if not without_oof and now.oof_passes:
            self._predict_oof(job, now, worklist, about, device, advance)
        here_bad = {row_id: unreadable[path] for row_id, path in self._test.items() if path in unreadable}
        return replace(summary, predicted=now.folds, left_out=tuple(left_out), unreadable=here_bad, late=tuple(late))

    def _about(self, planned: RunShare, now: RunShare, left_out: Sequence[str]) -> dict[str, Any]:
        """Return what the files say of what was left out: nothing where nothing was."""
        job = self._jobs[now.name]
        folds = [fold.fold for fold in job.todo if fold.fold not in now.folds]
        views = job.views if now.views != job.views else None
        if not (folds or views or left_out):
            return {}
        return {"left_out": {"views": views, "folds": folds, "of": len(planned.folds), "in_words": list(left_out)}}

    def _write(
        self,
        job: RunJob,
        fold: FoldRun,
        said: npt.NDArray[np.void],
        rows: npt.NDArray[np.int64],
        views: str,
        about: Mapping[str, Any],
        result: StreamResult,
    ) -> None:
        """Part the stream again: one file of test rows, one of control rows. ``said`` is of ``rows`` of the stream."""
        ids = tuple(self._rows[row][0] for row in rows)
        at_test = [at for at, row_id in enumerate(ids) if row_id in self._test]
        # Taken before the rows are parted, and kept in both files: `kk check` compares what arrived with what left.
        test_rows = runs.rows_fingerprint([ids[at] for at in at_test], said["probs"][at_test])
        about = {**about, "test_rows": test_rows}
        # The hash of an id's own image is looked up by the id, those of what the model saw came with the rows.
        pixels = with_origins(said["pixels"], result.origins, [self._paths[row_id] for row_id in ids])
        together = Predictions(ids, said["probs"], self._models[job.run.name, fold.fold].classes, {}, pixels)
        there = set(ids)
        real = [row_id for row_id in job.control_ids if self._disguises[row_id] in there]
        if job.control_ids:
            hidden = together.take([self._disguises[row_id] for row_id in real])
            control = Predictions(tuple(real), hidden.probs, hidden.classes, {}, hidden.pixels)
            job.write(fold, "control", control, views=views, about=about)
        else:
            (fold.path / runs.CONTROL).unlink(missing_ok=True)  # one of an earlier pass says nothing about this one
        test = together.take([row.id for row in job.competition.test if row.id in there])
        job.write(fold, "test", test, views=views, about=about)

    def _predict_oof(
        self,
        job: RunJob,
        now: RunShare,
        worklist: Worklist,
        about: Mapping[str, Any],
        device: str,
        advance: Callable[[int], None],
    ) -> None:
        """Predict the out-of-fold rows of each fold again, with the views."""
        compute = replace(job.compute, device=device, features=_features(job.compute, "train"))
        for fold in job.todo:
            if fold.fold not in now.folds:
                continue
            rows, before = job.oof_rows(fold), 0

            def count(done: int, of: int) -> None:
                nonlocal before
                advance(done - before)
                before = done
                if done < of and worklist.is_over:
                    raise TimeoutError

            model = self._models[now.name, fold.fold]
            try:
                probs, pixels = predict_with_pixels(
                    model, rows, views=now.views, merge=now.merge, compute=compute, progress=count
                )
            except TimeoutError:
                self._limit.say(f"out of time: no out-of-fold rows with views for fold {fold.fold} of run {now.name}")
                return
            oof = Predictions(tuple(row_id for row_id, _ in rows), probs, model.classes, {}, pixels)
            job.write(fold, "oof", oof, views=now.views, about={**about, "precision": compute.rounding})


def _features(compute: Compute, role: Literal["train", "test"]) -> FeatureCache | None:
    """Return what a probe kept for this kind of pass. A test pass never takes what was computed for training: its control rows
    are to show that test images go the same way."""
    return FeatureCache(compute.cache_dir, role) if compute.cache_dir is not None else None

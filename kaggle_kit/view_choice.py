"""``kk predict --tta auto``: which views pay for a run, found on its out-of-fold rows, and with which weights.

Each fold's views are chosen without the rows that the fold is validated on: nothing was chosen by its out-of-fold rows in these
views, and its model views test images in the very same way. What each fold says of its rows in each view is kept in the cache:
a choice that was stopped goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kaggle_kit import files, runs
from kaggle_kit.blending import parts_of
from kaggle_kit.blending.views import ViewRows, blend_views, choose_mix
from kaggle_kit.choices import VIEWS
from kaggle_kit.competition import Setup
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.images.decode import Progress
from kaggle_kit.inference.job import PredictOptions, RunJob, make_job
from kaggle_kit.inference.outputs import kept_features
from kaggle_kit.inference.predict import Predictor, prepared_as, probs_of, sees, with_origins
from kaggle_kit.inference.run import compute_of, engine_of
from kaggle_kit.inference.several import merged_pixels, owners_of
from kaggle_kit.inference.sources import prediction_pixels, prepare_size
from kaggle_kit.inference.tta import plan_views
from kaggle_kit.models import LoadedModel
from kaggle_kit.runs import FoldRun, Run
from kaggle_kit.tables import FoldTable, Predictions, read_folds, read_predictions
from kaggle_kit.views import NO_VIEWS, mix_text, parse_views, pool_of

_LOG = logging.getLogger(__name__)
_SHARE = 0.5
"""Of a time limit, what the choice may take."""


def choose_views(
    setup: Setup,
    names: Sequence[str],
    options: PredictOptions,
    *,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> float | None:
    """Choose the views of the runs ``names``, or of all that have a finished fold; writes ``views.json`` of each run, and
    out-of-fold rows with its views.

    Args:
        options: ``tta`` says which views are tried.
        time_limit: seconds of this and the prediction that follows; half of them may be spent here.

    Returns:
        The seconds that are left.

    Raises:
        MissingFileError, DataError, ClassMappingError, FoldError, ImageError, LockedError: as ``predict_runs``.
    """
    started = time.monotonic()
    chosen = [run for run in runs.choose_runs(setup.workspace, list(names)) if any(fold.finished for fold in run.folds)]
    pool, engine = pool_of(options.tta), engine_of(options.engine, setup.competition)
    with runs.predictions_held(chosen):
        sources = prediction_pixels(setup.workspace, setup.competition, chosen, setup.config.cache)
        for at, run in enumerate(chosen):
            share = None
            if time_limit is not None:
                share = (time_limit * _SHARE - (time.monotonic() - started)) / (len(chosen) - at)
            source = sources.get(prepare_size(run)) if sources else None
            compute = compute_of(setup.workspace, run, **engine, source=source)
            folds = read_folds(setup.workspace.folds_path(run.record.folds))
            plain = replace(options, tta=NO_VIEWS)
            job = make_job(setup.workspace, setup.competition, run, folds, plain, compute=compute)
            _Choice(setup, run, folds, job, options, progress).make(pool, share)
    return None if time_limit is None else max(time_limit - (time.monotonic() - started), 1.0)


@dataclass(frozen=True)
class _Choice:
    """The choice for one run.

    Attributes:
        job: of predicting the run without views.
    """

    setup: Setup
    run: Run
    folds: FoldTable
    job: RunJob
    options: PredictOptions
    progress: Progress | None

    def make(self, pool: Sequence[str], seconds: float | None) -> None:
        """Choose, unless that was done before."""
        finished = self.run.finished_folds()
        models = {fold.fold: files.file_fingerprint(fold.path / runs.MODEL) for fold in finished}
        contents = self.job.contents["train"].fingerprint
        inputs = files.fingerprint([models, contents, self.folds.fingerprint, list(pool), self.job.compute.rounding])
        try:
            before = runs.read_views(self.run.path)
        except (ConfigError, DataError):
            before = None
        if before is None or before.inputs != inputs:
            rows_of = self._rows_in_views(finished, pool, seconds)
            before = self._chosen(rows_of, models, inputs)
            runs.write_views(self.run.path, before)
            self._write_oof(finished, rows_of, before)
        gain = f"{before.metric} {before.after:.5f} out of fold, {before.before:.5f} without views"
        texts = "; ".join(f"fold {fold}: {mix}" for fold, mix in before.mixes.items())
        _LOG.info(
            "views of run %s: %s (%s)", self.run.name, before.name if len(set(before.mixes.values())) == 1 else texts, gain
        )
        if not before.honest:
            _LOG.warning("run %s has a single fold: its views were chosen by the very rows that score it", self.run.name)

    def _rows_in_views(
        self, finished: Sequence[FoldRun], pool: Sequence[str], seconds: float | None
    ) -> dict[int, dict[str, Predictions]]:
        """Return for each fold what its model says of its own rows in each view, as far as the time reaches."""
        found: dict[int, dict[str, Predictions]] = {}
        started, loaded = time.monotonic(), self.job.load(finished[0])
        pool = [name for name in pool if self._can(loaded, name)]
        for number, fold in enumerate(finished):
            model = loaded if number == 0 else self.job.load(fold)
            found[fold.fold] = self._of_fold(fold, model, pool, offset=number / len(finished), of=len(finished))
            needed = (time.monotonic() - started) * len(finished)
            if number == 0 and seconds is not None and needed > seconds:
                most = max(1, int(len(pool) * seconds / needed))
                _LOG.info("short of time: run %s is tried with %s only", self.run.name, ", ".join(pool[:most]))
                pool = pool[:most]
        return {fold: {name: said[name] for name in pool} for fold, said in found.items()}

    def _can(self, loaded: LoadedModel, name: str) -> bool:
        """Return whether the model can see images in the size of these views."""
        seen = plan_views([name], loaded.spec)[0].seen
        if seen == loaded.spec or sees(loaded, seen.size):
            return True
        _LOG.info("%s sees images of %dx%d only: views %s are not tried", loaded.name, *loaded.spec.size, name)
        return False

    def _of_fold(
        self, fold: FoldRun, model: LoadedModel, pool: Sequence[str], *, offset: float, of: int
    ) -> dict[str, Predictions]:
        """Return what a fold's model says of its rows in each view, from the cache as far as it is there."""
        rows, compute = self.job.oof_rows(fold), self.job.compute
        owners = owners_of(rows)
        about = [model.fingerprint, self.job.contents["train"].fingerprint, compute.rounding, list(owners.ids)]
        folder = self.setup.workspace.cache_dir / "views" / files.fingerprint(about)[:32]
        found = {}
        for name in pool:
            try:
                found[name] = read_predictions(folder / f"{name}.parquet")
            except DataError:
                continue
        lacking = [name for name in pool if name not in found]
        if lacking:
            # One model several times, each with views of its own: what is common to them is computed once.
            compute = replace(compute, features=kept_features(compute, "train"))
            predictor = Predictor([model] * len(lacking), rows, tta=lacking, compute=compute)
            said = predictor.predict(progress=self._part(offset, of))
            for name, own in zip(lacking, said, strict=True):
                pixels = merged_pixels(with_origins(own["pixels"], predictor.origins, [path for _, path in rows]), owners)
                first = plan_views(lacking, model.spec)[0].spec
                meta = {"views": name, "prepared": prepared_as(first, compute.source)}
                probs = self.job.merged(fold, probs_of(own, len(model.classes)), owners)
                found[name] = Predictions(owners.ids, probs, model.classes, meta, pixels)
                found[name].write(folder / f"{name}.parquet")
        return found

    def _part(self, offset: float, of: int) -> Callable[[int, int], None]:
        """Return the progress of one fold as that of all."""

        def advance(done: int, total: int) -> None:
            if self.progress is not None:
                self.progress(round(offset * of * total) + done, of * total)

        return advance

    def _chosen(self, rows_of: dict[int, dict[str, Predictions]], models: dict[int, str], inputs: str) -> runs.ViewsRecord:
        """Choose the views of each fold by the rows of the others."""
        names = tuple(next(iter(rows_of.values())))
        averaged = [runs.average_by_id([said[name] for said in rows_of.values()], self.run.classes) for name in names]
        at = self.folds.rows_of(averaged[0].ids)
        everything = ViewRows(
            names,
            np.stack([one.probs for one in averaged]),
            self.folds.truth(at),
            parts_of(self.folds, at),
            self.folds.groups[at],
            self.setup.metric,
            self.setup.competition.submission.score_threshold,
        )
        honest = len(rows_of) > 1 and len(np.unique(everything.parts)) > 1
        mixes, viewed = {}, []
        for fold, said in rows_of.items():
            own = np.isin(everything.groups, self.folds.groups[self.folds.rows_of(said[names[0]].ids)])
            others = np.flatnonzero(~own) if honest else np.arange(len(own))
            mixes[fold] = mix_text(choose_mix(everything.take(others)))
            viewed.append(_viewed(said, mixes[fold]))
        after = runs.average_by_id(viewed, self.run.classes)
        return runs.ViewsRecord(
            mixes=mixes,
            pool=names,
            inputs=inputs,
            models=models,
            metric=everything.metric.name,
            before=everything.score(everything.stack[0]),
            after=everything.score(after.take(averaged[0].ids).probs),
            honest=honest,
            versions=files.versions(),
        )

    def _write_oof(
        self, finished: Sequence[FoldRun], rows_of: dict[int, dict[str, Predictions]], record: runs.ViewsRecord
    ) -> None:
        """Write the out-of-fold rows with the chosen views, which are known already."""
        job = make_job(
            self.setup.workspace, self.setup.competition, self.run, self.folds, self.options, compute=self.job.compute
        )
        if "oof" not in job.file_names(job.tta):
            return
        for fold in finished:
            viewed = _viewed(rows_of[fold.fold], record.mixes[fold.fold])
            about = {"precision": job.compute.rounding, "prepared": viewed.meta["prepared"]}
            job.write(fold, "oof", viewed, tta=job.tta, about=about)


def _viewed(said: dict[str, Predictions], text: str) -> Predictions:
    """Return the rows of a fold with views ``text``, from those in each view."""
    mix = parse_views(text)
    first = min(mix, key=lambda name: VIEWS[name].scale != 1)  # whose pixels the hash is of
    stack: list[npt.NDArray[np.float32]] = [one.probs for one in said.values()]
    probs = blend_views(stack, tuple(said), mix)
    return Predictions(said[first].ids, probs, said[first].classes, said[first].meta, said[first].pixels)

"""From what a pass said of all rows to the files of each fold, and what is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kaggle_kit import runs
from kaggle_kit.choices import INT8
from kaggle_kit.errors import ConfigError
from kaggle_kit.fold_names import FULL, fold_name
from kaggle_kit.inference.features import FeatureCache
from kaggle_kit.inference.job import RunJob
from kaggle_kit.inference.predict import Compute, Said, predict_with_pixels, prepared_as, probs_of
from kaggle_kit.inference.several import merged_pixels, owners_of
from kaggle_kit.inference.time_limit import RunShare
from kaggle_kit.inference.tta import plan_views
from kaggle_kit.inference.workers import OutOfTimeError, Stream, StreamResult, read_notes
from kaggle_kit.results import Result
from kaggle_kit.runs import FoldRun
from kaggle_kit.tables import Predictions


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
        predicted, current = (", ".join(map(fold_name, folds)) for folds in (self.predicted, self.current))
        already = f"; already there: fold {current}" if current else ""
        left_out = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return (
            f"{self.run}: predicted {self.n_test} test images and {self.n_control} control images "
            f"with the models of fold {predicted or 'none'}{already}{left_out}"
        )


@dataclass(frozen=True)
class Outputs:
    """What came out of a pass.

    Attributes:
        stream: what went in.
        test: test id -> its images.
        disguises: id of a control row -> the id that it had in the stream.
        result: what the models said.
        device: where out-of-fold rows are predicted.
    """

    stream: Stream
    test: Mapping[str, tuple[Path, ...]]
    disguises: Mapping[str, str]
    result: StreamResult
    device: str

    @cached_property
    def unreadable(self) -> dict[Path, str]:
        """Files that cannot be read -> reason."""
        return {} if self.stream.notes is None else read_notes(self.stream.notes)

    def write(self, job: RunJob, planned: RunShare, now: RunShare | None, unusable: Sequence[str]) -> RunPrediction:
        """Write the files of one run.

        Args:
            planned: what was to be computed.
            now: what was computed of all rows; None: nothing.
            unusable: what could not be used, in words.

        Raises:
            ConfigError: the time ended before all rows were done, and rows may not be left out.
        """
        worklist = self.stream.worklist
        left_out = [*unusable, *(what for what in worklist.left_out if what.split(",")[0].endswith(f"run {planned.name}"))]
        current = tuple(fold.fold for fold in job.run.finished_models() if fold not in job.todo)
        counts = len(job.competition.test), len(job.control_ids)
        if now is None:
            return RunPrediction(job.run.name, (), current, *counts, left_out=tuple(left_out))
        rows, late = self._rows_done(now)
        with_oof = now.oof_passes > 0
        if with_oof and not worklist.affords(now.oof_passes):
            with_oof = False
            left_out.append(f"out-of-fold rows with views of run {now.name}")
            self.stream.say(f"short of time: going on without {left_out[-1]}")
        about = {"precision": self.result.rounding, **_stated(job, now, left_out)}
        origin = self._origin(job, now, now.folds)
        for fold in job.todo:
            if fold.fold in now.folds:
                self._write_fold(job, fold, rows, tta=now.tta, about={**about, **origin})
            else:  # files of an earlier call would be taken for this one's
                for name in (runs.TEST, runs.CONTROL, runs.OOF_VIEWS):
                    (fold.path / name).unlink(missing_ok=True)
        if with_oof:
            self._predict_oof(job, now, about)
        unreadable = {
            row_id: self.unreadable[paths[0]]
            for row_id, paths in (self.test.items() if self.unreadable else ())
            if all(path in self.unreadable for path in paths)  # of several, the others speak for the id
        }
        return RunPrediction(job.run.name, now.folds, current, *counts, tuple(left_out), unreadable, late)

    def _rows_done(self, now: RunShare) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
        """Return the rows that all folds have predicted, of ids of which no image is left, and the test ids that there was no
        time for."""
        said = [self.result.said[now.name, fold] for fold in now.folds]
        done = np.all([np.isfinite(of_fold["probs"]).all(axis=1) for of_fold in said], axis=0)
        bad = np.array([path in self.unreadable for _, path in self.stream.rows], dtype=bool)
        missing = [self.stream.rows[row][0] for row in np.flatnonzero(~(done | bad)).tolist()]
        if missing and self.stream.notes is None:
            raise ConfigError(
                f"the time limit was reached before all images were predicted with run {now.name} ({len(missing):,} are "
                "left). Nothing was written for it; give more time."
            )
        late = set(missing)
        whole = np.array([row_id not in late for row_id, _ in self.stream.rows], dtype=bool)
        return np.flatnonzero(done & ~bad & whole), tuple(row_id for row_id in dict.fromkeys(missing) if row_id in self.test)

    def _origin(self, job: RunJob, now: RunShare, folds: Sequence[int]) -> dict[str, Any]:
        """Return what images were prepared by, as the hash of their pixels was taken: under one such name an id has the same
        pixels everywhere."""
        spec = self.stream.models[now.name, folds[0]].spec
        first = plan_views([now.views_of(fold) for fold in folds], spec)[0]
        return {"prepared": prepared_as(first.spec, job.compute.source)}

    def _write_fold(
        self, job: RunJob, fold: FoldRun, rows: npt.NDArray[np.int64], *, tta: str, about: Mapping[str, Any]
    ) -> None:
        """Part the stream again: one file of test rows, one of control rows. ``rows`` are those of the stream to write."""
        said: Said = self.result.said[job.run.name, fold.fold][rows]
        owners = owners_of(self.stream.rows[row] for row in rows.tolist())
        classes = self.stream.models[job.run.name, fold.fold].classes
        ids, probs = owners.ids, job.merged(fold, probs_of(said, len(classes)), owners)
        at_test = [at for at, row_id in enumerate(ids) if row_id in self.test]
        # Taken before the rows are parted, and kept in both files: `kk check` compares what arrived with what left.
        test_rows = runs.rows_fingerprint([ids[at] for at in at_test], probs[at_test])
        about = {**about, "test_rows": test_rows}
        seen = merged_pixels(said["pixels"], owners)
        pixels = np.column_stack([seen, self._own_pixels(job, fold, ids)])
        together = Predictions(ids, probs, classes, {}, pixels)
        there = set(ids)
        if job.control_ids:
            real = tuple(row_id for row_id in job.control_ids if self.disguises[row_id] in there)
            hidden = together.take([self.disguises[row_id] for row_id in real])
            control = Predictions(real, hidden.probs, hidden.classes, {}, hidden.pixels)
            job.write(fold, "control", control, tta=tta, about=about)
        else:
            (fold.path / runs.CONTROL).unlink(missing_ok=True)  # one of an earlier pass says nothing about this one
        test = together.take([row_id for row_id in self.test if row_id in there])
        job.write(fold, "test", test, tta=tta, about=about)

    def _own_pixels(self, job: RunJob, fold: FoldRun, ids: Sequence[str]) -> npt.NDArray[np.uint64]:
        """Return the hashes (N,) of the ids' own images, looked up by the ids' files; those of what the model saw came with the
        rows of the stream."""
        files_of = {**self.test, **{hidden: job.train_rows[real].paths for real, hidden in self.disguises.items()}}
        images = [(row_id, path) for row_id in ids for path in files_of[row_id] if path not in self.unreadable]
        origins = self.result.origins_of((job.run.name, fold.fold))
        hashes = np.array([origins.get(str(path), 0) for _, path in images], dtype=np.uint64)
        return merged_pixels(hashes, owners_of(images))

    def _predict_oof(self, job: RunJob, now: RunShare, about: Mapping[str, Any]) -> None:
        """Predict the out-of-fold rows of each fold again, with the views, for as long as there is time."""
        compute = replace(job.compute, device=self.device, features=kept_features(job.compute, "train"))
        for fold in (one for one in job.todo if one.fold in now.folds and one.fold != FULL and not job.holds(one, "oof")):
            rows, model = job.oof_rows(fold), self.stream.models[now.name, fold.fold]
            try:
                probs, pixels = predict_with_pixels(
                    model, rows, tta=now.views_of(fold.fold), merge=now.merge, compute=compute, progress=self.stream.counter()
                )
            except OutOfTimeError:
                self.stream.say(f"out of time: no out-of-fold rows with views for fold {fold.fold} of run {now.name}")
                return
            owners = owners_of(rows)
            merged_probs = job.merged(fold, probs, owners)
            oof = Predictions(owners.ids, merged_probs, model.classes, {}, merged_pixels(pixels, owners))
            origin = self._origin(job, now, [fold.fold])
            job.write(fold, "oof", oof, tta=now.tta, about={**about, **origin, "precision": compute.rounding})


def _stated(job: RunJob, now: RunShare, left_out: Sequence[str]) -> dict[str, Any]:
    """Return what the files say of what was left out: nothing where nothing was."""
    folds = [fold.fold for fold in job.todo if fold.fold not in now.folds]
    views = job.tta if now.tta != job.tta else None
    return {"left_out": {"views": views, "folds": folds, "in_words": list(left_out)}} if folds or left_out else {}


def kept_features(compute: Compute, role: Literal["train", "test"]) -> FeatureCache | None:
    """Return what a probe kept for this kind of pass. A test pass never takes what was computed for training: its control rows
    are to show that test images go the same way. Nor does a pass in 8-bit integers, which is to be of one kind."""
    return FeatureCache(compute.cache_dir, role) if compute.cache_dir is not None and compute.engine != INT8 else None

"""``kk blend``: runs become a submission, with a record of how it was made and what it scored.

Reads the artifacts of runs only: no model is run, no image is opened. Weights are found on out-of-fold rows; beside the score
on those very rows stands the cross-fitted one, where each row is blended by weights found without its fold.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit import figures, files
from kaggle_kit import runs as run_files
from kaggle_kit.blending import (
    Blender,
    CrossFit,
    Fitted,
    cross_fit,
    cross_fit_thresholds,
    get_blender,
    tune_thresholds,
)
from kaggle_kit.blending.alignment import Aligned
from kaggle_kit.blending.names import claimed_path, require_free
from kaggle_kit.blending.open_class import opened
from kaggle_kit.blending.sources import (
    OutOfFoldRows,
    align_test,
    common_folds,
    gather,
    require_unseen_rows,
    test_rows,
    usable_runs,
)
from kaggle_kit.check import CheckReport, check_submission
from kaggle_kit.check import record_path as verdict_path
from kaggle_kit.competition import Competition, Setup
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.results import Result, plain
from kaggle_kit.runs import BlendedRun, BlendRecord, BlendScores, ControlFile, Run, write_blend_record
from kaggle_kit.runs.plots import Plots
from kaggle_kit.runs.scored import Scored, scored_blend
from kaggle_kit.submission import sample_header, write_submission
from kaggle_kit.tables import FoldTable, Predictions, shown
from kaggle_kit.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOG = logging.getLogger(__name__)
OOF_SUFFIX = ".oof.parquet"
MADE_FROM = ("name", "competition", "competition_fingerprint", "folds_fingerprint", "views")
"""Entries of the record that the prediction files carry, too."""
ONLY_SCORED = "without test rows the blend is scored out of fold only, and no submission is written"
Thresholds = Literal["config", "tuned"]


@dataclass(frozen=True)
class RunScore:
    """One run of a blend.

    Attributes:
        score: of its out-of-fold rows, those that all runs of the blend have.
        weight: its share of the blend; None for methods that have no such thing.
        folds: its finished folds; of ``n_splits``.
        full: whether a model of all data takes part in the test rows.
        views: of its test predictions; ``oof_views`` of the out-of-fold rows that it was judged by.
    """

    name: str
    score: float
    weight: float | None
    folds: tuple[int, ...]
    n_splits: int
    views: str
    oof_views: str
    full: bool = False


@dataclass(frozen=True, repr=False)
class BlendResult(Result, Plots):
    """What :func:`blend` made.

    Attributes:
        path: the submission; its record, probabilities, out-of-fold rows and control rows lie beside it. None where the blend
            was only scored.
        oof: the cross-fitted out-of-fold rows; the record lies beside them.
        description: the method and what it learnt.
        notes: what a reader should know: unfinished folds, unlike views, left-out rows.
        report: what ``kk check`` says; None without a submission. The files stay, whatever it says.
    """

    path: Path | None
    method: str
    description: str
    runs: tuple[RunScore, ...]
    scores: BlendScores
    thresholds: tuple[float, ...] | None
    notes: tuple[str, ...]
    record: BlendRecord
    report: CheckReport | None
    oof: Path

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def passed(self) -> bool:
        return self.report is None or self.report.passed

    def scored(self) -> Scored:
        """Return the cross-fitted out-of-fold rows."""
        return scored_blend(Workspace(self.oof.parent.parent), self.name)

    def plot_weights(self) -> Figure:
        """Return the weights of the runs; raises DataError for a method that has none."""
        known = {run.name: run.weight for run in self.runs if run.weight is not None}
        if not known:
            raise DataError(f"the method {self.method!r} gives runs no weights; it learnt: {self.description}")
        return figures.plot_weights(list(known), list(known.values()))

    @property
    def exit_code(self) -> int:
        """What ``kk blend`` ends with: as ``kk check`` would."""
        return 0 if self.report is None else self.report.exit_code

    @property
    def parts(self) -> tuple[Result, ...]:
        return () if self.report is None else (self.report,)

    def table(self) -> pd.DataFrame:
        """Return a row a run: its folds, its views, its out-of-fold score and its weight."""
        rows = [
            {
                "run": run.name,
                "folds": f"{len(run.folds)}/{run.n_splits}{' + full' if run.full else ''}",
                "views": run.views,
                f"oof {self.scores.metric}": run.score,
                "weight": "" if run.weight is None else f"{run.weight:.3f}",
            }
            for run in self.runs
        ]
        return pd.DataFrame(rows)

    def describe(self) -> str:
        """Return the method, the score where it was fitted and the honest one, and what a reader should know."""
        scores = self.scores
        lines = [
            self.description,
            f"out-of-fold {scores.metric} of the blend on {scores.n} rows: "
            f"{scores.in_sample:.5f} where its weights were fitted,",
            f"  {scores.cross_fitted:.5f} cross-fitted (each row blended by weights found without its fold)",
        ]
        tried = self.record.blend.get("parameters", {}).get("scores", {})
        if tried:
            listed = ", ".join(f"{name} {score:.5f}" for name, score in tried.items())
            lines.append(f"methods, cross-fitted within all rows: {listed}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Return the blend's scores, its runs and its check."""
        return {
            "name": self.name,
            "path": None if self.path is None else self.path.as_posix(),
            "method": self.method,
            "description": self.description,
            **plain(self.scores),
            "runs": plain(self.runs),
            "thresholds": plain(self.thresholds),
            "notes": list(self.notes),
            "check": None if self.report is None else self.report.to_dict(),
        }


@dataclass(frozen=True)
class _Answers:
    """Blended test rows, and control rows where every model has some."""

    blended: Predictions
    control: Predictions | None


@dataclass(frozen=True)
class _Fit:
    """A fitted blend with its scores."""

    fitted: Fitted
    cross: CrossFit
    scores: BlendScores
    run_scores: tuple[float, ...]
    thresholds: npt.NDArray[np.float64] | None


def blend(
    setup: Setup,
    *,
    runs: Sequence[str] = (),
    method: str | Blender = "mean",
    name: str | None = None,
    seed: int = 0,
    thresholds: Thresholds = "config",
    force: bool = False,
) -> BlendResult:
    """Blend runs to ``submissions/<name>.csv`` in the form of the sample submission, and check it.

    Beside it are written ``<name>.json`` (how it was made), ``<name>.probs.parquet`` (blended test probabilities),
    ``<name>.oof.parquet`` (cross-fitted out-of-fold rows) and, when ``kk predict`` left control rows, ``<name>.control.csv``.
    Without test images the blend is only scored: record and out-of-fold rows are written, and no submission.

    Args:
        runs: names; all runs with a finished fold when none are given.
        method: an entry of BLENDERS, or a blender that learns in another way.
        name: by default the next of ``blend-0001``, ``blend-0002`` …; ``submissions/latest`` names the last.
        seed: of methods that draw.
        thresholds: multi-label: "config" takes the threshold of ``kk.yaml``, "tuned" finds one a class out of fold.
        force: write over a submission of that name, unless it was sent to Kaggle.

    Raises:
        ConfigError: unknown method, or thresholds are tuned where none are used.
        MissingFileError: a run, or one of its files, is missing.
        FoldError: the runs were trained on different fold tables.
        ClassMappingError: a run has other classes than the competition.
        DataError: the runs hold different rows, or test predictions of another test set.
        SubmissionError: the predictions do not fit the sample submission, or there is a submission of that name.
        LockedError: one of the runs is being predicted.
    """
    workspace, competition = setup.workspace, setup.competition
    blender = method if isinstance(method, Blender) else get_blender(method)
    if competition.open_class is not None:
        blender = opened(blender, competition.classes.index(competition.open_class))
    if name is not None:  # known before the work; looked at again when it is written
        require_free(workspace.submission_path(name), force=force)
    _require_thresholds_make_sense(thresholds, competition)
    chosen, notes = usable_runs(workspace, runs)
    with run_files.predictions_held(chosen):  # what is blended is what is checked
        folds = common_folds(workspace, chosen)
        require_unseen_rows(workspace, competition, chosen, folds)
        test, views = test_rows(workspace, competition, chosen)
        oof_rows = gather(workspace, competition, chosen, folds, views, seed, notes)
        fit = _fit(blender, oof_rows, setup, seed=seed, tuned=thresholds == "tuned")
        notes += _note_of_grades(blender, oof_rows, setup, fit)
        scores = _run_scores(chosen, fit, views, oof_rows.oof_views)
        answers = _answer(workspace, competition, chosen, fit.fitted, test, notes)
        with claimed_path(workspace, name, force=force, latest=answers is not None) as path:
            about = replace(_about(competition, chosen, scores, folds, fit, seed), name=path.stem, notes=tuple(notes))
            if answers is None:
                record = _write_scores(path, oof_rows, fit, about)
            else:
                record = _write(path, competition, answers, oof_rows, fit, about)
        report = None
        if answers is not None:
            report = check_submission(path, workspace=workspace, config=setup.config, competition=competition)
    for note in notes:
        _LOG.warning(note)
    return BlendResult(
        path=None if answers is None else path,
        method=blender.name,
        description=fit.fitted.describe(),
        runs=scores,
        scores=fit.scores,
        thresholds=record.thresholds,
        notes=tuple(notes),
        record=record,
        report=report,
        oof=path.with_suffix(OOF_SUFFIX),
    )


def _answer(
    workspace: Workspace,
    competition: Competition,
    chosen: Sequence[Run],
    fitted: Fitted,
    test: Aligned | None,
    notes: list[str],
) -> _Answers | None:
    """Blend what the runs say of test and control rows; None without test rows. Adds to ``notes`` what is missing."""
    if test is None:
        notes.append(ONLY_SCORED)
        return None
    blended = Predictions(test.ids, fitted.apply(test.stack), competition.classes, {})
    return _Answers(blended, _blend_control(workspace, competition, chosen, fitted, notes))


def _run_scores(
    chosen: Sequence[Run], fit: _Fit, views: Mapping[str, str], oof_views: Mapping[str, str]
) -> tuple[RunScore, ...]:
    weights: Sequence[float | None] = fit.fitted.weights or [None] * len(chosen)
    return tuple(
        RunScore(
            run.name,
            score,
            weight,
            tuple(fold.fold for fold in run.finished_folds()),
            run.record.n_splits,
            views[run.name],
            oof_views[run.name],
            run.full.finished,
        )
        for run, score, weight in zip(chosen, fit.run_scores, weights, strict=True)
    )


def _require_thresholds_make_sense(thresholds: str, competition: Competition) -> None:
    if thresholds not in ("config", "tuned"):
        raise ConfigError(f"thresholds must be 'config' or 'tuned', got {thresholds!r}.")
    if thresholds == "tuned" and competition.submission.form != "labels":
        raise ConfigError(f"thresholds are for submissions of form 'labels', this one is {competition.submission.form!r}.")


def _fit(blender: Blender, oof_rows: OutOfFoldRows, setup: Setup, *, seed: int, tuned: bool) -> _Fit:
    """Fit on all rows, and cross-fit for the honest score."""
    stack, truth = oof_rows.aligned.stack, oof_rows.truth
    metric = setup.metric
    threshold: npt.ArrayLike = setup.competition.submission.score_threshold
    fitted = blender.fit(stack, truth, metric, seed=seed, threshold=threshold)
    cross = cross_fit(blender, stack, truth, oof_rows.parts, metric, seed=seed, threshold=threshold)
    run_scores = tuple(metric(truth, probs, threshold=threshold) for probs in stack)
    honest, thresholds = cross.score, None
    if tuned:
        # On cross-fitted rows: in-sample ones would be more certain than test rows are, and thresholds too high.
        thresholds = tune_thresholds(cross.probs, truth, metric)
        threshold, honest = thresholds, cross_fit_thresholds(cross.probs, truth, oof_rows.parts, metric)
    in_sample = metric(truth, fitted.apply(stack), threshold=threshold)
    return _Fit(fitted, cross, BlendScores(metric.name, in_sample, honest, len(truth)), run_scores, thresholds)


def _note_of_grades(blender: Blender, oof_rows: OutOfFoldRows, setup: Setup, fit: _Fit) -> list[str]:
    """Say that the method grades would score better, where the order of classes counts."""
    if not setup.metric.ordered or blender.name in ("grades", "auto") or setup.competition.multilabel:
        return []
    other = cross_fit(get_blender("grades"), oof_rows.aligned.stack, oof_rows.truth, oof_rows.parts, setup.metric)
    if not setup.metric.better(other.score, fit.cross.score):
        return []
    return [
        f"metric {setup.metric.name} counts how far a class is off: --method grades scores {other.score:.5f} cross-fitted, "
        f"{fit.cross.score:.5f} this way"
    ]


def _blend_control(
    workspace: Workspace, competition: Competition, chosen: Sequence[Run], fitted: Fitted, notes: list[str]
) -> Predictions | None:
    """Control rows through the same blend; None when a fold has none."""
    without = [
        run.name
        for run in chosen
        if any(not (fold.path / run_files.CONTROL).exists() for fold in run_files.predicted_models(run))
    ]
    if without:
        notes.append(f"no control submission: {shown(without)} lack control rows; `kk predict` makes them")
        return None
    aligned, _ = align_test(workspace, competition, chosen, run_files.CONTROL, common=True)
    return Predictions(aligned.ids, fitted.apply(aligned.stack), competition.classes, {"kind": "blend-control"})


def _about(
    competition: Competition, chosen: Sequence[Run], scores: Sequence[RunScore], folds: FoldTable, fit: _Fit, seed: int
) -> BlendRecord:
    """The record, without what is known only when the files are written."""
    views = {score.views for score in scores}
    return BlendRecord(
        competition=competition.name,
        competition_fingerprint=competition.fingerprint,
        test_fingerprint=competition.test_fingerprint,
        task=competition.task,
        form=competition.submission.model_dump(mode="json"),
        folds=chosen[0].record.folds,
        folds_fingerprint=folds.fingerprint,
        runs=tuple(_run_entry(run, score) for run, score in zip(chosen, scores, strict=True)),
        method=fit.fitted.blender.name,
        blend=fit.fitted.to_dict(),
        thresholds=None if fit.thresholds is None else tuple(fit.thresholds.tolist()),
        scores=fit.scores,
        views=views.pop() if len(views) == 1 else "mixed",
        seed=seed,
        classes=competition.classes.names,
        classes_fingerprint=competition.classes.fingerprint,
        versions=files.versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _run_entry(run: Run, score: RunScore) -> BlendedRun:
    return BlendedRun(
        name=run.name,
        weight=score.weight,
        score=score.score,
        folds=score.folds,
        n_splits=score.n_splits,
        views=score.views,
        oof_views=score.oof_views,
        folds_fingerprint=run.record.folds_fingerprint,
        config_fingerprint=run.record.config_fingerprint,
        models={fold.fold: _model_fingerprint(fold) for fold in run.finished_models()},
    )


def _model_fingerprint(fold: run_files.FoldRun) -> str | None:
    """sha256 of a fold's model; None when the file was cleared away and its record does not say."""
    if fold.record.model_fingerprint is not None:
        return fold.record.model_fingerprint
    model = fold.path / run_files.MODEL
    return files.file_fingerprint(model) if model.exists() else None


def _write(
    path: Path,
    competition: Competition,
    answers: _Answers,
    oof_rows: OutOfFoldRows,
    fit: _Fit,
    about: BlendRecord,
) -> BlendRecord:
    """Write the submission and what belongs to it; returns the record."""
    blended, control = answers.blended, answers.control
    header = sample_header(competition.sample_path) if competition.sample_path else []

    def write(target: Path, predictions: Predictions, ids: Sequence[str]) -> str:
        form, classes = competition.submission, competition.classes
        write_submission(target, predictions, form, classes=classes, ids=ids, columns=header, thresholds=fit.thresholds)
        return files.file_fingerprint(target)

    test = Predictions(blended.ids, blended.probs, blended.classes, {"kind": "blend", **_made_from(about)})
    oof = _oof_table(oof_rows, fit, about)
    with files.atomic_path(path) as temporary:  # it appears last: a submission that is there is there with all its files
        sha256 = write(temporary, blended, [row.id for row in competition.test])
        # Of an earlier blend, and no longer true of this one.
        control_path = path.with_suffix(".control.csv")
        for stale in (control_path, verdict_path(path)):
            stale.unlink(missing_ok=True)
        written = None if control is None else ControlFile(len(control), write(control_path, control, control.ids))
        tables = {}
        for suffix, rows in ((".probs.parquet", test), (OOF_SUFFIX, oof)):
            rows.write(path.with_suffix(suffix))
            tables[suffix] = files.file_fingerprint(path.with_suffix(suffix))
        record = replace(about, n_test=len(blended), sha256=sha256, control=written, tables=tables)
        write_blend_record(path, record)
    return record


def _write_scores(path: Path, oof_rows: OutOfFoldRows, fit: _Fit, about: BlendRecord) -> BlendRecord:
    """Write what a blend leaves behind that is only scored: its out-of-fold rows, then the record; returns that."""
    for stale in (path, path.with_suffix(".probs.parquet"), path.with_suffix(".control.csv"), verdict_path(path)):
        stale.unlink(missing_ok=True)
    target = path.with_suffix(OOF_SUFFIX)
    _oof_table(oof_rows, fit, about).write(target)
    record = replace(about, tables={OOF_SUFFIX: files.file_fingerprint(target)})
    write_blend_record(path, record)
    return record


def _oof_table(oof_rows: OutOfFoldRows, fit: _Fit, about: BlendRecord) -> Predictions:
    aligned = oof_rows.aligned
    return Predictions(aligned.ids, fit.cross.probs, aligned.classes, {"kind": "blend-oof", **_made_from(about)})


def _made_from(about: BlendRecord) -> dict[str, Any]:
    return {key: getattr(about, key) for key in MADE_FROM}

"""A run distilled: its folds' models taught to one, which is scored out of fold as every run is."""

from __future__ import annotations

from dataclasses import replace

from kaggle_kit.competition import Setup
from kaggle_kit.errors import TrainingError
from kaggle_kit.export.members import find_members
from kaggle_kit.export.run import ExportOptions, ExportResult, export_models, require_writable
from kaggle_kit.fold_names import FULL, fold_name
from kaggle_kit.live import make_reporter
from kaggle_kit.runs import Run
from kaggle_kit.training import TrainOptions, train_run


def export_distilled(student: Setup, teacher: Run, options: ExportOptions) -> ExportResult:
    """Train a run that learns from ``teacher``, fold by fold and then on all data, and write the model of all data.

    The same call goes on where a killed one ended; what is finished is not trained again.

    Args:
        student: with the configuration of :func:`~kaggle_kit.teachers.student_of`.

    Raises:
        TrainingError, KeyboardInterrupt: see :func:`~kaggle_kit.training.train_run`.
        ExportError and others: see :func:`~kaggle_kit.export.export_models`.
    """
    require_writable(options)
    find_members(student, teacher.name)  # raises what could not be exported either
    name = f"{teacher.name}-distilled-{student.config.run.fingerprint[:6]}"
    for folds in [fold.fold for fold in teacher.finished_folds()], fold_name(FULL):
        summary = train_run(student, TrainOptions(name, folds), reporter=make_reporter())
        if summary.stopped:
            raise TrainingError(f"stopped early: {summary.stopped}. The same command goes on from the checkpoint.")
    return export_models(student, name, replace(options, teacher=teacher.name))

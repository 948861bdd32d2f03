"""The score as the competition would compute it, when the answers are at hand: a hold-out's, or the demo's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.check.case import Case
from kaggle_kit.check.readback import Cells, read_answers, read_cells, widened
from kaggle_kit.check.report import FAILED, PASSED, Check
from kaggle_kit.errors import DataError
from kaggle_kit.tables import shown

Array = npt.NDArray[Any]
UNUSED = "usage"


def check_grader(case: Case) -> Iterator[Check]:
    """The metric of the submission's cells against the answers, joined by id."""
    name = "grader"
    if case.answers_path is None:
        return
    ids, hot = read_truth(case, read_cells(case.note(case.answers_path)))
    known = set(case.answers.ids)
    missing = [row_id for row_id in ids if row_id not in known]
    if missing:
        text = f"{len(missing)} of {len(ids)} ids of the answers are not in the submission: {shown(missing)}"
        yield Check(name, FAILED, text, "Kaggle would refuse it. Write the ids of the sample submission.")
        return
    score = grade(case, ids, hot)
    note = "" if case.answers.exact or case.metric.needs == "labels" else " of named classes, not of probabilities"
    yield Check(name, PASSED, f"{case.metric.name} {score:.5f}{note} on {len(ids):,} rows of {case.answers_path.name}")


def grade(case: Case, ids: tuple[str, ...], hot: Array) -> float:
    """The competition's metric on ``ids``."""
    return case.score(hot, case.answers.take(ids))


def score_of(case: Case) -> float | None:
    """The score on the answers; None without answers, or when they do not fit the submission."""
    if case.answers_path is None:
        return None
    ids, hot = read_truth(case, read_cells(case.answers_path))
    return grade(case, ids, hot) if set(ids) <= set(case.answers.ids) else None


def read_truth(case: Case, cells: Cells) -> tuple[tuple[str, ...], Array]:
    """Ids and labels (N, C) 0/1 of an answer file: in the submission's own form, or an id and a column of class names.

    Raises:
        SubmissionError, DataError: it has neither form.
    """
    form, classes = case.config.competition.submission, case.classes
    if form.form == "long" and not set(cells.column(form.id_column)) <= set(case.answers.ids):
        cells = widened(cells, form)
    others = [column for column in cells.header if column != form.id_column and column.lower() != UNUSED]
    named = form.form in ("label", "labels", "ranked") or not set(others) >= set(form.columns or classes)
    if form.form == "index" and others:
        named = set(cells.column(others[0])) <= set(classes) and not all(cell.isdecimal() for cell in classes)
    if form.form == "positive" and others:
        named = set(cells.column(others[0])) <= set(classes)
    if not named:
        answers = read_answers(cells, form, classes)
        return answers.ids, (answers.values >= 0.5).astype(np.uint8)
    if len(others) != 1:
        raise DataError(f"an answer file needs {form.id_column!r} and one column of class names, found {shown(cells.header)}.")
    column = cells.column(others[0])
    rows = [tuple(part for part in cell.split(form.separator) if part) if case.multilabel else (cell,) for cell in column]
    return tuple(cells.column(form.id_column)), case.hot_of(rows)

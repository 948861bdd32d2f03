from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from blended_case import Blended
from sklearn.metrics import accuracy_score

from kaggle_kit.errors import MissingFileError


def write_answers(case: Blended, tmp_path: Path, *, separator: str = " ", drop: int = 0) -> Path:
    path = tmp_path / "answers.csv"
    rows = list(case.answers.items())[drop:]
    pd.DataFrame({"id": [row_id for row_id, _ in rows], "label": [separator.join(labels) for _, labels in rows]}).to_csv(
        path, index=False
    )
    return path


def test_the_score_is_that_of_the_cells(blended: Callable[..., Blended], tmp_path: Path) -> None:
    case = blended()
    report = case.check(answers=write_answers(case, tmp_path))
    frame = case.frame().set_index("id")["label"]
    expected = accuracy_score([case.answers[row_id][0] for row_id in frame.index], frame)
    assert report.score == pytest.approx(expected)
    assert f"accuracy {expected:.5f} on 40 rows of answers.csv" in report.checks[-1].evidence


@pytest.mark.parametrize("form", ["index", "probability", "positive", "labels"])
def test_answers_may_be_class_names_whatever_the_form(blended: Callable[..., Blended], tmp_path: Path, form: str) -> None:
    case = blended(form=form, n_classes=2 if form == "positive" else 3)
    separator = case.config.competition.submission.separator
    report = case.check(answers=write_answers(case, tmp_path, separator=separator))
    assert report.checks[-1].status == "passed"
    assert report.score is not None
    assert report.score > 0.5


def test_answers_may_have_the_form_of_the_submission(blended: Callable[..., Blended], tmp_path: Path) -> None:
    case = blended(form="probability")
    frame = case.frame()
    for column in frame.columns[1:]:
        frame[column] = [int(case.answers[row_id][0] == column) for row_id in frame["id"]]
    path = tmp_path / "answers.csv"
    frame.to_csv(path, index=False)
    assert case.check(answers=path).score == case.check(answers=write_answers(case, tmp_path)).score


def test_answers_of_part_of_the_rows_score_these(blended: Callable[..., Blended], tmp_path: Path) -> None:
    case = blended()
    assert "on 30 rows" in case.check(answers=write_answers(case, tmp_path, drop=10)).checks[-1].evidence


def test_ids_that_the_submission_lacks(blended: Callable[..., Blended], tmp_path: Path) -> None:
    case = blended()
    path = write_answers(case, tmp_path)
    path.write_text(path.read_text().replace("test_00003.png", "other.png"))
    report = case.check(answers=path)
    assert report.score is None
    assert "1 of 40 ids of the answers are not in the submission: other.png" in report.checks[-1].evidence


def test_missing_answers_are_an_error(blended: Callable[..., Blended], tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere"):
        blended().check(answers=tmp_path / "nowhere.csv")

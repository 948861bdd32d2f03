from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kaggle_kit import choices
from kaggle_kit.check.readback import READERS, read_answers, read_cells
from kaggle_kit.config import SubmissionConfig
from kaggle_kit.errors import MissingFileError, SubmissionError
from kaggle_kit.tables import Classes

CLASSES = Classes(("a", "b", "NA"))


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "s.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_cells_are_text_as_it_stands(tmp_path: Path) -> None:
    cells = read_cells(write(tmp_path, 'id,label\n0001,NA\n"x,\n1",""\n\n'))
    assert cells.header == ("id", "label")
    assert cells.rows == [["0001", "NA"], ["x,\n1", ""]]


def test_line_separators_of_unicode_end_no_row(tmp_path: Path) -> None:
    assert read_cells(write(tmp_path, "id,label\n1,a\u2028b\x0bc\n")).rows == [["1", "a\u2028b\x0bc"]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        ("id,label\n1,é".encode("latin-1"), "not UTF-8: byte 0xe9"),
        (b"id,label\n1,a\n2\n", "rows 3"),
        (b"id,label\n1,a,b\n", "1 of 1 rows"),
        (b'id,label\n1,"a\n', "not a CSV"),
        (b"id,label\n1,\0", "NUL"),
    ],
)
def test_what_is_no_csv_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(SubmissionError, match=message):
        read_cells(write(tmp_path, data))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere"):
        read_cells(tmp_path / "nowhere.csv")


FORMS = {
    "label": (SubmissionConfig(form="label", columns={"label": ""}), "id,label\n1,b\n2,NA\n", [[0, 1, 0], [0, 0, 1]]),
    "index": (
        SubmissionConfig(form="index", columns={"label": ""}, indices={"a": 5, "b": 7, "NA": 0}),
        "id,label\n1,7\n2,0\n",
        [[0, 1, 0], [0, 0, 1]],
    ),
    "labels": (
        SubmissionConfig(form="labels", columns={"tags": ""}, separator="|", empty_label="none"),
        "id,tags\n1,NA|a\n2,none\n",
        [[1, 0, 1], [0, 0, 0]],
    ),
    "probability": (
        SubmissionConfig(form="probability", columns={"is_NA": "NA", "is_a": "a", "is_b": "b"}),
        "id,is_NA,is_a,is_b\n1,.2,.3,.5\n2,1,0,0\n",
        [[0.3, 0.5, 0.2], [0, 0, 1]],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read_by_name(tmp_path: Path, form: str) -> None:
    config, text, expected = FORMS[form]
    answers = read_answers(read_cells(write(tmp_path, text)), config, CLASSES)
    assert answers.ids == ("1", "2")
    np.testing.assert_allclose(answers.values, expected)


def test_the_positive_class_is_the_last(tmp_path: Path) -> None:
    form = SubmissionConfig(form="positive", columns={"target": ""})
    answers = read_answers(read_cells(write(tmp_path, "id,target\n1,0.25\n")), form, Classes(("no", "yes")))
    np.testing.assert_allclose(answers.values, [[0.75, 0.25]])


def test_every_form_of_the_configuration_can_be_read() -> None:
    assert set(READERS) == set(choices.FORMS) == {*FORMS, "positive", "ranked", "long"}


def test_a_class_may_be_called_as_the_id_column_is(tmp_path: Path) -> None:
    form, classes = SubmissionConfig(form="probability", columns={"id": "id", "x": "x"}), Classes(("id", "x"))
    answers = read_answers(read_cells(write(tmp_path, "id,id,x\n1,0.9,0.1\n")), form, classes)
    np.testing.assert_allclose(answers.values, [[0.9, 0.1]])


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("label", "id,label\n1,c\n", "none of the 3 classes: 'c'"),
        ("index", "id,label\n1,1\n", "stand for no class: 1"),
        ("index", "id,label\n1,x\n", "no numbers: 'x'"),
        ("probability", "id,is_NA,is_a,is_b\n1,0,,1\n", "column 'is_a' holds 1 cells"),
        ("probability", "id,is_NA,is_a\n1,0,1\n", "no column 'is_b'"),
        ("label", "image,label\n1,a\n", "no column 'id'"),
    ],
)
def test_what_a_grader_cannot_read_is_refused(tmp_path: Path, form: str, text: str, message: str) -> None:
    with pytest.raises(SubmissionError, match=message):
        read_answers(read_cells(write(tmp_path, text)), FORMS[form][0], CLASSES)

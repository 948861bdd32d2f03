"""Written and read back by pandas, which shares no code with the writer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from kaggle_kit.choices import COLUMN_FORMS, FORMS
from kaggle_kit.config import SubmissionConfig
from kaggle_kit.errors import ClassMappingError, SubmissionError
from kaggle_kit.submission import sample_header, submission_frame, write_submission
from kaggle_kit.tables import Classes, Predictions

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=8)
TRICKY = st.sampled_from(
    ["1", "10", "2", "01", "NA", "None", "nan", "", "a,b", '"', "Rust", "rust", "Ünï", " ", "\n", "id", "1.0", "-"]
)
NAMES = st.lists(TEXT | TRICKY.filter(bool), min_size=2, max_size=6, unique=True)
SEPARATOR = "\x1f"


@st.composite
def cases(draw):
    """Class names in any order, ids, probabilities with ties and extremes, and the sample's order of columns."""
    names = draw(NAMES)
    ids = draw(st.lists(TEXT | TRICKY.filter(bool), min_size=1, max_size=6, unique=True))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(len(names), draw(st.sampled_from([0.01, 0.3, 5.0]))), size=len(ids)).astype(np.float32)
    if draw(st.booleans()):
        probs[0] = 1 / len(names)
    return Classes(tuple(names)), ids, probs, rng


def read(path):
    """Cells as text, header included, so that pandas renames no column."""
    return pd.read_csv(path, header=None, dtype=str, keep_default_na=False)


def written(tmp_path_factory, predictions, form, **options):
    path = tmp_path_factory.mktemp("written") / "blend.csv"
    cells = read(write_submission(path, predictions, form, **options))
    header, body = list(cells.iloc[0]), cells.iloc[1:].reset_index(drop=True)
    return header, body


@settings(max_examples=60, deadline=None)
@given(cases())
def test_label_reads_back_as_the_same_label(tmp_path_factory, case):
    classes, ids, probs, rng = case
    form = SubmissionConfig(id_column="id", form="label", columns={"label": ""})
    order = rng.permutation(len(ids))
    wanted = [ids[row] for row in order]
    header, body = written(tmp_path_factory, Predictions(ids, probs, classes), form, classes=classes, ids=wanted)
    assert header == ["id", "label"]
    assert list(body[0]) == wanted
    assert list(body[1]) == [classes.names[row.argmax()] for row in probs[order]]


@settings(max_examples=40, deadline=None)
@given(cases())
def test_index_reads_back_as_the_integer_that_the_grader_expects(tmp_path_factory, case):
    classes, ids, probs, rng = case
    indices = dict(zip(classes, (int(number) + 3 for number in rng.permutation(len(classes))), strict=True))
    form = SubmissionConfig(form="index", columns={"label": ""}, indices=indices)
    _, body = written(tmp_path_factory, Predictions(ids, probs, classes), form, classes=classes, ids=ids)
    back = {number: name for name, number in indices.items()}
    assert [back[int(cell)] for cell in body[1]] == [classes.names[row.argmax()] for row in probs]


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([None, "", "nothing"]))
def test_labels_read_back_as_the_same_set(tmp_path_factory, case, empty):
    classes, ids, probs, rng = case
    if any(SEPARATOR in name for name in classes):
        return
    thresholds = rng.random(len(classes))
    form = SubmissionConfig(form="labels", columns={"labels": ""}, separator=SEPARATOR, empty_label=empty)
    predictions = Predictions(ids, probs, classes)
    _, body = written(tmp_path_factory, predictions, form, classes=classes, ids=ids, thresholds=thresholds)
    for cell, row in zip(body[1], probs, strict=True):
        reached = {name for name, prob, least in zip(classes, row, thresholds, strict=True) if prob >= least}
        if reached:
            assert set(cell.split(SEPARATOR)) == reached
        else:
            assert cell == (empty if empty is not None else classes.names[row.argmax()])


@settings(max_examples=60, deadline=None)
@given(cases())
def test_probabilities_read_back_to_the_last_bit_in_the_samples_columns(tmp_path_factory, case):
    classes, ids, probs, rng = case
    columns = {f"p {name}": name for name in (classes.names[at] for at in rng.permutation(len(classes)))}
    form = SubmissionConfig(form="probability", columns=columns)
    model_order = Classes(tuple(classes.names[at] for at in rng.permutation(len(classes))))
    predictions = Predictions(ids, probs, classes).align(model_order, here="test")
    header, body = written(tmp_path_factory, predictions, form, classes=classes, ids=ids, columns=["id", *columns])
    assert header == ["id", *columns]
    for at, column in enumerate(columns, start=1):
        expected = probs[:, classes.names.index(columns[column])]
        np.testing.assert_array_equal(body[at].astype("float64").to_numpy().astype(np.float32), expected)
    sums = body[list(range(1, len(header)))].astype("float64").sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_metric_moves(tmp_path_factory, seed):
    """Values one float32 step apart, ties, and values from 1e-30 to 1: order, equality and argmax stay."""
    rng = np.random.default_rng(seed)
    classes, rows = Classes(("no", "yes")), 60
    yes = rng.choice([0.5, 0.1, 1e-7, 1e-30, 0.999], size=rows).astype(np.float32)
    steps = rng.integers(0, 3, rows)
    for _ in range(2):
        yes = np.where(steps > 0, np.nextafter(yes, np.float32(1)), yes)
        steps -= 1
    ids = [str(row) for row in range(rows)]
    predictions = Predictions(ids, np.stack([1 - yes, yes], axis=1), classes)
    form = SubmissionConfig(form="positive", columns={"target": ""})
    _, body = written(tmp_path_factory, predictions, form, classes=classes, ids=ids)
    back = body[1].astype("float64").to_numpy()
    np.testing.assert_array_equal(np.sign(back[:, None] - back), np.sign(yes[:, None].astype(float) - yes))
    truth = rng.integers(0, 2, rows)
    truth[:2] = [0, 1]
    for score in (roc_auc_score, average_precision_score):
        assert score(truth, back) == score(truth, yes)
    assert max(len(cell) for cell in body[1]) <= 17


CLASSES = Classes(("a", "b", "c"))
PREDICTIONS = Predictions(("0001", "NA"), [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], CLASSES)


def frame(predictions=PREDICTIONS, *, ids=("0001", "NA"), columns=(), classes=CLASSES, thresholds=None, **form):
    options = {"classes": classes, "ids": ids, "columns": columns, "thresholds": thresholds}
    return submission_frame(predictions, SubmissionConfig(**form), **options)


def test_without_a_sample_ids_and_names_are_written():
    assert frame().to_dict("list") == {"id": ["0001", "NA"], "label": ["a", "c"]}


def test_without_a_sample_probabilities_have_the_classes_columns():
    assert list(frame(form="probability").columns) == ["id", "a", "b", "c"]


def test_the_id_column_may_stand_anywhere():
    made = frame(form="probability", id_column="file", columns=["c", "file", "a", "b"])
    assert list(made.columns) == ["c", "file", "a", "b"]
    assert list(made["c"]) == pytest.approx([0.1, 0.8])


def test_a_class_may_be_called_as_the_id_column(tmp_path):
    classes = Classes(("id", "b"))
    predictions = Predictions(("x",), [[0.25, 0.75]], classes)
    path = write_submission(tmp_path / "s.csv", predictions, SubmissionConfig(form="probability"), classes=classes, ids=["x"])
    assert path.read_text() == "id,id,b\nx,0.25,0.75\n"
    assert sample_header(path) == ["id", "id", "b"]


def test_decimals_are_the_shortest(tmp_path):
    predictions = Predictions(("x",), np.array([[0.1, 1e-9, 0.9]]), CLASSES)
    path = write_submission(tmp_path / "s.csv", predictions, SubmissionConfig(form="probability"), classes=CLASSES, ids=["x"])
    assert path.read_text() == "id,a,b,c\nx,0.1,1e-09,0.9\n"


def test_many_rows_are_written_whole_and_in_order(tmp_path):
    rows = 45_001
    probs = np.random.default_rng(0).random((rows, 3), dtype=np.float32)
    ids = tuple(f"{row:06}" for row in range(rows))
    form = SubmissionConfig(form="probability")
    path = write_submission(tmp_path / "s.csv", Predictions(ids, probs, CLASSES), form, classes=CLASSES, ids=ids[::-1])
    cells = read(path)
    assert list(cells[0][1:]) == list(ids[::-1])
    np.testing.assert_array_equal(cells.iloc[1:, 1:].to_numpy().astype(np.float32)[::-1], probs)


def test_nothing_is_left_when_writing_fails(tmp_path):
    with pytest.raises(SubmissionError):
        write_submission(tmp_path / "s.csv", PREDICTIONS, SubmissionConfig(), classes=CLASSES, ids=["0001"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ids": ("0001", "NA", "x")}, r"of 3 ids wanted, 1 have no prediction \(x\)"),
        ({"ids": ("0001",)}, r"1 predictions are for other ids \(NA\)"),
        ({"columns": ["name", "label"]}, "no id column 'id'; it holds name, label"),
        ({"columns": ["id", "label", "more"]}, "fills one column beside the ids, the header has 2: label, more"),
        ({"form": "index", "indices": {"a": 0}}, "indices lacks b, c"),
        ({"form": "labels", "separator": "a"}, "stands inside class names"),
        ({"form": "labels", "separator": ""}, "stands inside class names"),
        ({"form": "positive"}, "for two classes, got 3"),
        ({"form": "probability", "columns": ["id", "a", "b", "d"]}, "columns lacks: d"),
        ({"form": "probability", "columns": ["id", "a", "b"]}, "without: c"),
    ],
)
def test_what_cannot_be_written_is_refused(options, message):
    options = dict(options)
    predictions = options.pop("predictions", PREDICTIONS)
    with pytest.raises(SubmissionError, match=message):
        frame(predictions, **options)


def test_a_column_mapped_twice_is_refused():
    form = SubmissionConfig(form="probability", columns={"a": "a", "b": "b", "c": "c", "c2": "c"})
    with pytest.raises(SubmissionError, match="some twice"):
        submission_frame(PREDICTIONS, form, classes=CLASSES, ids=PREDICTIONS.ids)


def test_other_classes_are_refused():
    with pytest.raises(ClassMappingError, match="only in the competition: z"):
        frame(classes=Classes(("a", "b", "z")))


@pytest.mark.parametrize("mark", ["\r", "\0"])
def test_characters_that_readers_disagree_on_are_refused(tmp_path, mark):
    classes = Classes((f"a{mark}", "b", "c"))
    predictions = Predictions(("x",), [[1.0, 0, 0]], classes)
    with pytest.raises(SubmissionError, match="carriage returns or NUL"):
        write_submission(tmp_path / "s.csv", predictions, SubmissionConfig(), classes=classes, ids=["x"])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_a_writer(form):
    """Conformance: a row for each id, or for each id and class; no cell is empty."""
    classes = Classes(("no", "yes") if form == "positive" else ("ant", "bee", "cat"))
    probs = np.random.default_rng(0).dirichlet(np.ones(len(classes)), 4).astype(np.float32)
    columns = {name: name for name in classes} if form in COLUMN_FORMS else {"label": ""}
    config = SubmissionConfig(form=form, columns=columns, indices={name: at for at, name in enumerate(classes)}, guesses=2)
    ids = ("a", "b", "c", "d")
    frame = submission_frame(Predictions(ids, probs, classes), config, classes=classes, ids=ids)
    assert len(frame) == 4 * (len(classes) if form == "long" else 1)
    assert not (frame.astype(str) == "").any().any()


def test_ranked_guesses_are_the_most_probable_in_order():
    classes = Classes(("ant", "bee", "cat"))
    probs = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], np.float32)
    form = SubmissionConfig(form="ranked", guesses=2, columns={"Id": ""})
    frame = submission_frame(Predictions(("x", "y"), probs, classes), form, classes=classes, ids=("y", "x"))
    assert list(frame["Id"]) == ["ant bee", "bee cat"]


def test_the_long_form_has_a_row_for_each_id_and_class():
    classes = Classes(("ant", "bee"))
    probs = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    form = SubmissionConfig(form="long", columns={"B": "bee", "A": "ant"}, separator="_", id_column="ID", value_column="Label")
    frame = submission_frame(Predictions(("x", "y"), probs, classes), form, classes=classes, ids=("y", "x"))
    assert frame.to_dict("list") == {"ID": ["y_B", "y_A", "x_B", "x_A"], "Label": [0.5, 0.5, 0.75, 0.25]}

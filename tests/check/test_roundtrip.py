"""Written by the writer, read back by the checker, which share no code: the same answers, whatever the classes are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_kit.check.readback import read_answers, read_cells
from kaggle_kit.config import SubmissionConfig
from kaggle_kit.metrics import get_metric
from kaggle_kit.submission import write_submission
from kaggle_kit.tables import Classes, Predictions

TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\0", exclude_categories=("Cs",)), min_size=1, max_size=12
).filter(lambda text: text.strip() == text and text != "id")
NAMES = st.lists(
    st.one_of(
        TEXT, st.integers(0, 999).map(str), st.sampled_from(["a", "A", 'say "a"', "a, b", "ä", "NA", "001", "1.0", "None"])
    ),
    min_size=2,
    max_size=12,
    unique=True,
)
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def draw(classes: Classes, seed: int, rows: int = 9) -> Predictions:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(len(classes), 0.3), rows).astype(np.float32)
    return Predictions(tuple(f"{row:04}" for row in range(rows)), probs / probs.sum(axis=1, keepdims=True), classes)


def there_and_back(path: Path, table: Predictions, form: SubmissionConfig, ids: list[str]) -> np.ndarray:
    write_submission(path, table, form, classes=table.classes, ids=ids)
    answers = read_answers(read_cells(path), form, table.classes)
    assert answers.ids == tuple(ids)
    return answers.values


@PROPERTY
@given(names=NAMES, seed=st.integers(0, 99), form=st.sampled_from(["label", "index"]))
def test_labels_survive(tmp_path: Path, names: list[str], seed: int, form: str) -> None:
    classes, rng = Classes(tuple(names)), np.random.default_rng(seed)
    table = draw(classes, seed)
    indices = dict(zip(names, rng.permutation(50)[: len(names)].tolist(), strict=True))
    ids = rng.permutation(table.ids).tolist()
    values = there_and_back(tmp_path / "s.csv", table, SubmissionConfig(form=form, columns={"l": ""}, indices=indices), ids)
    assert classes.top(values) == classes.top(table.take(ids).probs)
    assert (values.sum(axis=1) == 1).all()


@PROPERTY
@given(names=NAMES, seed=st.integers(0, 99))
def test_several_labels_survive(tmp_path: Path, names: list[str], seed: int) -> None:
    text = "".join(names)
    separator = next(mark for mark in (" ", "|", ";", "~~", "<sep>") if mark not in text)
    form = SubmissionConfig(form="labels", columns={"l": ""}, separator=separator, threshold=0.2)
    table = draw(Classes(tuple(names)), seed)
    values = there_and_back(tmp_path / "s.csv", table, form, list(table.ids))
    assert [tuple(table.classes.decode(np.flatnonzero(row))) for row in values] == table.classes.above(
        table.probs, 0.2, at_least_one=True
    )


@PROPERTY
@given(names=NAMES, seed=st.integers(0, 99))
def test_probabilities_survive_in_the_samples_own_order(tmp_path: Path, names: list[str], seed: int) -> None:
    classes, rng = Classes(tuple(names)), np.random.default_rng(seed)
    table = draw(classes, seed, rows=25)
    form = SubmissionConfig(form="probability", columns={name: name for name in rng.permutation(names).tolist()})
    values = there_and_back(tmp_path / "s.csv", table, form, list(table.ids))
    np.testing.assert_array_equal(values.astype(np.float32), table.probs)


@pytest.mark.parametrize("metric", ["log_loss", "roc_auc_columns", "average_precision", "accuracy"])
def test_the_decimals_written_do_not_move_the_metric(tmp_path: Path, metric: str) -> None:
    table = draw(Classes(("a", "b", "c")), 5, rows=400)
    truth = np.random.default_rng(6).integers(0, 3, 400)
    form = SubmissionConfig(form="probability")
    values = there_and_back(tmp_path / "s.csv", table, form, list(table.ids))
    assert get_metric(metric)(truth, values) == pytest.approx(get_metric(metric)(truth, table.probs), abs=1e-7)

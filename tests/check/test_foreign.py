"""Files that `kk blend` did not write, made from the hidden truth of a fabricated workspace by another model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from blended_case import Blended, with_probs
from factories import fake_probabilities

from kaggle_kit.check import Check, CheckReport, check_submission

ROWS = {"n_train": 400, "n_test": 300, "n_classes": 5}
TWELVE = {"n_train": 500, "n_test": 300, "class_names": tuple(str(number) for number in range(1, 13))}


def other_model(case: Blended, accuracy: float = 0.8, seed: int = 7) -> np.ndarray:
    """(N, C) probabilities of a model that none of the runs knows, in the order of the test rows."""
    competition = case.competition
    labels = [case.answers[row.id] for row in competition.test]
    truth = (
        competition.classes.encode_rows(labels) if competition.multilabel else competition.classes.encode(r[0] for r in labels)
    )
    rng = np.random.default_rng(seed)
    return fake_probabilities(truth, len(competition.classes), accuracy, multilabel=competition.multilabel, rng=rng)


def write(case: Blended, probs: np.ndarray) -> pd.DataFrame:
    """``probs`` in the form of the competition's own submission."""
    form, classes = case.competition.submission, case.competition.classes
    frame = case.frame()
    at = {row.id: number for number, row in enumerate(case.competition.test)}
    probs = probs[[at[row_id] for row_id in frame[form.id_column]]]
    targets = [name for name in frame.columns if name != form.id_column]
    if form.form == "probability":
        for name in targets:
            frame[name] = probs[:, classes.index(form.columns.get(name, name))].astype(str)
    elif form.form == "positive":
        frame[targets[0]] = probs[:, 1].astype(str)
    elif form.form == "labels":
        frame[targets[0]] = [form.separator.join(row) for row in classes.above(probs, at_least_one=True)]
    else:
        names = classes.top(probs)
        frame[targets[0]] = [str(form.indices[name]) for name in names] if form.form == "index" else names
    return frame


def check(case: Blended, frame: pd.DataFrame) -> CheckReport:
    path = case.workspace.root / "submissions" / "mine.csv"
    frame.to_csv(path, index=False, lineterminator="\n")
    return check_submission(path, workspace=case.workspace, config=case.config, competition=case.competition)


def line(report: CheckReport) -> Check:
    return next(check for check in report.checks if check.name == "foreign")


@pytest.mark.parametrize("form", ["label", "index", "labels", "probability", "positive"])
@pytest.mark.parametrize("accuracy", [0.7, 0.8, 0.95])
def test_another_model_of_other_strength_never_fails(blended: Callable[..., Blended], form: str, accuracy: float) -> None:
    case = blended(**{**ROWS, "n_classes": 2 if form == "positive" else 5}, form=form)
    report = check(case, write(case, other_model(case, accuracy)))
    assert report.verdict == "PASSED", (report.headline, line(report))


def test_a_model_at_chance_is_not_proven(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    assert check(case, write(case, np.random.default_rng(0).dirichlet(np.ones(5), 300))).verdict == "NOT PROVEN"


def test_one_class_for_all_rows_is_not_proven(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS, imbalance=1.0)
    frame = case.frame().assign(label="class 4")
    assert check(case, frame).verdict == "NOT PROVEN"


@pytest.mark.parametrize("form", ["label", "index", "labels", "probability"])
def test_two_exchanged_classes_are_named(blended: Callable[..., Blended], form: str) -> None:
    case = blended(**ROWS, form=form)
    report = check(case, write(case, other_model(case)[:, [0, 3, 2, 1, 4]]))
    assert report.verdict == "FAILED"
    assert "class 1 and class 3 look exchanged" in line(report).evidence


@pytest.mark.parametrize("form", ["label", "index", "labels", "probability", "positive"])
@pytest.mark.parametrize(("by", "what"), [(1, "shifted down by one"), (-1, "shifted up by one")])
def test_shifted_rows_are_named(blended: Callable[..., Blended], form: str, by: int, what: str) -> None:
    case = blended(**{**ROWS, "n_classes": 2 if form == "positive" else 5}, form=form)
    report = check(case, write(case, np.roll(other_model(case), by, axis=0)))
    assert report.verdict == "FAILED"
    assert f"the rows look {what}" in line(report).evidence


def test_a_row_written_twice_shifts_those_behind_it(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    probs = other_model(case)
    report = check(case, write(case, np.concatenate([probs[:81], probs[80:-1]])))
    assert report.verdict == "FAILED"
    assert "of the file on look shifted down by one" in line(report).evidence


def test_columns_in_reverse_order_under_the_header(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS, form="probability")
    frame = write(case, other_model(case))
    frame[frame.columns[1:]] = frame[frame.columns[:0:-1]].to_numpy()
    report = check(case, frame)
    assert report.verdict == "FAILED"
    assert "order look written under names in" in line(report).evidence


def test_the_probability_of_the_negative_class(blended: Callable[..., Blended]) -> None:
    case = blended(**{**ROWS, "n_classes": 2}, form="positive")
    report = check(case, write(case, other_model(case)[:, ::-1]))
    assert report.verdict == "FAILED"
    assert "class 0 and class 1 look exchanged" in line(report).evidence


def cells_of(case: Blended, names: Sequence[str], first: int) -> pd.DataFrame:
    """Each cell is the index in ``names``, a list of the classes, of what the other model says."""
    frame = write(case, other_model(case))
    frame["label"] = [str(names.index(cell) + first) for cell in frame["label"]]
    return frame


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("what", ["alphabetical", "frequency"])
def test_the_index_in_a_list_instead_of_the_number_that_names_the_class(
    blended: Callable[..., Blended], what: str, first: int
) -> None:
    """Twelve classes called 1 to 12, as in the contest whose winners' class lists were in another order."""
    case = blended(**TWELVE, imbalance=0.7)
    labels = [row.labels[0] for row in case.competition.train]
    by_frequency = sorted(case.competition.classes, key=lambda name: -labels.count(name))
    lists = {"alphabetical": sorted(case.competition.classes), "frequency": by_frequency}
    report = check(case, cells_of(case, lists[what], first))
    assert report.verdict == "FAILED"
    assert f"each value looks like the index in the {what} list of classes, counted from {first}" in line(report).evidence


def test_indices_that_count_from_another_number(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS, form="index")
    frame = write(case, other_model(case))
    frame[frame.columns[1]] = [str(min(int(cell) + 1, 4)) for cell in frame[frame.columns[1]]]
    report = check(case, frame)
    assert report.verdict == "FAILED"
    assert "each value looks 1 too high" in line(report).evidence or "counted from 1" in line(report).evidence


def test_blends_are_references_where_runs_were_cleared_away(blended: Callable[..., Blended], tmp_path: Path) -> None:
    case = blended(**ROWS)
    case.workspace.runs_dir.rename(tmp_path / "cleared")
    assert check(case, write(case, other_model(case))).verdict == "PASSED"
    assert check(case, write(case, np.roll(other_model(case), 1, axis=0))).verdict == "FAILED"


def test_the_blends_own_file_is_left_to_the_other_checks(blended: Callable[..., Blended]) -> None:
    assert "wrote these bytes" in blended(**ROWS).line("foreign").evidence


def test_one_bad_run_accuses_nobody(blended: Callable[..., Blended]) -> None:
    """A run whose columns are in another order is one reference of three (two runs and their blend)."""
    case = blended(**ROWS, form="probability", n_runs=3)
    for fold in range(3):
        case.edit(case.fold_file("test.parquet", run="run1", fold=fold), lambda table: with_probs(table, table.probs[:, ::-1]))
    assert line(check(case, write(case, other_model(case)))).status != "failed"

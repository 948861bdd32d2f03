from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from blended_case import Blended, with_probs

from kaggle_kit import files, runs
from kaggle_kit.check.cells import LINEAR
from kaggle_kit.choices import BLENDERS

FORMS = ["label", "index", "labels", "probability", "positive"]


def case_of(blended: Callable[..., Blended], form: str) -> Blended:
    return blended(form=form, n_classes=2 if form == "positive" else 4, n_test=80)


def move(case: Blended, order: Callable[[list[str]], np.ndarray]) -> None:
    frame = case.frame()
    targets = frame.columns[1:]
    frame[targets] = frame[targets].to_numpy()[order(frame["id"].tolist())]
    case.write(frame)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("order", "message"),
    [
        (lambda ids: np.roll(np.arange(len(ids)), 1), "shifted down by one"),
        (lambda ids: np.roll(np.arange(len(ids)), -1), "shifted up by one"),
        (lambda ids: np.arange(len(ids))[::-1], "in reverse order"),
    ],
)
def test_rows_beside_other_ids(blended: Callable[..., Blended], form: str, order: Callable, message: str) -> None:
    case = case_of(blended, form)
    move(case, order)
    line = case.line("cells: file")
    assert line.status == "failed"
    assert message in line.evidence


@pytest.mark.parametrize("form", FORMS)
def test_one_cell_of_another_row_is_enough(blended: Callable[..., Blended], form: str) -> None:
    case = case_of(blended, form)
    frame = case.frame()
    targets = list(frame.columns[1:])
    other = next(row for row in range(1, 80) if frame.loc[row, targets].tolist() != frame.loc[0, targets].tolist())
    frame.loc[0, targets] = frame.loc[other, targets].to_numpy()
    case.write(frame)
    line = case.line("cells: file")
    assert line.status == "failed"
    assert line.evidence.startswith("1 of 80 rows")


def test_columns_of_the_file_exchanged(blended: Callable[..., Blended]) -> None:
    case = case_of(blended, "probability")
    frame = case.frame()
    case.write(frame.assign(**{"class 1": frame["class 3"], "class 3": frame["class 1"]}))
    assert "column 'class 3' holds 'class 1'" in case.line("cells: file").evidence


@pytest.mark.parametrize("method", BLENDERS)
def test_every_blender_passes(blended: Callable[..., Blended], method: str) -> None:
    case = blended(n_classes=4)
    case.reblend(method=method)
    assert {case.line(f"cells: {part}").status for part in ("blend", "file")} == {"passed"}
    assert ("equal the weighted mean" in case.line("cells: blend").evidence) == (method in LINEAR)


def test_weights_given_to_the_wrong_runs(blended: Callable[..., Blended]) -> None:
    case = blended(n_classes=4)
    case.reblend(method="weights")
    record = json.loads(case.record_path.read_text())
    record["blend"]["parameters"]["weights"] = [0.9, 0.1]
    files.write_json(case.record_path, record)
    assert case.line("cells: blend").status == "failed"


@pytest.mark.parametrize("method", ["mean", "gmean"])
def test_blended_probabilities_of_other_rows(blended: Callable[..., Blended], method: str) -> None:
    case = blended(n_classes=4)
    case.reblend(method=method)
    case.edit(case.path.with_suffix(".probs.parquet"), lambda table: with_probs(table, np.roll(table.probs, 1, axis=0)))
    assert case.line("cells: blend").status == "failed"


def test_a_blend_whose_columns_are_exchanged_whatever_the_method(blended: Callable[..., Blended]) -> None:
    case = blended(n_classes=4, n_test=120)
    case.reblend(method="gmean")
    case.edit(case.path.with_suffix(".probs.parquet"), lambda table: with_probs(table, table.probs[:, [1, 0, 2, 3]]))
    assert "column 'class 0' holds what the runs call 'class 1'" in case.line("cells: blend").evidence


def test_test_predictions_that_changed_after_the_blend(blended: Callable[..., Blended]) -> None:
    case = blended(n_classes=4)
    case.edit(case.fold_file(runs.TEST), lambda table: with_probs(table, table.probs[:, ::-1]))
    assert case.line("cells: blend").status == "failed"


def test_tuned_thresholds_are_respected(blended: Callable[..., Blended]) -> None:
    case = blended(form="labels", n_classes=4)
    case.reblend(thresholds="tuned")
    assert case.line("cells: file").status == "passed"

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from blended_case import Blended, with_meta, with_probs

from kaggle_kit import files, runs

ROWS = {"n_train": 300, "n_test": 60, "n_classes": 4, "control": 150}


def nudged(probs: np.ndarray, by: float) -> np.ndarray:
    """Each probability ``by`` nearer to one half."""
    return probs + np.where(probs < 0.5, by, -by)


def line(case: Blended, name: str) -> tuple[str, str]:
    check = case.line(f"control: {name}")
    return check.status, check.evidence


@pytest.mark.parametrize("form", ["label", "index", "labels", "probability", "positive"])
@pytest.mark.parametrize("views", ["none", "hflip"])
def test_a_sound_pass(blended: Callable[..., Blended], form: str, views: str) -> None:
    case = blended(**{**ROWS, "n_classes": 2 if form == "positive" else 4}, form=form, views=views)
    assert [line(case, name)[0] for name in ("views", "sharp", "end to end")] == ["passed"] * 3


def test_another_preprocessing_is_told_from_exchanges(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    case.edit(case.fold_file(runs.CONTROL), lambda table: with_probs(table, 0.9 * table.probs + 0.025))
    status, evidence = line(case, "sharp")
    assert status == "failed"
    assert "preprocessed or viewed in another way" in evidence


def test_rows_that_lost_their_ids(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)

    def shuffle(table):  # within the fold's own rows and beyond: all of them
        return with_probs(table, table.probs[np.random.default_rng(0).permutation(len(table))])

    for fold in range(3):
        case.edit(case.fold_file(runs.CONTROL, fold=fold), shuffle)
    status, evidence = line(case, "sharp")
    assert status == "failed"
    assert "rows have lost their ids" in evidence


def test_exchanged_columns_are_named(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    case.edit(case.fold_file(runs.CONTROL), lambda table: with_probs(table, table.probs[:, [0, 3, 2, 1]]))
    assert "columns are exchanged: column 'class 3' holds 'class 1'" in line(case, "sharp")[1]


def test_rounding_of_engines_is_tolerated_and_more_is_not(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    case.edit(case.fold_file(runs.CONTROL), lambda table: with_probs(table, nudged(table.probs, 0.001)))
    assert line(case, "sharp")[0] == "passed"
    case.edit(case.fold_file(runs.CONTROL), lambda table: with_probs(table, nudged(table.probs, 0.01)))
    assert line(case, "sharp")[0] == "failed"


def test_half_precision_has_a_wider_tolerance(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    case.edit(
        case.fold_file(runs.CONTROL),
        lambda table: with_meta(with_probs(table, nudged(table.probs, 0.01)), {"precision": "bf16"}),
    )
    assert line(case, "sharp")[0] == "passed"


def test_without_control_rows_there_is_no_verdict(blended: Callable[..., Blended]) -> None:
    case = blended(control=0)
    assert line(case, "sharp")[0] == line(case, "end to end")[0] == "inconclusive"
    assert "kk predict" in case.line("control: sharp").remedy


def test_out_of_fold_rows_of_other_views_are_not_compared(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS, views="hflip")
    case.edit(case.fold_file(runs.OOF_VIEWS), lambda table: with_meta(table, {"views": "d4"}))
    assert line(case, "sharp")[0] == "inconclusive"


def test_few_control_rows_prove_little(blended: Callable[..., Blended]) -> None:
    case = blended(control=6)
    assert line(case, "sharp")[0] == line(case, "end to end")[0] == "inconclusive"


def test_a_writer_that_decodes_wrongly(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    path = case.path.with_suffix(".control.csv")
    frame = case.frame(path)
    frame["label"] = [f"class {(int(cell[-1]) + 1) % 4}" for cell in frame["label"]]
    case.write(frame, path)
    status, evidence = line(case, "end to end")
    assert status == "failed"
    assert "0.000 right" in evidence
    assert "out of fold" in evidence


def test_a_writer_that_swaps_two_columns(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS, form="probability")
    path = case.path.with_suffix(".control.csv")
    frame = case.frame(path)
    case.write(frame.assign(**{"class 1": frame["class 2"], "class 2": frame["class 1"]}), path)
    assert line(case, "end to end")[0] == "failed"


def test_a_control_submission_of_another_blend(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    record = json.loads(case.record_path.read_text())
    record["control"]["sha256"] = "0" * 64
    files.write_json(case.record_path, record)
    assert "not the file that the record describes" in line(case, "end to end")[1]


def test_views_that_ruin_the_probabilities(blended: Callable[..., Blended]) -> None:
    """Both passes with the same wrong views agree with each other; only rows without views tell."""
    case = blended(**ROWS, views="hflip")
    for run in ("run0", "run1"):
        for fold in range(3):
            case.edit(
                case.fold_file(runs.OOF_VIEWS, run=run, fold=fold),
                lambda table: with_probs(table, (table.probs + table.probs[::-1]) / 2),
            )
    status, evidence = line(case, "views")
    assert status == "failed"
    assert "do not suit the images, or are undone wrongly" in evidence


def test_views_that_cost_a_little_are_a_warning(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS, views="hflip")
    for fold in range(3):

        def spoil(table):
            probs = table.probs.copy()
            probs[:7] = np.roll(probs[:7], 1, axis=1)
            return with_probs(table, probs)

        case.edit(case.fold_file(runs.OOF_VIEWS, fold=fold), spoil)
    assert line(case, "views")[0] == "warning"

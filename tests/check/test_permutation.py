from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from blended_case import Blended, with_probs

from kaggle_kit import runs
from kaggle_kit.check.assignment import Mapping
from kaggle_kit.check.permutation import strangers

ROWS = {"n_train": 400, "n_test": 120, "n_classes": 5}


@pytest.mark.parametrize("form", ["label", "labels", "probability", "positive"])
def test_sound_columns_pass(blended: Callable[..., Blended], form: str) -> None:
    options = {**ROWS, "n_classes": 2 if form == "positive" else 4}
    lines = [check for check in blended(form=form, **options).check().checks if check.name.startswith("permutation")]
    assert not [line for line in lines if line.status == "failed"]
    assert lines[0].status == lines[-1].status == "passed"


def test_a_wrong_class_list_in_training_is_spelt_out(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    case.edit_all(lambda probs: probs[:, [0, 2, 1, 3, 4]], runs.OOF, runs.TEST, runs.CONTROL)
    case.reblend()
    line = case.line("permutation: blend")
    assert line.status == "failed"
    assert "column 'class 1' holds what is labelled 'class 2'" in line.evidence
    assert "kk train" in line.remedy


def test_one_run_of_two_is_named(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    for fold in range(3):
        case.edit(case.fold_file(runs.OOF, run="run1", fold=fold), lambda table: with_probs(table, table.probs[:, ::-1]))
    line = case.line("permutation: runs")
    assert line.status == "failed"
    assert line.evidence.startswith("run1: ")


def test_one_fold_is_named(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    case.edit(case.fold_file(runs.OOF, fold=2), lambda table: with_probs(table, np.roll(table.probs, 1, axis=1)))
    line = case.line("permutation: folds")
    assert line.status == "failed"
    assert line.evidence.startswith("run0 fold 2: ")


def test_test_rows_of_one_fold_are_compared_with_the_other_models(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    case.edit(case.fold_file(runs.TEST, fold=1), lambda table: with_probs(table, table.probs[:, ::-1]))
    line = case.line("permutation: test rows")
    assert line.status == "failed"
    assert "run0 fold 1: column" in line.evidence


def test_rows_of_strangers_agree_no_more_than_chance(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS, accuracy=0.95)
    case.edit(case.fold_file(runs.TEST, fold=1), lambda table: with_probs(table, np.roll(table.probs, 1, axis=0)))
    line = case.line("permutation: test rows")
    assert line.status == "failed"
    assert "run0 fold 1: agreement with the other models" in line.evidence


def test_few_rows_are_inconclusive_with_the_numbers(blended: Callable[..., Blended]) -> None:
    line = blended(n_train=30, n_classes=6, control=20).line("permutation: blend")
    assert line.status == "inconclusive"
    assert "30 rows prove 0 of 6 classes" in line.evidence


def test_a_score_near_chance_is_inconclusive(blended: Callable[..., Blended]) -> None:
    case = blended(**ROWS)
    shuffled = np.random.default_rng(0).permutation(400)
    case.edit(case.path.with_suffix(".oof.parquet"), lambda table: with_probs(table, table.probs[shuffled]))
    line = case.line("permutation: blend")
    assert line.status == "inconclusive"
    assert "not distinguishable from chance" in line.evidence


def test_a_single_model_has_nothing_to_be_compared_with(blended: Callable[..., Blended]) -> None:
    assert blended(n_runs=1, scheme="holdout").line("permutation: test rows").status == "inconclusive"


def test_confusable_classes_are_no_alarm(blended: Callable[..., Blended]) -> None:
    assert not blended(**ROWS, confusable=2, imbalance=1.0).check().failed


def test_a_tiny_fold_that_is_all_right_may_still_be_wrong_elsewhere(blended: Callable[..., Blended]) -> None:
    """Of 8 rows all right out of fold, and one of 12 test rows on which the models differ: no reason to accuse anybody."""
    failed = []
    for seed in range(12):
        case = blended(n_train=30, n_test=20, n_classes=2, control=20, accuracy=0.93, seed=seed)
        failed += case.check().failed
    assert failed == []


def verdict(hits: float, rows: int, *, above_chance: bool = False) -> Mapping:
    return Mapping(rows, hits, hits, above_chance, (), 1.0, (), 0.001, 2)


def test_shares_seen_on_few_rows_are_not_taken_for_the_truth() -> None:
    """Agreement of 11 of 12 test rows, with 8 of 8 and 7 of 8 right out of fold."""
    assert strangers([verdict(11 / 12, 12), verdict(11 / 12, 12)], [(8, 8), (7, 8)], 0.001) == []
    assert strangers([verdict(0.3, 300), verdict(0.95, 300, above_chance=True)], [(380, 400), (385, 400)], 0.001) == [0]
